"""What survives a fork.

A forked child inherits the memory of its parent, but of its threads only the one that forked. polars computes on a pool
of threads that it starts once a process: in a child whose parent used polars, an operation that needs the pool waits
for ever. So whatever answers requests uses numpy and those operations of polars that need no pool. Whatever cannot do
without asks `require_polars` first, and a child reads tables through a process of its own (`read_parquet`).
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from threading import Lock
from types import TracebackType

import polars as pl

from recsys.errors import ForkError

TASKS = Path("/proc/self/task")
WAIT = 0.2  # seconds in which threads that were just started have their names
READ = "import sys, polars; sys.stdout.buffer.write(polars.read_parquet(sys.argv[1]).serialize())"

_works: dict[int, bool] = {}  # by process


def polars_works() -> bool:
    """Whether the threads of polars run in this process; True where the system does not list threads."""
    process = os.getpid()
    if process not in _works:
        pl.thread_pool_size()  # starts the pool, unless a parent has done so: then there are none
        stop = time.monotonic() + WAIT
        while not (works := _sees_threads()) and time.monotonic() < stop:
            time.sleep(0.01)
        _works[process] = works
    return _works[process]


def _sees_threads() -> bool:
    if not TASKS.is_dir():
        return True
    names = []
    for task in TASKS.iterdir():
        try:
            names.append((task / "comm").read_text())
        except OSError:  # it ended
            continue
    return any(re.fullmatch(r"polars-\d+\n?", name) for name in names)


def require_polars(what: str) -> None:
    """Refuse work that would wait for ever.

    Args:
        what: What needs polars, as the subject of a sentence.

    Raises:
        ForkError: This process was forked from one that had used polars.
    """
    if not polars_works():
        raise ForkError(
            f"{what} needs the threads of polars, and process {os.getpid()} was forked from one that had used polars: "
            "threads do not survive a fork. Do it in a process of its own (`subprocess`, or `multiprocessing` with "
            "the start method 'spawn' or 'forkserver')"
        )


def read_parquet(file: Path) -> pl.DataFrame:
    """Read a Parquet file, also in a forked child: there another process reads it and hands it over.

    Raises:
        OSError: The other process failed; polars' own errors elsewhere.
    """
    if polars_works():
        return pl.read_parquet(file)
    done = subprocess.run([sys.executable, "-c", READ, str(file)], capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise OSError(f"a process that read it ended with {done.returncode}: {reason}")
    return pl.DataFrame.deserialize(io.BytesIO(done.stdout))


class ForkSafeLock:
    """A lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._process, self._lock = os.getpid(), Lock()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), Lock()
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()


def nullable(values: pl.Series) -> pl.Series:
    """Return floats with null for NaN, without the pool that `Series.fill_nan` needs."""
    missing = values.is_nan()
    return values.zip_with(~missing, pl.Series([None], dtype=values.dtype)) if missing.any() else values
