"""Bundles: a model on disk as plain arrays, tables and one manifest. Nothing is ever unpickled.

A bundle root holds one folder per version under `versions/` and a pointer file `CURRENT` that names one of them.
A version is written beside the others under a temporary name, its manifest last of all; then it is renamed, then
the pointer is swapped. A process that dies at any instant leaves the earlier version whole and current. The manifest
holds the checksum of every file, and one of itself. They tell damage, not malice: whoever can write a bundle can write
its checksums too, so what a file holds is never trusted (`recsys.engine.soundness`), and XXH3, at the speed of memory,
does as well as a slow hash. Writers take turns (`locked`); readers wait for nobody.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import mmap
import os
import re
import shutil
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from recsys.errors import ArtifactError
from recsys.threads import cores

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
POINTER = "CURRENT"
VERSIONS = "versions"
CHECKSUM = "xxh3_128"
WRITTEN = ("schema_version", "model_version", "created_at", "files")
LOCK = ".lock"  # held by the one process that makes a new version, as long as it takes
TURN = ".turn"  # held for the moment in which the pointer moves or a version goes

CHUNK = 1 << 18  # bytes that a core's cache keeps while they are looked at more than once
MOST_THREADS = 8

Arrays = Mapping[str, NDArray[Any]]
Extent = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Bundle:
    """One version, loaded and verified: memory-mapped arrays and tables by name, and the manifest.

    `extents` are the least and the greatest value of each array: NaN where it holds one, (0, 0) where it is empty.
    """

    path: Path
    manifest: Mapping[str, Any]
    arrays: Arrays
    tables: Mapping[str, pl.DataFrame]
    extents: Mapping[str, Extent]

    @property
    def version(self) -> str:
        """Name of this version, unique within its root."""
        return str(self.manifest["model_version"])

    @property
    def about(self) -> dict[str, Any]:
        """The manifest without what `publish` says of every version by itself."""
        return {key: value for key, value in self.manifest.items() if key not in WRITTEN}

    def group(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays below `prefix/`, by the rest of their name."""
        return {name[len(prefix) + 1 :]: a for name, a in self.arrays.items() if name.startswith(prefix + "/")}


def publish(root: Path, arrays: Arrays, tables: Mapping[str, pl.DataFrame], about: Mapping[str, Any]) -> Path:
    """Write a new version, then make it current; return its folder.

    `about` is added to the manifest. Raises `ArtifactError` where the disk is full or cannot be written, or another
    process holds the lock; then nothing is left behind and the earlier version stays current.
    """
    with locked(root):
        return _publish(root, arrays, tables, about)


