"""How many threads compute: the one place that decides it.

numpy's BLAS has one number of threads for the whole process, OpenMP (FAISS, and the BLAS inside it) one for each thread
that calls it. Where the work itself is spread over threads, both must be 1: else every worker starts a team of its own,
and the teams wait for each other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import LibController, ThreadpoolController

from recsys.arrays import LongArray

T = TypeVar("T")
R = TypeVar("R")

MOST = 8  # workers, each of which holds a batch in memory
CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """How many threads may compute at once: `OMP_NUM_THREADS` where it is set, else the cores of this process.

    These are the cores that it may run on, or fewer where a container's quota gives it the time of fewer.
    """
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if told.isdigit() and int(told):
        return int(told)
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(own, _quota()))


def _quota() -> int:
    """Whole cores that the cgroup's quota (version 2, then 1) gives time for; as many as there are without one."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((CGROUP / name).read_text(encoding="utf-8") for name in names).split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():  # else `max` or -1
            return -(-int(quota) // int(period))
    return os.cpu_count() or 1


def single() -> None:
    """Let the calling thread compute alone: for each thread of a pool that answers requests.

    `ThreadPoolExecutor(workers, initializer=single)`. OpenMP then starts no team for this thread, BLAS none for the
    whole process.
    """
    ThreadpoolController().limit(limits=1)


@cache
def _openmp() -> list[LibController]:
    """The OpenMP libraries of this process."""
    return ThreadpoolController().select(user_api="openmp").lib_controllers


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the calling thread compute without a team: what one user asks is too little to share.

    A team whose other thread waits for a core, since a BLAS or a second OpenMP keeps it busy, makes a request of two
    milliseconds take thirty. Costs 2 microseconds, touches no other thread, and sets back what it found.
    """
    before = [(library, library.get_num_threads()) for library in _openmp()]
    for library, _ in before:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, threads in before:
            library.set_num_threads(threads)


class _Blas:
    """BLAS with one thread as long as anybody works on several: the first who comes sets it, the last sets it back."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._limit: Any = None

    @contextmanager
    def single(self, controller: ThreadpoolController) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._limit = _apart(lambda: controller.limit(limits=1, user_api="blas"))
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    _apart(self._limit.restore_original_limits)


def _apart(change: Callable[[], R]) -> R:
    """Change a limit on a thread that then ends: as long as it lives, threadpoolctl lets no other change it again."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(change).result()


_BLAS = _Blas()


def in_threads(work: Callable[[T], R], parts: Iterable[T]) -> Iterator[R]:
    """Do independent work on several threads and yield the results in order: numpy, scipy and FAISS free the lock.

    Each thread computes alone. At most two parts a thread are taken up at once, so memory grows with the batch and not
    with the users.
    """
    threads = min(MOST, cores())
    waiting: deque[Future[R]] = deque()
    controller = ThreadpoolController()
    alone = ThreadPoolExecutor(threads, initializer=lambda: controller.limit(limits=1, user_api="openmp"))
    with _BLAS.single(controller), alone as pool:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


BATCH = 512


def batches(users: LongArray, size: int = BATCH) -> Iterator[LongArray]:
    """Cut user rows into batches."""
    for start in range(0, len(users), size):
        yield users[start : start + size]
