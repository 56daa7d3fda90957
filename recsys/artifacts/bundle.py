"""Bundles: a model on disk as plain arrays, tables and one manifest. Nothing is ever unpickled.

A version is written beside the others under a temporary name, its manifest last. Then it is renamed, and then the
pointer is swapped (`recsys.artifacts.versions`). A process that dies at any instant leaves the earlier version complete
and current. The manifest holds the checksum of every file, and one of itself. Checksums detect damage, not malice: who
can write a bundle can write its checksums too. So the content of a file is never trusted
(`recsys.artifacts.validation`), and XXH3, which runs at the speed of memory, does as well as a slow hash.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from recsys.artifacts import versions
from recsys.artifacts.versions import MANIFEST, VERSIONS
from recsys.errors import ArtifactError
from recsys.parallel.forks import read_parquet, require_polars
from recsys.parallel.threads import cores
from recsys.storage import atomic

SCHEMA_VERSION = 2
CHECKSUM = "xxh3_128"
CHECKSUMS = {1: "sha256", SCHEMA_VERSION: CHECKSUM}  # of every schema version that can be read
OWN_KEYS = ("schema_version", "model_version", "created_at", "files")
CHUNK = 1 << 18  # bytes that stay in a core's cache while they are read more than once
MAX_THREADS = 8

Arrays = Mapping[str, NDArray[Any]]
Extent = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Bundle:
    """One version, loaded and verified.

    Attributes:
        path: The folder of the version.
        manifest: What it says of itself.
        arrays: Memory-mapped arrays by name.
        tables: Tables by name.
        extents: The least and the greatest value of each array: NaN where it holds one, (0, 0) where it is empty.
        on_disk: Whether the folder holds all of it; False once items were added in memory.
    """

    path: Path
    manifest: Mapping[str, Any]
    arrays: Arrays
    tables: Mapping[str, pl.DataFrame]
    extents: Mapping[str, Extent]
    on_disk: bool = True

    @property
    def version(self) -> str:
        """The name of this version, unique within its root."""
        return str(self.manifest["model_version"])

    @property
    def about(self) -> dict[str, Any]:
        """The manifest without the entries that `publish` makes itself."""
        return {key: value for key, value in self.manifest.items() if key not in OWN_KEYS}

    def group(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays whose names begin with `prefix/`, by the rest of their names."""
        return {name[len(prefix) + 1 :]: a for name, a in self.arrays.items() if name.startswith(prefix + "/")}


def publish(root: Path, arrays: Arrays, tables: Mapping[str, pl.DataFrame], about: Mapping[str, Any]) -> Path:
    """Write a new version, then make it current.

    Args:
        root: The bundle root; created where it is missing.
        arrays: Arrays of plain numbers by name; `/` in a name makes a folder.
        tables: Tables by name.
        about: Further entries of the manifest.

    Returns:
        The folder of the version.

    Raises:
        ArtifactError: The disk is full or cannot be written, or another process holds the lock. Then nothing is left
            behind and the earlier version stays current.
    """
    require_polars("publishing a bundle")
    with versions.write_lock(root):
        return _publish(root, arrays, tables, about)


