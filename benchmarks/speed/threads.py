"""Eight request threads on few cores: the cost of threads that BLAS and OpenMP start themselves."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.speed import everyone
from benchmarks.speed.measure import Row, median
from recsys import Recommender
from recsys.parallel.threads import cores, single

TITLE = "Threads"
ABOUT = """
Eight threads call `Recommender.recommend` for ten items each, one call after the other, over the synthetic shops of
*Everyone*. Ours: each thread calls `recsys.parallel.threads.single`, as `examples/ranking_service` does. Beside it: the
same requests without that limit, so each call has as many OpenMP and BLAS threads as there are cores. Each figure is
the median of runs in their own processes, in turn.
"""
CASES = ("10k", "100k")
CALLERS, REQUESTS, ROUNDS = 8, 1_000, 3


def run(case: str, data: Path) -> list[Row]:
    """Measure with and without the limit, in turn."""
    figures: dict[str, list[list[float]]] = {"single": [], "as they come": []}
    with tempfile.TemporaryDirectory() as folder:
        everyone.publish(case, Path(folder))
        for _ in range(ROUNDS):
            for way, runs in figures.items():
                environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
                command = [sys.executable, "-m", "benchmarks.speed.threads", way, folder]
                ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                runs.append([float(number) for number in ran.stdout.split()])
    rate, p99 = ({way: median([one[column] for one in runs]) for way, runs in figures.items()} for column in range(2))
    beside = f"threads as they come ({cores()} cores)"
    return [
        Row(f"requests, {case} items", rate["single"], "requests/s", beside, rate["as they come"], ">= 1"),
        Row(f"p99, {case} items", p99["single"], "ms", beside, p99["as they come"], "<= 1"),
    ]


def measure_requests(way: str, folder: str) -> tuple[float, float]:
    """Return requests a second and the 99th percentile of their milliseconds, with all threads warm."""
    recommender = Recommender.load(folder)
    users = recommender.user_ids.gather(np.random.default_rng(0).permutation(len(recommender.user_ids))).to_list()

    ask = Recommender.recommend if way == "single" else inspect.unwrap(Recommender.recommend)

    def one(user: str) -> float:
        begun = time.perf_counter()
        ask(recommender, user, 10)
        return time.perf_counter() - begun

    with ThreadPoolExecutor(CALLERS, initializer=single if way == "single" else None) as pool:
        list(pool.map(one, users[: 10 * CALLERS]))
        begun = time.perf_counter()
        seconds = list(pool.map(one, users[-REQUESTS:]))
        return REQUESTS / (time.perf_counter() - begun), float(np.percentile(seconds, 99)) * 1000


if __name__ == "__main__":
    print(*measure_requests(*sys.argv[1:]))
