"""One place for threads: workers compute alone, everybody else as before, and no more workers than cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from recsys import Recommender
from recsys.parallel import threads
from recsys.parallel.threads import cores, in_threads
from recsys.types import Id

SCRIPT = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import faiss, scipy.sparse.linalg
from threadpoolctl import threadpool_info
from recsys.parallel.threads import in_threads, one_thread, single

def teams(part=0):
    1 // (part + 1)
    return sorted({library["num_threads"] for library in threadpool_info()})

def openmp():
    return sorted({library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp"})

def failing():
    try:
        list(in_threads(teams, [0, -1, 0]))
    except ZeroDivisionError:
        return "failed"

seen = {"before": teams(), "in workers": list(in_threads(teams, range(9))), "after": teams()}
first, second = in_threads(teams, range(9)), in_threads(teams, range(9))
seen["begun"] = [next(first), next(second)]
seen["first"], seen["second"], seen["after both"] = list(first), list(second), teams()
given_up = in_threads(teams, range(9))
next(given_up)
given_up.close()
seen["after giving up"] = teams()
seen["error"], seen["after an error"] = failing(), teams()
with ThreadPoolExecutor(2) as callers:  # who comes first is not who leaves last
    seen["callers"] = list(callers.map(lambda n: list(in_threads(teams, range(n))), [2, 60]))
seen["after callers"] = teams()
try:
    with one_thread():
        seen["one thread"] = openmp()
        with ThreadPoolExecutor(1) as other:
            seen["beside it"] = other.submit(openmp).result()
        {}["missing"]
except KeyError:
    seen["after one thread"] = teams()
with ThreadPoolExecutor(2, initializer=single) as pool:
    seen["service"] = list(pool.map(teams, range(8)))
print(json.dumps(seen))
"""


def test_workers_compute_alone_and_others_as_before():
    """In a process of its own, where three threads are what OpenMP and BLAS begin with."""
    three = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "3")
    ran = subprocess.run([sys.executable, "-c", SCRIPT], env=os.environ | three, check=True, capture_output=True)
    seen = json.loads(ran.stdout)
    assert seen["in workers"] == [[1]] * 9
    assert seen["begun"] == [[1]] * 2
    assert seen["first"] == seen["second"] == [[1]] * 8, "who ends first must not give the others their teams back"
    assert seen["error"] == "failed"
    assert seen["callers"] == [[[1]] * 2, [[1]] * 60]
    assert seen["one thread"] == [1]
    assert seen["beside it"] == [3], "another thread keeps its team"
    assert seen["service"] == [[1]] * 8
    assert 3 in seen["before"]  # OpenBLAS never has more than there are cores
    after = {name: teams for name, teams in seen.items() if name.startswith("after")}
    assert len(after) == 6
    assert all(teams == seen["before"] for teams in after.values()), after


def test_a_request_starts_no_team(recommender: Recommender) -> None:
    """Told by the request's own candidates, which it reads while it works."""

    def teams() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp"}

    def read(within: list[set[int]]) -> Iterator[Id]:
        within.append(teams())
        yield recommender.catalog.ids[0]

    before, user = teams(), recommender.user_ids[0]
    within: list[set[int]] = []
    recommender.recommend(user, 5, candidates=read(within))
    recommender.recommend(user, 5, exclude=read(within))
    assert within == [{1}, {1}]
    assert teams() == before


def test_results_keep_their_order_and_few_parts_are_taken_up(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    taken, workers = [], set()

    def work(part: int) -> int:
        workers.add(threading.get_ident())
        return part * part

    given = in_threads(work, (taken.append(part) or part for part in range(50)))
    assert next(given) == 0
    assert len(taken) == 4
    assert [0, *given] == [part * part for part in range(50)]
    assert len(workers) <= 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "1600000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_cores_are_those_that_the_process_may_use(tmp_path: Path, monkeypatch, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(threads, "CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cores() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert cores() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert cores() == expected
