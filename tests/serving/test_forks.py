"""Forked children: what a parent loaded answers in them, and nothing hangs; real forks, with a deadline."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shops import Shop

from recsys import Recommender, RecommenderHandle, train
from recsys.artifacts.versions import VERSIONS, set_current
from recsys.config import load_config
from recsys.errors import ForkError
from recsys.jobs.candidates import write_candidates
from recsys.jobs.fit import fit
from recsys.jobs.init import propose
from recsys.parallel.forks import ForkSafeLock, polars_works
from recsys.privacy.forget import forget

DEADLINE = 60  # seconds; what hangs, hangs for good
USER, ITEM = "u383", "i001"


def in_child(work: Callable[[], Any]) -> Any:
    """Do some work in a forked child, and return what it returned there; fail where it hangs or raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer: tuple[bool, Any] = (True, work())
        except BaseException as error:
            answer = (False, error)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    alarm = threading.Timer(DEADLINE, os.kill, (child, signal.SIGKILL))
    alarm.start()
    with os.fdopen(reading, "rb") as pipe:
        written = pipe.read()
    alarm.cancel()
    os.waitpid(child, 0)
    assert written, f"the child gave no answer within {DEADLINE} s"
    fine, result = pickle.loads(written)  # noqa: S301
    if not fine:
        raise result
    return result


