"""The versions under a bundle root: which there are, which one is current, and who may change that.

A bundle root holds one folder per version under `versions/` and a pointer file `CURRENT` that names one of them. A
version is complete once its folder has its manifest and its final name; the pointer is swapped after that. Writers take
turns (`write_lock`); readers never wait. What a version holds is defined in `recsys.artifacts.bundle`.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from recsys.errors import ArtifactError
from recsys.storage import atomic

if TYPE_CHECKING:
    from filelock import BaseFileLock

MANIFEST = "manifest.json"
POINTER = "CURRENT"
VERSIONS = "versions"
LOCK = ".lock"  # held by the one process that makes a new version, for as long as it takes
HOLDER = ".lock-holder"  # says who holds it: on Windows nobody else can read a locked file
TURN = ".turn"  # held for the moment in which the pointer moves or a version goes
TURN_POLL_S = 0.002


def list_versions(root: Path) -> list[str]:
    """Return the names of the complete versions under `root`, oldest first."""
    folders = (path.parent for path in (root / VERSIONS).glob(f"[!.]*/{MANIFEST}"))
    return sorted(folder.name for folder in folders if not folder.is_symlink())


def current_version(root: Path) -> str:
    """Return the name of the current version.

    Raises:
        ArtifactError: There is no pointer, or it names a version that is not there.
    """
    version = read_pointer(root)
    if version is None:
        raise ArtifactError(f"{root} holds no bundle ({POINTER} is missing); make one with `recsys train CONFIG`")
    if version not in list_versions(root):
        raise ArtifactError(
            f"{root / POINTER} names {version!r}, which is no version here; it should name one of: "
            f"{', '.join(list_versions(root)) or 'none, so train again'}"
        )
    return version


def read_pointer(root: Path) -> str | None:
    """Return the version that the pointer names, whether it is there or not; None without a pointer."""
    pointer = root / POINTER
    if pointer.is_symlink() or not pointer.is_file():
        return None
    with pointer.open(encoding="utf-8", errors="replace") as file:
        return file.read(256).strip()


def fingerprint(root: Path) -> object:
    """Return a value that changes when the pointer, or a file of the version that it names, changes.

    Reads no content, so it is cheap enough to be called every second.
    """
    version = read_pointer(root)
    files = sorted((root / VERSIONS / version).rglob("*")) if version in list_versions(root) else []
    status = [(str(path), path.lstat()) for path in files]
    return version, [(name, file.st_ino, file.st_size, file.st_mtime_ns) for name, file in status]


def set_current(root: Path, version: str) -> None:
    """Make a version current.

    Raises:
        ArtifactError: It is not there, or the pointer cannot be written.
    """
    with write_errors(root), _pointer_lock(root):
        if version not in list_versions(root):
            held = ", ".join(list_versions(root)) or "none"
            raise ArtifactError(f"{root} holds no version {version!r}; it holds: {held}")
        atomic.write(root / POINTER, version + "\n")


def prune(root: Path, keep: int) -> list[str]:
    """Delete all but the newest versions and the current one, and what dead processes left behind.

    A process that has loaded a deleted version keeps it, since mapped pages outlive their file. Windows does not delete
    mapped files: there, close what has the version loaded first.

    Args:
        root: The bundle root.
        keep: How many of the newest versions to keep, at least 1.

    Returns:
        The names of the deleted versions, oldest first.

    Raises:
        ArtifactError: `keep` is below 1, no version is current, another process is making one, or the disk cannot be
            written.
    """
    if keep < 1:
        raise ArtifactError(f"prune keeps the newest versions, at least 1, and was asked to keep {keep}")
    current_version(root)
    with write_lock(root):
        return delete_versions(root, list_versions(root)[:-keep])


def delete_versions(root: Path, names: Iterable[str]) -> list[str]:
    """Delete versions by name, except the current one.

    Returns:
        The names of the deleted versions.

    Raises:
        ArtifactError: As `prune`.
    """
    with write_lock(root), write_errors(root):
        deleted = []
        for name in names:
            with _pointer_lock(root):
                if name != read_pointer(root):
                    # Renamed first, so that a version is either complete or not there.
                    os.replace(root / VERSIONS / name, root / VERSIONS / f".{name}")
                    deleted.append(name)
        atomic.sync(root / VERSIONS)
        delete_leftovers(root)
    return deleted


def delete_leftovers(root: Path) -> list[Path]:
    """Delete what processes that died while they made or deleted a version left behind. The caller holds the lock.

    Returns:
        The deleted files and folders.
    """
    leftovers = [path for path, pid in atomic.asides(root.iterdir()) if not atomic.alive(pid)]
    leftovers += (root / VERSIONS).glob(".*")
    for path in leftovers:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    return leftovers


class _Held(threading.local):
    """The roots that this thread has locked, each with the process that did: a forked child holds nothing."""

    def __init__(self) -> None:
        self.pid_of: dict[Path, int] = {}


_held = _Held()


@contextmanager
def write_lock(root: Path) -> Iterator[None]:
    """Hold the one lock for making versions under `root`, for example during a whole training.

    A thread that holds the lock may take it again. The kernel releases the lock of a process that dies. Nobody waits:
    a lock that is held is an error.

    Raises:
        ArtifactError: Another process or thread holds the lock (the message names it), or `root` cannot be written.
    """
    from filelock import Timeout

    key = root.resolve()
    if _held.pid_of.get(key) == os.getpid():
        yield
        return
    with write_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = _file_lock(root / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise ArtifactError(
                f"{root} is being written by {_read_holder(root)}: wait until it is done, or stop it, and run again; a "
                "process that died holds no lock"
            ) from None
    try:
        with write_errors(root):
            since = datetime.now(UTC).isoformat(timespec="seconds")
            holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
            (root / HOLDER).write_text(holder, encoding="utf-8")
        _held.pid_of[key] = os.getpid()
        yield
    finally:
        # A forked child that leaves this block must not release the lock of its parent.
        if _held.pid_of.pop(key, os.getpid()) == os.getpid():
            with suppress(OSError):
                (root / HOLDER).unlink(missing_ok=True)
            lock.release()


def _read_holder(root: Path) -> str:
    try:
        return (root / HOLDER).read_text(encoding="utf-8", errors="replace")[:256] or "another process"
    except OSError:  # it has just taken the lock, or just given it back
        return "another process"


def _file_lock(path: Path) -> BaseFileLock:
    """Return a lock of the operating system. Imported late: filelock imports asyncio, which readers do not need."""
    from filelock import FileLock

    return FileLock(path)


@contextmanager
def _pointer_lock(root: Path) -> Iterator[None]:
    """Wait for the turn to move the pointer or take a version away."""
    with _file_lock(root / TURN).acquire(poll_interval=TURN_POLL_S):
        yield


@contextmanager
def write_errors(root: Path) -> Iterator[None]:
    """Turn what a disk refuses into an `ArtifactError`, while something under `root` is written."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        why = atomic.why_not_written(error, root)
        raise ArtifactError(f"could not write the bundle in {root}: {why}; the earlier version is untouched") from error
