"""SIGKILL at 50 points of training and update: what was published answers as before, and the next run finishes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from shops import write_tiny_config

from recsys import train
from recsys.config import load_config

HELPERS = Path(__file__).parents[1] / "helpers"

# Every module is imported once, in a process without threads that forks one child for each run.
DRIVER = """
import importlib, json, os, signal, sys, time
import scipy.optimize
from recsys.config import load_config
from recsys.artifacts.versions import current_version, prune, list_versions
from recsys.jobs.train import train
from recsys.serving.recommender import Recommender
from publications import left

config = load_config(sys.argv[1])
module, _, name = sys.argv[2].rpartition(".")
job, points = getattr(importlib.import_module(module), name), int(sys.argv[3])
root = config.folder
CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}

def fork(work):
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.write(theirs, json.dumps(work()).encode())
        except BaseException as error:
            os.write(theirs, json.dumps(repr(error)).encode())
        os._exit(0)
    os.close(theirs)
    return process, ours

def wait(process, ours):
    with os.fdopen(ours, "rb") as pipe:
        printed = pipe.read()
    killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
    return killed, json.loads(printed) if printed else None

def answers():
    recommender = Recommender.load(root)
    users = [*recommender.user_ids, "nobody"]
    return [[(item.item_id, item.score) for item in recommender.recommend(user, 5).items] for user in users]

def measured():
    steps, began = [0], time.monotonic()
    sys.addaudithook(lambda event, args: steps.__setitem__(0, steps[0] + (event in CHANGES)))
    job(config)
    return steps[0], time.monotonic() - began

def dying(at):
    steps = [0]
    def hook(event, args):
        steps[0] += event in CHANGES
        if steps[0] == at:
            steps[0] += 1  # to kill is an event too
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    job(config)

def finish():
    after = current_version(root), answers()
    job(config)
    prune(root, 1)
    return *after, answers(), left_over(), len(list_versions(root))

def left_over():
    # Refused rows and counts lie beside a bundle.
    return [name for name in left(root) if name not in ("ingest.json", "quarantine")]

wanted = wait(*fork(answers))[1]
steps, seconds = wait(*fork(measured))[1]
for point in range(points):
    share, killed = (point // 2 + 1) / (points // 2), False
    while not killed:
        before = current_version(root)
        if point % 2:
            process, pipe = fork(lambda: job(config) and None)
            time.sleep(share * seconds)
            os.kill(process, signal.SIGKILL)
            killed, ended = wait(process, pipe)
            share *= 0.9  # for the next attempt, where this run was faster than the measured one
        else:
            killed, ended = wait(*fork(lambda: dying(round(share * steps))))
    after, same, finished, leftovers, kept = wait(*fork(finish))[1]
    print(json.dumps([ended, before, after, same == finished == wanted, leftovers, kept]), flush=True)
"""


@pytest.mark.parametrize(("job", "points"), [("recsys.jobs.train.train", 32), ("recsys.jobs.update.update", 18)])
def test_killed_at_50_points(tmp_path: Path, tiny_model: Path, job: str, points: int) -> None:
    """Half of them evenly over what the job does to files, which is mostly publishing; half evenly over its time."""
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(30)], "title": [f"soap {n}" for n in range(30)]})
    rows = [(f"u{user}", f"i{(user * user + t * 3) % 30}", t) for user in range(40) for t in range(6)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    path = write_tiny_config(tmp_path, tiny_model, items, events)
    first = train(load_config(path))  # the vectors are in their store from here on, so no run needs torch
    command = [sys.executable, "-c", DRIVER, str(path), job, str(points)]
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    ran = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False, cwd=HELPERS,
                         env=os.environ | single)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    kills = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(kills) == points
    for said, _, _, same, leftovers, kept in kills:
        assert said is None
        assert same
        assert (leftovers, kept) == ([], 1)
    assert kills[0][1] >= first.name
    # Most died before the pointer was swapped; the last that counts what it does to files, just after.
    assert 0 < sum(after != before for _, before, after, *_ in kills) < points // 2