CALLS: dict[str, Callable[[Recommender, list[str]], Any]] = {
    "plain": lambda r, ids: r.recommend(USER, 5, explain=True),
    "where": lambda r, ids: r.recommend(
        USER, 5, where='price <= 20 and category contains "a" and (title startswith "A" or brand in ("Aurora", "x"))'
    ),
    "exclude 100": lambda r, ids: r.recommend(USER, 5, exclude=ids[:100]),
    "candidates": lambda r, ids: r.recommend(USER, 5, candidates=ids[:30]),
    "caps": lambda r, ids: r.recommend(USER, 5, caps={"brand": 1, "price": 1}),
    "pins, boosts, diversity": lambda r, ids: r.recommend(USER, 5, pinned=ids[:1], boosts={ids[3]: 9.0}, diversity=0.5),
    "to_polars": lambda r, ids: r.recommend(USER, 5).to_polars().rows(),
    "score": lambda r, ids: r.score(USER, ids[:50]).rows(),
    "explain": lambda r, ids: r.explain(USER, ids[:2]),
    "why_not": lambda r, ids: r.why_not(USER, ids[7], 3),
    "similar_items": lambda r, ids: r.similar_items(ITEM, 3).rows(),
    "history": lambda r, ids: r.history(USER).rows(),
    "recommend_batch": lambda r, ids: r.recommend_batch(k=2, where="price <= 20", caps={"brand": 1}).rows(),
    "some of a batch": lambda r, ids: r.recommend_batch(r.user_ids.to_list()[::7], 2).rows(),
    "load": lambda r, ids: Recommender.load(r._bundle.path).recommend(USER, 5),
    "pickle": lambda r, ids: pickle.loads(pickle.dumps(r)).recommend(USER, 5),  # noqa: S301
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_child_answers_as_its_parent(recommender: Recommender, name: str) -> None:
    ids = recommender.catalog.ids.to_list()
    recommender.recommend_batch(k=1)  # polars and OpenMP have started their threads
    assert polars_works()
    works, answer = in_child(lambda: (polars_works(), CALLS[name](recommender, ids)))
    assert not works, "the child has the threads of polars: this tests nothing"
    assert answer == CALLS[name](recommender, ids)


def test_what_needs_polars_is_refused_in_a_child_and_never_hangs(shop: Shop, recommender: Recommender,
                                                                 tmp_path: Path) -> None:  # fmt: skip
    frame = pl.DataFrame({"item_id": ["new"]})
    for what, work in {
        "where: a polars expression": lambda: recommender.recommend(USER, 5, where=pl.col("price") <= 20),
        "publishing a bundle": lambda: recommender.save(tmp_path / "saved"),
        "adding items": lambda: recommender.add_items(frame),
        "writing candidates": lambda: write_candidates(recommender, tmp_path / "out", 2),
        "reading tables": lambda: train(load_config(shop.config)),
        "fitting": lambda: fit(frame, frame),
        "forgetting people": lambda: forget(shop.folder, [USER]),
    }.items():
        with pytest.raises(ForkError, match=rf"^{what}.* needs the threads of polars, and process \d+ was forked"):
            in_child(work)
    with pytest.raises(ForkError, match=r"^reading tables needs"):
        in_child(lambda: propose(["items.csv"]))
    assert not list(tmp_path.iterdir())


CHILD_LOADS = """
import os, sys, time
import polars as pl
if sys.argv[2] == "used":
    pl.DataFrame({"a": ["y", "x"]}).lazy().sort("a").collect()
child = os.fork()
if not child:
    from recsys import Recommender
    from recsys.parallel.forks import polars_works
    print(polars_works(), len(Recommender.load(sys.argv[1]).recommend("u383", 5, where="price > 1")), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize(("parent", "works"), [("used", False), ("imported", True)])
def test_a_child_loads_where_its_parent_knew_only_polars(shop: Shop, parent: str, works: bool) -> None:
    command = [sys.executable, "-c", CHILD_LOADS, str(shop.folder), parent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == f"{works} 5\n"


def test_a_damaged_table_is_told_in_a_child_too(shop: Shop, recommender: Recommender, tmp_path: Path) -> None:
    from recsys.parallel.forks import read_parquet

    (tmp_path / "users.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(OSError, match=r"^a process that read it ended with 1: .*(parquet|magic|size)"):
        in_child(lambda: read_parquet(tmp_path / "users.parquet"))


def test_the_handle_of_a_child_watches_on(shop: Shop, recommender: Recommender, tmp_path: Path) -> None:
    """Each process swaps by itself; a child that was forked while the parent was loading looks again."""
    root = tmp_path / "root"
    shutil.copytree(shop.folder, root)
    newer = recommender.save(root)
    set_current(root, shop.version.name)

    def until(version: str, handle: RecommenderHandle) -> str:
        stop = time.monotonic() + DEADLINE
        while handle.recommender.version != version and time.monotonic() < stop:
            time.sleep(0.01)
        return handle.recommender.version

    with RecommenderHandle(root, interval=0.01) as handle:
        assert handle.recommender.version == shop.version.name
        flag = tmp_path / "forked"

        def wait_and_answer() -> tuple[str, int]:
            flag.touch()
            version = until(newer.name, handle)
            answered = len(handle.recommender.recommend(USER, 5))
            handle.close()
            return version, answered

        swap = threading.Thread(target=lambda: (_wait_for(flag), set_current(root, newer.name)))
        swap.start()
        assert in_child(wait_and_answer) == (newer.name, 5)
        swap.join()
        assert until(newer.name, handle) == newer.name
        assert len(list((root / VERSIONS).iterdir())) >= 2
        closed = RecommenderHandle(root)
        assert in_child(lambda: (threading.active_count(), closed.ready)) == (2, False)  # the open handle's thread


def _wait_for(path: Path) -> None:
    stop = time.monotonic() + DEADLINE
    while not path.exists() and time.monotonic() < stop:
        time.sleep(0.01)


def test_a_lock_that_another_thread_held_is_free_in_the_child() -> None:
    lock, entered, leave = ForkSafeLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            entered.set()
            leave.wait(DEADLINE)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(DEADLINE)

    def take() -> bool:
        with lock, ForkSafeLock():
            return True

    assert in_child(take)
    leave.set()
    holder.join()


TEAM = """
import json, os, sys, threading
from recsys import Recommender
shop = Recommender.load(sys.argv[1])
import faiss, numpy as np
faiss.omp_set_num_threads(2)
points = np.random.default_rng(0).random((4000, 16), dtype=np.float32)
index = faiss.IndexFlatIP(16)
index.add(points)
index.search(points, 5)  # the main thread has a team now
child = os.fork()
if not child:
    index.search(points, 5)
    print(len(shop.recommend("u383", 5)), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_team_of_openmp_in_the_parent_does_not_stop_the_child(shop: Shop) -> None:
    done = subprocess.run([sys.executable, "-c", TEAM, str(shop.folder)], capture_output=True, text=True,
                          timeout=DEADLINE, check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})  # fmt: skip
    assert json.loads(done.stdout) == 5