def _publish(root: Path, arrays: Arrays, tables: Mapping[str, pl.DataFrame], about: Mapping[str, Any]) -> Path:
    now = datetime.now(UTC)
    version = f"{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}"
    temporary = root / VERSIONS / f".{version}"
    final = root / VERSIONS / version
    with _told(root):
        try:
            temporary.mkdir(parents=True)
            for name, array in arrays.items():
                path = temporary / f"{name}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, np.ascontiguousarray(array), allow_pickle=False)
            for name, table in tables.items():
                table.write_parquet(temporary / f"{name}.parquet", compression="lz4")  # read in a third of the time
            files = sorted(path for path in temporary.rglob("*") if path.is_file())
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "model_version": version,
                "created_at": now.isoformat(timespec="seconds"),
                **about,
                "files": {path.relative_to(temporary).as_posix(): _describe(path, arrays, temporary) for path in files},
            }
            for path in (*files, *(path for path in temporary.rglob("*") if path.is_dir())):
                sync(path)
            manifest |= {"checksum": _checksum(manifest)}
            _write(temporary / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
            sync(temporary)
            os.replace(temporary, final)
            sync(final.parent)
            point(root, version)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if _named(root) != version:
                shutil.rmtree(final, ignore_errors=True)
            raise
    return final


def point(root: Path, version: str) -> None:
    """Make a version current. Raises `ArtifactError` if it is not there."""
    with _told(root), _turn(root):
        if version not in versions(root):
            raise ArtifactError(f"{root} holds no version {version!r}; it holds: {', '.join(versions(root)) or 'none'}")
        aside = root / f".{POINTER}-{uuid.uuid4().hex[:8]}"
        try:
            _write(aside, version + "\n")
            os.replace(aside, root / POINTER)
        finally:
            aside.unlink(missing_ok=True)
        sync(root)


def versions(root: Path) -> list[str]:
    """Names of the complete versions, oldest first."""
    found = (path.parent for path in (root / VERSIONS).glob(f"[!.]*/{MANIFEST}"))
    return sorted(folder.name for folder in found if not folder.is_symlink())


def describe(root: Path) -> list[dict[str, Any]]:
    """Tell of each version, oldest first: version, created_at, bytes, current, and what is wrong with its manifest.

    Reads no other file; `load` checks them all. Raises `ArtifactError` where there is no version.
    """
    named, told = _named(root), []
    for version in versions(root) or [current(root)]:
        folder = root / VERSIONS / version
        manifest, problem = {}, None
        try:
            manifest = _read_manifest(folder)
        except ArtifactError as error:
            problem = str(error)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        told.append({"version": version, "created_at": manifest.get("created_at"), "bytes": size,
                     "current": version == named, "problem": problem})  # fmt: skip
    return told


def current(root: Path) -> str:
    """Name of the version that the pointer names. Raises `ArtifactError` where there is none."""
    version = _named(root)
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
    version = _named(root)
    files = sorted((root / VERSIONS / version).rglob("*")) if version in versions(root) else []
    told = [(str(path), path.lstat()) for path in files]
    return version, [(name, about.st_ino, about.st_size, about.st_mtime_ns) for name, about in told]


def rollback(root: Path, version: str | None = None) -> str:
    """Check a version, by default the one before the current, and make it current; return its name.

    Nothing is copied or deleted: rolling forward is the same with a newer version. Raises `ArtifactError` where there
    is no such version, or it is damaged; then the pointer stays.
    """
    if version is None:
        now = current(root)
        older = [name for name in versions(root) if name < now]
        if not older:
            raise ArtifactError(f"{root} holds no version older than the current one, {now}; nothing to go back to")
        version = older[-1]
    if version in versions(root):
        load(root / VERSIONS / version)
    point(root, version)
    return version


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
    with locked(root), _told(root):
        deleted = []
        for name in names:
            with _turn(root):
                if name != _named(root):
                    # Renamed first, so that a version is whole or not there.
                    os.replace(root / VERSIONS / name, root / VERSIONS / f".{name}")
                    deleted.append(name)
        sync(root / VERSIONS)
        sweep(root)
    return deleted


def sweep(root: Path) -> list[Path]:
    """Delete what processes that died while they made or deleted a version left behind; return it. Needs the lock."""
    left = [*root.glob(f".{POINTER}-*"), *(root / VERSIONS).glob(".*")]
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
    with _told(root):
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
        with _told(root):
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


def load(path: str | Path) -> Bundle:
    """Load and verify a bundle: its root (then the current version) or the folder of one version.

    Every file is checked against size and checksum of the manifest, on all cores; each array is passed once. Raises
    `ArtifactError` naming the file and what is wrong.
    """
    folder = _resolve(Path(path))
    manifest = _read_manifest(folder)
    told = manifest["files"]
    files = {name: _found(folder, name, told[name]) for name in told}
    stems = {name: name.rpartition(".")[0] for name in sorted(files, key=lambda name: -told[name]["bytes"])}
    # Headers are read by one thread: Python 3.11 parses literals on several at once, and at times fails.
    arrays = {stems[name]: _mapped(files[name], told[name]) for name in files if name.endswith(".npy")}
    with ThreadPoolExecutor(min(MOST_THREADS, cores())) as pool:
        passing, reading = {}, {}
        for name, stem in stems.items():
            if stem in arrays:
                passing[stem] = pool.submit(_passed, files[name], told[name], arrays[stem])
            else:
                reading[stem] = pool.submit(_table, files[name], told[name])
    extents = {stem: passed.result() for stem, passed in passing.items()}
    tables = {stem: read.result() for stem, read in reading.items()}
    return Bundle(folder, manifest, arrays, tables, extents)


def _table(file: Path, told: Mapping[str, Any]) -> pl.DataFrame:
    _must_be(file, _digest(file), told)
    try:
        return pl.read_parquet(file)
    except Exception as error:  # a file can be broken in more ways than its readers have exceptions for
        raise _unreadable(file, error) from error


def _passed(file: Path, told: Mapping[str, Any], array: NDArray[Any]) -> Extent:
    """Pass a mapped array once, for the checksum of its file and for its extent."""
    digest, ends = xxhash.xxh3_128(), []
    with file.open("rb") as opened:
        digest.update(opened.read(told["bytes"] - array.nbytes))
    values, step = array.ravel(order="K"), CHUNK // array.itemsize
    for part in (values[start : start + step] for start in range(0, len(values), step)):
        digest.update(part.data)
        ends.append((part.min(), part.max()))
    _must_be(file, digest.hexdigest(), told)
    return extent(np.array(ends))


def _must_be(file: Path, digest: str, told: Mapping[str, Any]) -> None:
    if digest != told.get(CHECKSUM):
        raise ArtifactError(f"bundle file {file} differs from its checksum; train again or restore it")


def _unreadable(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"bundle file {file} cannot be read: {error}; train again or restore it")


def extent(array: NDArray[Any]) -> Extent:
    """Return the least and the greatest value of an array: NaN where it holds one, (0, 0) where it is empty."""
    return (array.min().item(), array.max().item()) if array.size else (0, 0)


def _mapped(file: Path, told: Mapping[str, Any]) -> NDArray[Any]:
    """Map an array of plain numbers, once what its header says fits the size of the file."""
    try:
        return _map(file)
    except Exception as error:
        _must_be(file, _digest(file), told)
        raise _unreadable(file, error) from error


def _map(file: Path) -> NDArray[Any]:
    with file.open("rb") as opened:
        version = np.lib.format.read_magic(opened)
        if version != (1, 0):
            raise ValueError(f"it is written in format {version}, and a bundle's arrays in (1, 0)")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(opened)
        start = opened.tell()
        if dtype.kind not in "biuf" or not dtype.isnative:
            raise ValueError(f"it holds {dtype.str!r}, and a bundle's arrays plain numbers of this machine")
        size, there = math.prod(shape) * dtype.itemsize, os.fstat(opened.fileno()).st_size - start
        if min(shape, default=0) < 0 or size != there:
            raise ValueError(f"its header says {dtype.name} {shape}, and {there} bytes follow")
        content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    return np.ndarray(shape, dtype, content, start, order="F" if by_column else "C")


def _resolve(path: Path) -> Path:
    return path if (path / MANIFEST).is_file() else path / VERSIONS / current(path)


def _named(root: Path) -> str | None:
    """The version that the pointer names, whether it is there or not; None without a pointer."""
    pointer = root / POINTER
    if pointer.is_symlink() or not pointer.is_file():
        return None
    with pointer.open(encoding="utf-8", errors="replace") as file:
        return file.read(256).strip()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if path.is_symlink():
        raise ArtifactError(f"bundle manifest {path} is a symbolic link: it is not trusted")
    if not path.is_file():
        raise ArtifactError(
            f"bundle {folder} has no {MANIFEST}: it was never finished; train again or point to another"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["schema_version"]
        complete = isinstance(manifest["files"], dict) and isinstance(manifest["model_version"], str)
        sound = manifest.pop("checksum", None) == _checksum(manifest)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"bundle manifest {path} is damaged ({error!r}); train again or point to another version"
        ) from error
    if found != SCHEMA_VERSION:
        raise ArtifactError(
            f"bundle {folder} has schema version {found}, and this recsys reads {SCHEMA_VERSION}; train again, or "
            "use the recsys that wrote it"
        )
    if not sound:
        raise ArtifactError(
            f"bundle manifest {path} differs from its own checksum; train again or point to another version"
        )
    if not complete:
        raise ArtifactError(
            f"bundle manifest {path} is damaged: files or model_version has the wrong type; train again or point to "
            "another version"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", manifest["model_version"]):
        raise ArtifactError(
            f"bundle manifest {path} has the model_version {manifest['model_version']!r}, which no folder may have: it "
            "is not trusted"
        )
    return manifest


def _found(folder: Path, name: str, told: Any) -> Path:
    """Return a file that the manifest tells of, once its name and its size are what they may be."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or pure.suffix not in (".npy", ".parquet"):
        raise ArtifactError(f"bundle {folder} lists {name!r}, which no bundle may hold: it is not trusted")
    file = folder / pure
    if any(part.is_symlink() for part in (file, *list(file.parents)[: len(pure.parts) - 1])):
        raise ArtifactError(f"bundle file {file} is a symbolic link: it is not trusted")
    if not file.is_file():
        raise ArtifactError(f"bundle file {file} is missing; train again or restore it")
    size, wanted = file.stat().st_size, told.get("bytes") if isinstance(told, dict) else None
    if size != wanted:
        raise ArtifactError(
            f"bundle file {file} has {size} bytes, its manifest says {wanted}; train again or restore it"
        )
    return file


def _describe(path: Path, arrays: Arrays, folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = {"bytes": path.stat().st_size, CHECKSUM: _digest(path)}
    name = path.relative_to(folder).with_suffix("").as_posix()
    if path.suffix == ".npy":
        told |= {"shape": list(arrays[name].shape), "dtype": str(arrays[name].dtype)}
    return told


def _checksum(manifest: Mapping[str, Any]) -> str:
    """The checksum of what a manifest says, however it is laid out."""
    return xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode())


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sync(path)


def sync(path: Path) -> None:
    """Force a file or a folder onto the disk, so that a rename never points at bytes that are not there yet."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(
            f"could not write the bundle in {root}: {why_not_written(error, root)}; the earlier version is untouched"
        ) from error


def why_not_written(error: Exception, folder: Path) -> str:
    """Tell why writing below a folder failed, and what to do."""
    with suppress(OSError):
        free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
        # numpy tells of a full disk only how much it could not write, polars only in words.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error) or free < 1 << 20:
            return "the disk is full: free some space and run again"
        return f"{error} ({free:,} bytes are free there): make room, or set another output folder, and run again"
    return str(error)
