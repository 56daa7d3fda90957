"""Object stores: which files are there, and their bytes. The store's own environment variables hold its keys."""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from recsys.connections import redact
from recsys.errors import DataError
from recsys.extras import require

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_URL = re.compile(rf"(?:{'|'.join(SCHEMES)})://[^/]+")
MOST_SAID = 200  # characters of a library's message


def is_remote(path: str) -> bool:
    """Whether a path is that of an object store, such as `s3://bucket/events/`."""
    return _URL.match(path) is not None


def open_store(url: str) -> Any:
    """Open the bucket, or the folder in it, that a URL names."""
    from obstore.store import from_url

    require("cloud", f"reading {url.partition(':')[0]}:")
    return from_url(url)


def find_files(url: str, endings: Sequence[Sequence[str]]) -> list[str]:
    """List the objects that a URL means: one object, a pattern with `*`, or all below a folder.

    Args:
        url: Such as `s3://bucket/events/*.parquet`.
        endings: How the names of objects in a folder end; those of the first group that finds any are taken.

    Raises:
        ConfigError: the package for object stores is missing.
        DataError: the store cannot be read, or the URL means nothing.
    """
    bucket, key = _split(url)
    require("cloud", f"reading {url.partition(':')[0]}:")
    folder = key if "*" not in key else key[: key.index("*")].rpartition("/")[0]
    with _errors(url):
        found = [each["path"] for page in open_store(bucket).list(folder or None) for each in page]
        if not found and "/" in key:  # a listing goes by folders: the URL may name one object
            found = [each["path"] for page in open_store(bucket).list(key.rpartition("/")[0]) for each in page]
    if "*" in key:
        matched = [path for path in found if fnmatch.fnmatchcase(path, key)]
    elif key in found:
        matched = [key]
    else:
        below = [path for path in found if path.startswith(key.rstrip("/") + "/") or not key]
        shown = [path for path in below if not _hidden(path[len(key) :])]
        groups = ([path for path in shown if path.lower().endswith(tuple(some))] for some in endings)
        matched = next((group for group in groups if group), [])
    if not matched:
        raise DataError(f"{url} does not exist, or holds no file that ends in {' or '.join(endings[0][:1])}")
    return [f"{bucket}/{path}" for path in sorted(matched)]


def open_bytes(url: str) -> BinaryIO:
    """Open an object for reading, piece by piece.

    Raises:
        DataError: the object is missing, or the store cannot be read.
    """
    import obstore

    bucket, key = _split(url)
    with _errors(url):
        return io.BufferedReader(_Object(obstore.open_reader(open_store(bucket), key)))


class _Object(io.RawIOBase):
    """What obstore opens, as Python's own libraries want a file."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = bytes(self._reader.read(len(buffer)))
        buffer[: len(found)] = found
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())


def _split(url: str) -> tuple[str, str]:
    found = _URL.match(url)
    assert found is not None, url
    return found[0], url[found.end() :].lstrip("/")


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) and "=" not in part for part in path.split("/"))


@contextmanager
def _errors(url: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        said = re.sub(r"\s+", " ", redact(str(error).strip().splitlines()[0]))
        raise DataError(f"{url}: cannot be read: {said[:MOST_SAID]}") from None
