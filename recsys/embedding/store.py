"""Vectors on disk, keyed by text: what was encoded once is not encoded again.

Under the store's folder each encoder fingerprint has its own folder, so vectors of two encoders never mix. It holds
*shards*: `.npy` files of rows `(sha256 of the text, vector)`, sorted by key. A shard's name is the sha256 of its bytes.
A shard is written whole or not at all and never changes, so several processes may write to one store, and a process
killed at any instant loses only what it had not yet published.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, LongArray
from recsys.embedding.base import Encoder
from recsys.errors import ArtifactError
from recsys.formatting import left
from recsys.storage.content_addressed import is_intact, publish

log = logging.getLogger(__name__)

# Compared as bytes: every key has 32, so it does not matter that numpy ignores trailing zeros.
_KEY = np.dtype("S32")
Keys = NDArray[np.bytes_]
Shard = NDArray[Any]  # structured: key (n,) S32, vector (n, d) float32

_PUBLISH_ROWS = 65_536  # a chunk is published when it has this many vectors, or is `checkpoint_s` old
_MANY = 32  # more small shards than this are merged
_LARGE = 131_072  # rows from which a shard is no longer merged
_LOG_EVERY_S = 10.0  # seconds between lines of progress in a log


@dataclass(frozen=True)
class Lookup:
    """How many distinct texts one call found in the store, and how many it had to encode."""

    found: int
    encoded: int


class VectorStore:
    """A folder of encoded texts. Several threads and processes may use one.

    `last` is the outcome of the call that finished last.

    Args:
        folder: Where the vectors are; created when first written.
        checkpoint_s: Publish vectors after this many seconds of encoding. A kill loses at most these.
    """

    def __init__(self, folder: Path | str, checkpoint_s: float = 10.0) -> None:
        self.folder = Path(folder)
        self.checkpoint_s = checkpoint_s
        self.last = Lookup(0, 0)
        self._shards: dict[Path, Shard] = {}
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], encoder: Encoder) -> FloatArray:
        """Return the vectors of texts, encoding only those that the store lacks.

        Each distinct missing text is encoded once. Where none is missing, only the encoder's fingerprint and dimension
        are read, so no model is loaded.

        Args:
            texts: `n` texts.
            encoder: What encodes the missing ones.

        Returns:
            `(n, d)` float32, row `i` for text `i`.

        Raises:
            ArtifactError: The folder cannot be read or written (disk full, no permission).
            ConfigError: The encoder cannot encode; see `Encoder.encode_batches`.
        """
        folder = self.folder / encoder.fingerprint
        keys, first, place = np.unique(keys_of(texts), return_index=True, return_inverse=True)
        vectors = np.empty((len(keys), encoder.dimension), dtype=np.float32)
        missing = self._find(folder, keys, vectors)
        if len(missing):
            log.info("%s: %d texts found, %d to encode", self.folder, len(keys) - len(missing), len(missing))
            self._encode(folder, keys, vectors, missing, [texts[row] for row in first[missing]], encoder)
            self._merge(folder, encoder.dimension)
        self.last = Lookup(len(keys) - len(missing), len(missing))
        return vectors[place]

    def forget(self, keys: Keys) -> int:
        """Remove the vectors under some keys, whichever encoder made them.

        A shard that holds one of them is replaced by a shard without it. Damaged shards are removed too, since their
        keys cannot be trusted.

        Args:
            keys: As `keys_of` returns them.

        Returns:
            How many vectors were removed.

        Raises:
            ArtifactError: The folder cannot be written.
        """
        removed = 0
        try:
            for path in sorted(self.folder.glob("*/*.npy")):
                if not is_intact(path):
                    path.unlink(missing_ok=True)
                    continue
                shard: Shard = np.load(path, mmap_mode="r", allow_pickle=False)
                gone = np.isin(shard["key"], keys)
                if gone.any():
                    if not gone.all():
                        _write(path.parent, shard[~gone])
                    path.unlink(missing_ok=True)
                    self._shards.pop(path, None)
                    removed += int(gone.sum())
            for path in self.folder.glob("*/*.damaged"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise ArtifactError(f"vector store {self.folder}: vectors could not be removed: {error}") from error
        return removed

    def _find(self, folder: Path, keys: Keys, vectors: FloatArray) -> LongArray:
        """Fill in the vectors that the store has; return the rows that it lacks."""
        missing = np.arange(len(keys))
        for shard in self._open(folder, vectors.shape[1]).values():
            if not len(missing):
                break
            held = shard["key"]
            place = np.searchsorted(held, keys[missing])
            hit = held[np.minimum(place, len(held) - 1)] == keys[missing]
            vectors[missing[hit]] = shard["vector"][place[hit]]
            missing = missing[~hit]
        return missing

    def _encode(self, folder: Path, keys: Keys, vectors: FloatArray, missing: LongArray, texts: list[str],
                encoder: Encoder) -> None:  # fmt: skip
        """Encode the missing rows and publish them chunk by chunk, also after an error."""
        waiting: list[LongArray] = []

        def publish() -> None:
            rows = np.sort(np.concatenate(waiting))
            waiting.clear()
            _write(folder, _shard(keys[rows], vectors[rows]))

        published = time.monotonic()
        try:
            with _progress(len(texts)) as advance:
                for rows, batch in encoder.encode_batches(texts):
                    vectors[missing[rows]] = batch
                    waiting.append(missing[rows])
                    advance(len(rows))
                    if time.monotonic() - published >= self.checkpoint_s or sum(map(len, waiting)) >= _PUBLISH_ROWS:
                        publish()
                        published = time.monotonic()
        finally:
            if waiting:
                publish()

    def _open(self, folder: Path, dimension: int) -> dict[Path, Shard]:
        """Map every intact shard of a folder into memory; each is checked once."""
        with self._lock:
            while True:
                listed = sorted(folder.glob("*.npy"))
                try:
                    for path in listed:
                        if path not in self._shards:
                            self._shards[path] = _read(path, dimension)
                    return {path: self._shards[path] for path in listed if len(self._shards[path])}
                except FileNotFoundError:
                    continue  # another process has merged it into a shard that the next listing shows
                except OSError as error:
                    raise ArtifactError(f"vector store {folder}: a shard cannot be read: {error}") from error

    def _merge(self, folder: Path, dimension: int) -> None:
        """Merge small shards once there are many of them."""
        small = {path: shard for path, shard in self._open(folder, dimension).items() if len(shard) < _LARGE}
        if len(small) <= _MANY:
            return
        group: dict[Path, Shard] = {}
        for number, (path, shard) in enumerate(small.items(), start=1):
            group[path] = shard
            if number == len(small) or sum(map(len, group.values())) >= _LARGE:
                merged = np.concatenate(list(group.values()))
                _, first = np.unique(merged["key"], return_index=True)
                written = _write(folder, merged[first])
                for old in group.keys() - {written}:
                    old.unlink(missing_ok=True)  # a process that has mapped it can still read it
                    self._shards.pop(old, None)
                group.clear()


def keys_of(texts: Iterable[str]) -> Keys:
    """Return the key of each text in the store, its sha256: `(n,)`."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype=_KEY)


