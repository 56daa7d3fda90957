"""How many threads compute: the one place that decides it.

numpy's BLAS has one thread count for the whole process; OpenMP (FAISS, and the BLAS inside it) has one for each calling
thread. Where the work itself is spread over threads, both must be 1. Otherwise every worker starts its own team, and
the teams wait for each other.
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

MAX_WORKERS = 8  # each holds a batch in memory
CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many threads may compute at once.

    `OMP_NUM_THREADS` where it is set, else the number of cores that this process may run on, or fewer where a
    container's CPU quota allows fewer.
    """
    configured = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if configured.isdigit() and int(configured):
        return int(configured)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, _quota()))


def _quota() -> int:
    """Return the CPU quota of the cgroup (version 2, then 1) in cores, rounded up; without one, the machine's cores."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((CGROUP / name).read_text(encoding="utf-8") for name in names).split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():  # else `max` or -1
            return -(-int(quota) // int(period))
    return os.cpu_count() or 1


def single() -> None:
    """Make the calling thread compute alone: for each thread of a pool that answers requests.

    Used as `ThreadPoolExecutor(workers, initializer=single)`. OpenMP then starts no team for this thread, and BLAS none
    for the whole process.
    """
    ThreadpoolController().limit(limits=1)


@cache
def _openmp() -> list[LibController]:
    """Return the OpenMP libraries of this process."""
    return ThreadpoolController().select(user_api="openmp").lib_controllers


@contextmanager
def one_thread() -> Iterator[None]:
    """Make the calling thread compute without a team: one user's request is too little work to share.

    Where another BLAS or OpenMP keeps the cores busy, waiting for the rest of the team makes a request of 2 ms take
    30 ms. Costs 2 microseconds, affects no other thread, and restores the earlier thread count.
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
    """Keeps BLAS at one thread while any caller spreads work: the first one sets it, the last one restores it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the threads of a parent: a forked child has none of them."""
        self._lock = Lock()
        self._inside = 0
        self._limit: Any = None

    @contextmanager
    def single(self, controller: ThreadpoolController) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._limit = _on_own_thread(lambda: controller.limit(limits=1, user_api="blas"))
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    _on_own_thread(self._limit.restore_original_limits)


def _on_own_thread(change: Callable[[], R]) -> R:
    """Change a limit on a thread that then ends: while it lives, threadpoolctl lets no other thread change it again."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(change).result()


_BLAS = _Blas()


def _alone_in_child() -> None:
    """Let the thread that forked compute alone: it would wait for a team that OpenMP had given it in the parent."""
    _BLAS.reset()
    for library in ThreadpoolController().select(user_api="openmp").lib_controllers:
        library.set_num_threads(1)


os.register_at_fork(after_in_child=_alone_in_child)


def in_threads(work: Callable[[T], R], parts: Iterable[T]) -> Iterator[R]:
    """Do independent work on several threads: numpy, scipy and FAISS release the interpreter's lock.

    Each thread computes alone. At most two parts per thread are started at once, so memory grows with the size of a
    part, not with their number.

    Args:
        work: What to do with one part.
        parts: The parts; read as they are needed.

    Yields:
        The results, in the order of the parts.
    """
    threads = min(MAX_WORKERS, cores())
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
    """Cut user rows `(U,)` into batches of at most `size`."""
    for start in range(0, len(users), size):
        yield users[start : start + size]
