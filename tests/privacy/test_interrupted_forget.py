"""Forgetting that dies or meets damage is finished by the next run, or says why not."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from forgetting import ALIKE, GONE, LOCKS, Run, answers, naming, store_keys, texts_of

from recsys import Recommender, errors
from recsys.artifacts import versions
from recsys.tables.tombstones import Tombstones

KILLER = """
import os, signal, sys
from pathlib import Path
from recsys import forget
from recsys.embedding import store
left = int(sys.argv[2])

def hook(event, args):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

import polars, numpy
sys.addaudithook(hook)
forget(sys.argv[1], ["u383"])
print(int(sys.argv[2]) - left)
"""


def _forget_until(run: Run, changes: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLER, str(run.root), str(changes)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)


def test_killed_at_any_instant_it_is_finished_by_the_next_run(made: Run, tmp_path: Path) -> None:
    whole = _forget_until(made.moved(tmp_path / "whole"), 10**6)
    assert whole.returncode == 0, whole.stderr
    changes = int(whole.stdout)
    assert changes > 40
    before = answers(Recommender.load(made.root), ["u001", "u384", "u599"])
    # The lock comes first, then the tombstone; the last changes delete the versions.
    for instant in (0, 2, 3, changes // 2, changes - 1):
        run = made.moved(tmp_path / str(instant))
        killed = _forget_until(run, instant)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert answers(Recommender.load(run.root), ["u001", "u384", "u599"]) == before, (
            "somebody can always be answered"
        )
        if instant > 2:
            assert Tombstones.read(run.root).hold(pl.Series([GONE, ALIKE])).to_list() == [True, False]
        told = run.forget(GONE)
        assert told.hits == 0
        assert naming(run.root.parent, GONE) == []
        assert not [path for path in run.root.parent.rglob(".*") if path.name not in LOCKS], "nothing half written"
        assert Recommender.load(run.root).user_ids.len() == 599
        keys = texts_of(Recommender.load(made.root), GONE, made.config.embedding.user_items)
        assert not keys & store_keys(run.vectors)
        [success] = run.root.glob("candidates/*/_SUCCESS")
        assert json.loads(success.read_text())["rows"] == 5 * 599


def test_what_dead_processes_left_goes_and_a_living_one_is_waited_for(run: Run) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    [folder] = run.root.glob("candidates/*")
    shard = folder / f".part-00009.parquet.1.{child.pid}"
    shard.write_bytes(b"half of u383")
    drafts = [run.root / name for name in (f"quarantine/.items.parquet.1.{child.pid}", f".CURRENT.1.{child.pid}")]
    half = run.root / "versions" / ".20250101T000000000000-01234567"
    shutil.copytree(run.root / "versions" / versions.list_versions(run.root)[0], half)
    with pytest.raises(errors.ArtifactError, match=rf"process {child.pid} is writing .*{re.escape(shard.name)}: wait"):
        run.forget(GONE)
    assert not (run.root / "forgotten.json").exists()
    child.communicate(b"\n")
    for path in drafts:
        path.write_bytes(b"u383")
    told = run.forget(GONE)
    assert set(map(Path, told.leftovers)) == {shard.resolve(), half, *(path.resolve() for path in drafts)}
    assert not any(path.exists() for path in (shard, half, *drafts))


def test_damaged_shards_of_vectors_go(run: Run) -> None:
    [shard, *_] = sorted(run.vectors.glob("*/*.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    aside = shard.with_name("0" * 64 + ".damaged")
    aside.write_bytes(content)
    run.forget(GONE)
    assert not shard.exists()
    assert not aside.exists()