def _dtype(dimension: int) -> np.dtype[Any]:
    return np.dtype([("key", _KEY), ("vector", "<f4", (dimension,))])


def _shard(keys: Keys, vectors: FloatArray) -> Shard:
    shard = np.empty(len(keys), dtype=_dtype(vectors.shape[1]))
    shard["key"], shard["vector"] = keys, vectors
    return shard


def _read(path: Path, dimension: int) -> Shard:
    """Map one shard after checking its bytes against its name. A damaged one is logged, renamed, and read as empty."""
    if is_intact(path):
        shard: Shard = np.load(path, mmap_mode="r", allow_pickle=False)
        if shard.dtype == _dtype(dimension):
            return shard
    log.warning("vector store: shard %s is damaged; it is ignored and its texts are encoded again", path)
    with contextlib.suppress(OSError):
        path.rename(path.with_suffix(".damaged"))
    return np.empty(0, dtype=_dtype(dimension))


def _write(folder: Path, shard: Shard) -> Path:
    """Publish one shard."""
    buffer = io.BytesIO()
    np.save(buffer, shard, allow_pickle=False)
    return publish(folder, buffer.getbuffer(), ".npy", "vector store", f"{len(shard)} vectors")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show progress: a bar on a terminal, else a log line every ten seconds. Yields `advance(n)`."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("encoding texts", total=total)
            yield lambda n: bar.advance(task, n)
        return
    done, began = 0, time.monotonic()
    logged = began

    def advance(n: int) -> None:
        nonlocal done, logged
        done += n
        now = time.monotonic()
        if now - logged >= _LOG_EVERY_S:
            logged = now
            pace = done / (now - began)
            log.info("encoded %d of %d texts, %.0f a second, %s", done, total, pace, left((total - done) / pace))

    yield advance
