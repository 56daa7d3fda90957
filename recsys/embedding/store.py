"""Vectors on disk, found again by their text: what was encoded once is not encoded twice.

Under the store's folder each encoder fingerprint has a folder of its own, so vectors of two encoders never
mix. In it lie *shards*: `.npy` files of rows `(sha256 of the text, vector)`, sorted by key. A shard's name is
the sha256 of its bytes. A shard appears whole or not at all (written aside, flushed, renamed) and is never
changed, so several processes may write to one store, and a process killed at any instant loses only what it
had not yet published.
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
from recsys.storage.content_addressed import publish, sound

log = logging.getLogger(__name__)

# Bytes compared as bytes: every key is 32 long, so numpy's habit of ignoring trailing zeros changes nothing.
_KEY = np.dtype("S32")
Keys = NDArray[np.bytes_]
Shard = NDArray[Any]  # structured: key (n,) S32, vector (n, d) float32

_PUBLISH_ROWS = 65_536  # a chunk is published when it holds so many vectors, or is old enough
_MANY = 32  # small shards above this number are merged
_LARGE = 131_072  # rows from which a shard is not merged any more
_TELL_S = 10.0  # seconds between lines of progress in a log


@dataclass(frozen=True)
class Lookup:
    """How many distinct texts one call found in the store, and how many it had to encode."""

    found: int
    encoded: int


class VectorStore:
    """A folder of encoded texts.

    `last` tells the outcome of the call that finished last. One store may be used by several threads.

    Args:
        folder: where the vectors are; made when first written.
        checkpoint_s: seconds of encoding after which vectors are published, which is what a kill may lose.
    """

    def __init__(self, folder: Path | str, checkpoint_s: float = 10.0) -> None:
        self.folder = Path(folder)
        self.checkpoint_s = checkpoint_s
        self.last = Lookup(0, 0)
        self._shards: dict[Path, Shard] = {}
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], encoder: Encoder) -> FloatArray:
        """Return the vectors of the texts, encoding only those that the store lacks.

        Each missing distinct text reaches the encoder once; where none is missing the encoder is asked for
        nothing but its fingerprint and dimension.

        Returns:
            `(n, d)` float32, row `i` for text `i`.

        Raises:
            ArtifactError: the folder cannot be written (disk full, no permission).
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
        """Remove the vectors under these keys, whichever encoder made them; return how many there were.

        A shard that holds one is written again without it, then removed; whoever encodes such a text later encodes it
        anew. Damaged shards, of which nobody can tell what they hold, are removed too.

        Raises `ArtifactError` where the folder cannot be written.
        """
        removed = 0
        try:
            for path in sorted(self.folder.glob("*/*.npy")):
                if not sound(path):
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
        """Fill in the vectors the store has; return the rows it lacks."""
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
        """Encode the missing rows, publishing them chunk by chunk; what is done is kept whatever happens."""
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
        """Map every sound shard of a folder into memory; each is checked once."""
        with self._lock:
            while True:
                listed = sorted(folder.glob("*.npy"))
                try:
                    for path in listed:
                        if path not in self._shards:
                            self._shards[path] = _read(path, dimension)
                    return {path: self._shards[path] for path in listed if len(self._shards[path])}
                except FileNotFoundError:
                    continue  # another process has just merged it into one that the next listing shows
                except OSError as error:
                    raise ArtifactError(f"vector store {folder}: a shard cannot be read: {error}") from error

    def _merge(self, folder: Path, dimension: int) -> None:
        """Keep the number of shards small: join the small ones once there are many, then drop them."""
        small = {path: shard for path, shard in self._open(folder, dimension).items() if len(shard) < _LARGE}
        if len(small) <= _MANY:
            return
        group: dict[Path, Shard] = {}
        for number, (path, shard) in enumerate(small.items(), start=1):
            group[path] = shard
            if number == len(small) or sum(map(len, group.values())) >= _LARGE:
                joined = np.concatenate(list(group.values()))
                _, first = np.unique(joined["key"], return_index=True)
                kept = _write(folder, joined[first])
                for old in group.keys() - {kept}:
                    old.unlink(missing_ok=True)  # whoever has it mapped keeps reading it
                    self._shards.pop(old, None)
                group.clear()


def keys_of(texts: Iterable[str]) -> Keys:
    """Return the sha256 of each text, by which the store knows it: `(n,)`."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype=_KEY)


def _dtype(dimension: int) -> np.dtype[Any]:
    return np.dtype([("key", _KEY), ("vector", "<f4", (dimension,))])


def _shard(keys: Keys, vectors: FloatArray) -> Shard:
    shard = np.empty(len(keys), dtype=_dtype(vectors.shape[1]))
    shard["key"], shard["vector"] = keys, vectors
    return shard


def _read(path: Path, dimension: int) -> Shard:
    """Map one shard, after checking its bytes against its name. A damaged one is told of, set aside, and empty."""
    if sound(path):
        shard: Shard = np.load(path, mmap_mode="r", allow_pickle=False)
        if shard.dtype == _dtype(dimension):
            return shard
    log.warning("vector store: shard %s is damaged; it is ignored and its texts are encoded again", path)
    with contextlib.suppress(OSError):
        path.rename(path.with_suffix(".damaged"))
    return np.empty(0, dtype=_dtype(dimension))


def _write(folder: Path, shard: Shard) -> Path:
    """Publish one shard: whole under its final name, or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, shard, allow_pickle=False)
    return publish(folder, buffer.getbuffer(), ".npy", f"{len(shard)} vectors")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show progress: a bar on a terminal, elsewhere a log line every ten seconds. Yields `advance(n)`."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("encoding texts", total=total)
            yield lambda n: bar.advance(task, n)
        return
    done, began = 0, time.monotonic()
    told = began

    def advance(n: int) -> None:
        nonlocal done, told
        done += n
        now = time.monotonic()
        if now - told >= _TELL_S:
            told = now
            log.info("encoded %d of %d texts, %.0f a second", done, total, done / (now - began))

    yield advance
