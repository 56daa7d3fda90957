"""The versions under a bundle root: which there are, which one is current, and who may change that.

A bundle root holds one folder per version under `versions/` and a pointer file `CURRENT` that names one of them. A
version is whole once its folder has its manifest and its name; the pointer is swapped after that. Writers take turns
(`locked`); readers wait for nobody. What a version holds is the matter of `recsys.artifacts.bundle`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from recsys.errors import ArtifactError
from recsys.storage import atomic

MANIFEST = "manifest.json"
POINTER = "CURRENT"
VERSIONS = "versions"
LOCK = ".lock"  # held by the one process that makes a new version, as long as it takes
TURN = ".turn"  # held for the moment in which the pointer moves or a version goes


def versions(root: Path) -> list[str]:
    """Names of the complete versions, oldest first."""
    found = (path.parent for path in (root / VERSIONS).glob(f"[!.]*/{MANIFEST}"))
    return sorted(folder.name for folder in found if not folder.is_symlink())


def current(root: Path) -> str:
    """Name of the version that the pointer names. Raises `ArtifactError` where there is none."""
    version = named(root)
    if version is None:
        raise ArtifactError(f"{root} holds no bundle ({POINTER} is missing); make one with `recsys train CONFIG`")
    if version not in versions(root):
        raise ArtifactError(
            f"{root / POINTER} names {version!r}, which is no version here; it should name one of: "
            f"{', '.join(versions(root)) or 'none, so train again'}"
        )
    return version


def stamp(root: Path) -> object:
    """Return what is another value once the pointer, or a file of the version that it names, has changed. Cheap."""
    version = named(root)
    files = sorted((root / VERSIONS / version).rglob("*")) if version in versions(root) else []
    told = [(str(path), path.lstat()) for path in files]
    return version, [(name, about.st_ino, about.st_size, about.st_mtime_ns) for name, about in told]


def point(root: Path, version: str) -> None:
    """Make a version current. Raises `ArtifactError` if it is not there."""
    with written(root), _turn(root):
        if version not in versions(root):
            raise ArtifactError(f"{root} holds no version {version!r}; it holds: {', '.join(versions(root)) or 'none'}")
        atomic.write(root / POINTER, version + "\n")


def prune(root: Path, keep: int) -> list[str]:
    """Delete all but the `keep` newest versions and the current one; return the names of the deleted, oldest first.

    Deletes what dead processes left behind, too. A process that has a deleted version loaded keeps it: mapped pages
    outlive their file. Raises `ArtifactError` where no version is current, another process is making one, or the disk
    cannot be written.
    """
    if keep < 1:
        raise ArtifactError(f"prune keeps the newest versions, at least 1, and was asked to keep {keep}")
    current(root)
    with locked(root):
        return discard(root, versions(root)[:-keep])


def discard(root: Path, names: Iterable[str]) -> list[str]:
    """Delete versions by their names, but never the current one; return the names of the deleted. Raises as `prune`."""
    with locked(root), written(root):
        deleted = []
        for name in names:
            with _turn(root):
                if name != named(root):
                    # Renamed first, so that a version is whole or not there.
                    os.replace(root / VERSIONS / name, root / VERSIONS / f".{name}")
                    deleted.append(name)
        atomic.sync(root / VERSIONS)
        sweep(root)
    return deleted


def sweep(root: Path) -> list[Path]:
    """Delete what processes that died while they made or deleted a version left behind; return it. Needs the lock."""
    left = [path for path, pid in atomic.asides(root.iterdir()) if not atomic.alive(pid)]
    left += (root / VERSIONS).glob(".*")
    for path in left:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    return left


_held = threading.local()


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Be the only one who makes versions under `root`: held over the whole of a training.

    A thread that holds the lock may take it again. The kernel drops it with the process, so one that died holds
    nothing. Raises `ArtifactError` where another process or thread holds it, naming that.
    """
    key = root.resolve()
    mine: set[Path] = _held.__dict__.setdefault("roots", set())
    if key in mine:
        yield
        return
    with written(root):
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 256).decode(errors="replace") or "another process"
            raise ArtifactError(
                f"{root} is being written by {holder}: wait until it is done, or stop it, and run again; a process "
                "that died holds no lock"
            ) from None
        with written(root):
            since = datetime.now(UTC).isoformat(timespec="seconds")
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
        mine.add(key)
        try:
            yield
        finally:
            mine.discard(key)
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone would not do it if a process was forked meanwhile
    finally:
        os.close(handle)


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    """Wait for the turn to move the pointer or take a version away."""
    with (root / TURN).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def named(root: Path) -> str | None:
    """The version that the pointer names, whether it is there or not; None without a pointer."""
    pointer = root / POINTER
    if pointer.is_symlink() or not pointer.is_file():
        return None
    with pointer.open(encoding="utf-8", errors="replace") as file:
        return file.read(256).strip()


@contextmanager
def written(root: Path) -> Iterator[None]:
    """Turn what a disk refuses into an `ArtifactError`, while something under `root` is written."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        why = atomic.why_not_written(error, root)
        raise ArtifactError(f"could not write the bundle in {root}: {why}; the earlier version is untouched") from error