def _publish(root: Path, arrays: Arrays, tables: Mapping[str, pl.DataFrame], about: Mapping[str, Any]) -> Path:
    now = datetime.now(UTC)
    version = f"{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}"
    temporary = root / VERSIONS / f".{version}"
    final = root / VERSIONS / version
    with versions.write_errors(root):
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
                atomic.sync(path)
            manifest |= {"checksum": _checksum(manifest)}
            atomic.write(temporary / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
            os.replace(temporary, final)
            atomic.sync(final.parent)
            versions.set_current(root, version)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if versions.read_pointer(root) != version:
                shutil.rmtree(final, ignore_errors=True)
            raise
    return final


def describe(root: Path) -> list[dict[str, Any]]:
    """List the versions under a root, oldest first. Reads manifests only; `load` checks every file.

    Returns:
        For each version: `version`, `created_at`, `bytes`, `current`, and `problem` (what is wrong with its manifest,
        else None).

    Raises:
        ArtifactError: There is no version.
    """
    pointed, described = versions.read_pointer(root), []
    for version in versions.list_versions(root) or [versions.current_version(root)]:
        folder = root / VERSIONS / version
        manifest, problem = {}, None
        try:
            manifest = _read_manifest(folder)
        except ArtifactError as error:
            problem = str(error)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        described.append({"version": version, "created_at": manifest.get("created_at"), "bytes": size,
                          "current": version == pointed, "problem": problem})  # fmt: skip
    return described


def rollback(root: Path, version: str | None = None) -> str:
    """Check a version and make it current. Nothing is copied or deleted: rolling forward is the same.

    Args:
        root: The bundle root.
        version: The name of the version; by default the one before the current.

    Returns:
        The name of the version.

    Raises:
        ArtifactError: There is no such version, or it is damaged. Then the pointer stays.
    """
    if version is None:
        now = versions.current_version(root)
        older = [name for name in versions.list_versions(root) if name < now]
        if not older:
            raise ArtifactError(f"{root} holds no version older than the current one, {now}; nothing to go back to")
        version = older[-1]
    if version in versions.list_versions(root):
        load(root / VERSIONS / version)
    versions.set_current(root, version)
    return version


def load(path: str | Path) -> Bundle:
    """Load and verify a bundle.

    Every file is checked against the size and checksum in the manifest, on all cores; each array is read once.

    Args:
        path: A bundle root, whose current version is loaded, or the folder of one version.

    Raises:
        ArtifactError: A file is missing, damaged or not to be trusted; the message names it and what is wrong.
    """
    folder = _resolve(Path(path))
    manifest = _read_manifest(folder)
    entries = manifest["files"]
    files = {name: _check_file(folder, name, entries[name]) for name in entries}
    stems = {name: name.rpartition(".")[0] for name in sorted(files, key=lambda name: -entries[name]["bytes"])}
    # One thread reads the headers: on several at once, the literal parser of Python 3.11 fails at times.
    arrays = {stems[name]: _map_array(files[name], entries[name]) for name in files if name.endswith(".npy")}
    with ThreadPoolExecutor(min(MAX_THREADS, cores())) as pool:
        verifying, reading = {}, {}
        for name, stem in stems.items():
            if stem in arrays:
                verifying[stem] = pool.submit(_verify_array, files[name], entries[name], arrays[stem])
            else:
                reading[stem] = pool.submit(_read_table, files[name], entries[name])
    extents = {stem: future.result() for stem, future in verifying.items()}
    tables = {stem: future.result() for stem, future in reading.items()}
    if manifest["schema_version"] == 1:
        _add_item_order(arrays, extents, tables)
    return Bundle(folder, manifest, arrays, tables, extents)


def _add_item_order(arrays: dict[str, NDArray[Any]], extents: dict[str, Extent],
                    tables: Mapping[str, pl.DataFrame]) -> None:  # fmt: skip
    """Add the order in which items are looked up, which schema version 1 did not store."""
    ids = tables["catalog"]["item_id"] if "item_id" in tables.get("catalog", pl.DataFrame()).columns else None
    if ids is not None and (ids.dtype == pl.String or ids.dtype.is_integer()):
        arrays["item_order"] = np.array(sorted(range(len(ids)), key=ids.to_list().__getitem__), dtype=np.int32)
        extents["item_order"] = extent(arrays["item_order"])


def _read_table(file: Path, entry: Mapping[str, Any]) -> pl.DataFrame:
    _check_digest(file, _digest(file, _algorithm(entry)), entry)
    try:
        return read_parquet(file)
    except Exception as error:  # a file can be broken in more ways than its readers have exceptions for
        raise _unreadable(file, error) from error


def _verify_array(file: Path, entry: Mapping[str, Any], array: NDArray[Any]) -> Extent:
    """Read a mapped array once, for the checksum of its file and for its extent."""
    digest, ends = _new_digest(_algorithm(entry)), []
    with file.open("rb") as opened:
        digest.update(opened.read(entry["bytes"] - array.nbytes))
    values, step = array.ravel(order="K"), CHUNK // array.itemsize
    for part in (values[start : start + step] for start in range(0, len(values), step)):
        digest.update(part.data)
        ends.append((part.min(), part.max()))
    _check_digest(file, digest.hexdigest(), entry)
    return extent(np.array(ends))


def _check_digest(file: Path, digest: str, entry: Mapping[str, Any]) -> None:
    if digest != entry.get(_algorithm(entry)):
        raise ArtifactError(f"bundle file {file} differs from its checksum; train again or restore it")


def _unreadable(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"bundle file {file} cannot be read: {error}; train again or restore it")


def extent(array: NDArray[Any]) -> Extent:
    """Return the least and the greatest value of an array: NaN where it holds one, (0, 0) where it is empty."""
    return (array.min().item(), array.max().item()) if array.size else (0, 0)


def _map_array(file: Path, entry: Mapping[str, Any]) -> NDArray[Any]:
    """Map an array of plain numbers whose header fits the size of the file."""
    try:
        return _map(file)
    except Exception as error:
        _check_digest(file, _digest(file, _algorithm(entry)), entry)
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
    return path if (path / MANIFEST).is_file() else path / VERSIONS / versions.current_version(path)


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
        checksum = manifest.pop("checksum", None)
        sound = found in CHECKSUMS and checksum == _checksum(manifest, CHECKSUMS[found])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"bundle manifest {path} is damaged ({error!r}); train again or point to another version"
        ) from error
    if found not in CHECKSUMS:
        raise ArtifactError(
            f"bundle {folder} has schema version {found}, and this recsys reads {' and '.join(map(str, CHECKSUMS))}; "
            "train again, or use the recsys that wrote it"
        )
    if found == 1 and checksum is None:
        raise ArtifactError(
            f"bundle {folder} has schema version 1 as it was at first, without a checksum of the manifest: its "
            "scores would differ from those it gave; train again, or use the recsys that wrote it"
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


def _check_file(folder: Path, name: str, entry: Any) -> Path:
    """Return the path of a file that the manifest lists, once its name and size are checked."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or pure.suffix not in (".npy", ".parquet"):
        raise ArtifactError(f"bundle {folder} lists {name!r}, which no bundle may hold: it is not trusted")
    file = folder / pure
    if any(part.is_symlink() for part in (file, *list(file.parents)[: len(pure.parts) - 1])):
        raise ArtifactError(f"bundle file {file} is a symbolic link: it is not trusted")
    if not file.is_file():
        raise ArtifactError(f"bundle file {file} is missing; train again or restore it")
    size, wanted = file.stat().st_size, entry.get("bytes") if isinstance(entry, dict) else None
    if size != wanted:
        raise ArtifactError(
            f"bundle file {file} has {size} bytes, its manifest says {wanted}; train again or restore it"
        )
    return file


def _describe(path: Path, arrays: Arrays, folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"bytes": path.stat().st_size, CHECKSUM: _digest(path, CHECKSUM)}
    name = path.relative_to(folder).with_suffix("").as_posix()
    if path.suffix == ".npy":
        entry |= {"shape": list(arrays[name].shape), "dtype": str(arrays[name].dtype)}
    return entry


def _new_digest(algorithm: str) -> Any:
    return xxhash.xxh3_128() if algorithm == CHECKSUM else hashlib.sha256()


def _algorithm(entry: Mapping[str, Any]) -> str:
    """Name the checksum that a manifest gives of a file."""
    return CHECKSUM if CHECKSUM in entry else CHECKSUMS[1]


def _checksum(manifest: Mapping[str, Any], algorithm: str = CHECKSUM) -> str:
    """The checksum of what a manifest says, however it is laid out."""
    digest = _new_digest(algorithm)
    digest.update(json.dumps(manifest, sort_keys=True).encode())
    return str(digest.hexdigest())


def _digest(path: Path, algorithm: str) -> str:
    digest = _new_digest(algorithm)
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return str(digest.hexdigest())
