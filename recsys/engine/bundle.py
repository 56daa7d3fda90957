"""Bundles: a model on disk as plain arrays, tables and one manifest. Nothing is ever unpickled.

A bundle root holds one folder per version under `versions/` and a pointer file `CURRENT` that names one of them.
A version is written beside the others under a temporary name, its manifest last of all; then it is renamed, then
the pointer is swapped. A process that dies at any instant leaves the earlier version whole and current. The manifest
holds the checksum of every file, and one of itself.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import ArtifactError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
POINTER = "CURRENT"
VERSIONS = "versions"

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Bundle:
    """One version, loaded and verified: memory-mapped arrays and tables by name, and the manifest."""

    path: Path
    manifest: Mapping[str, Any]
    arrays: Arrays
    tables: Mapping[str, pl.DataFrame]

    @property
    def version(self) -> str:
        """Name of this version, unique within its root."""
        return str(self.manifest["model_version"])

    def group(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays below `prefix/`, by the rest of their name."""
        return {name[len(prefix) + 1 :]: a for name, a in self.arrays.items() if name.startswith(prefix + "/")}


def publish(root: Path, arrays: Arrays, tables: Mapping[str, pl.DataFrame], about: Mapping[str, Any]) -> Path:
    """Write a new version, then make it current; return its folder.

    `about` is added to the manifest. Raises `ArtifactError` where the disk is full or cannot be written; then
    nothing is left behind and the earlier version stays current.
    """
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
                table.write_parquet(temporary / f"{name}.parquet")
            files = sorted(path for path in temporary.rglob("*") if path.is_file())
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "model_version": version,
                "created_at": now.isoformat(timespec="seconds"),
                **about,
                "files": {path.relative_to(temporary).as_posix(): _describe(path, arrays, temporary) for path in files},
            }
            for path in (*files, *(path for path in temporary.rglob("*") if path.is_dir())):
                _sync(path)
            manifest |= {"checksum": _checksum(manifest)}
            _write(temporary / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
            _sync(temporary)
            os.replace(temporary, final)
            _sync(final.parent)
            point(root, version)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if _named(root) != version:
                shutil.rmtree(final, ignore_errors=True)
            raise
    return final


def point(root: Path, version: str) -> None:
    """Make a version current: rollback is pointing at an older one. Raises `ArtifactError` if it is not there."""
    if version not in versions(root):
        raise ArtifactError(f"{root} holds no version {version!r}; it holds: {', '.join(versions(root)) or 'none'}")
    with _told(root):
        aside = root / f".{POINTER}-{uuid.uuid4().hex[:8]}"
        try:
            _write(aside, version + "\n")
            os.replace(aside, root / POINTER)
        finally:
            aside.unlink(missing_ok=True)
        _sync(root)


def versions(root: Path) -> list[str]:
    """Names of the complete versions, oldest first."""
    return sorted(path.parent.name for path in (root / VERSIONS).glob(f"[!.]*/{MANIFEST}"))


def load(path: str | Path) -> Bundle:
    """Load and verify a bundle: its root (then the current version) or the folder of one version.

    Every file is checked against size and sha256 of the manifest before anything is read from it. Raises
    `ArtifactError` naming the file and what is wrong.
    """
    folder = _resolve(Path(path))
    manifest = _read_manifest(folder)
    arrays: dict[str, NDArray[Any]] = {}
    tables: dict[str, pl.DataFrame] = {}
    for name, told in manifest["files"].items():
        file = _verified(folder, name, told)
        stem = name.rpartition(".")[0]
        try:
            if name.endswith(".npy"):
                arrays[stem] = _mapped(file)
            else:
                tables[stem] = pl.read_parquet(file)
        except Exception as error:  # a file can be broken in more ways than its readers have exceptions for
            raise ArtifactError(f"bundle file {file} cannot be read: {error}; train again or restore it") from error
    return Bundle(folder, manifest, arrays, tables)


def _mapped(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it holds no array")
    return array


def _resolve(path: Path) -> Path:
    if (path / MANIFEST).is_file():
        return path
    version = _named(path)
    if version is None:
        raise ArtifactError(f"{path} holds no bundle ({POINTER} is missing); make one with `recsys train CONFIG`")
    if version not in versions(path):
        raise ArtifactError(
            f"{path / POINTER} names {version!r}, which is no version here; it should name one of: "
            f"{', '.join(versions(path)) or 'none, so train again'}"
        )
    return path / VERSIONS / version


def _named(root: Path) -> str | None:
    """The version that the pointer names, whether it is there or not; None without a pointer."""
    pointer = root / POINTER
    return pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.is_file() else None


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
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
    return manifest


def _verified(folder: Path, name: str, told: Any) -> Path:
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
    if _sha256(file) != told.get("sha256"):
        raise ArtifactError(f"bundle file {file} differs from its checksum; train again or restore it")
    return file


def _describe(path: Path, arrays: Arrays, folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    name = path.relative_to(folder).with_suffix("").as_posix()
    if path.suffix == ".npy":
        told |= {"shape": list(arrays[name].shape), "dtype": str(arrays[name].dtype)}
    return told


def _checksum(manifest: Mapping[str, Any]) -> str:
    """The sha256 of what a manifest says, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
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
