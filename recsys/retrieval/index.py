"""FAISS behind one small interface. Exact inner product is the oracle for every other index."""

from __future__ import annotations

from contextlib import nullcontext
from threading import Lock

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import ArtifactError, ConfigError
from recsys.types import FloatArray, IntArray

EXACT = "Flat"
GPU_MOST = 2048  # neighbours that a GPU index can return
LEAST_DEPTH = 256


class Index:
    """Inner-product search over item vectors `(I, d)` float32.

    `factory` is a FAISS factory string: `Flat` is exact, `IVF1024,Flat` and `HNSW32` are approximate. On a
    machine with `faiss-gpu` and a GPU the index is searched there.
    """

    def __init__(self, index: faiss.Index) -> None:
        self._stored = index
        self._index = _on_gpu(index)
        # FAISS searches on a CPU from many threads at once, but on a GPU only from one.
        self._turn = nullcontext() if self._index is index else Lock()

    @classmethod
    def build(cls, vectors: FloatArray, factory: str = EXACT, search: str = "") -> Index:
        """Train where the factory needs it, and add every vector.

        `search` sets how far an approximate index looks, as FAISS writes it: `nprobe=32`, `efSearch=256`. Raises
        `ConfigError` for a factory or a search string that FAISS does not know.
        """
        try:
            index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ConfigError(
                f"index {factory!r} is not a FAISS factory string; try Flat, HNSW32 or IVF256,Flat"
            ) from error
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
        if search:
            try:
                faiss.ParameterSpace().set_index_parameters(index, search)  # type: ignore[arg-type]
            except RuntimeError as error:
                raise ConfigError(
                    f"search {search!r} does not fit index {factory!r}; try nprobe=32 or efSearch=256"
                ) from error
        return cls(index)

    @property
    def exact(self) -> bool:
        """Whether the index compares a query with every vector."""
        return isinstance(self._stored, faiss.IndexFlat)

    @property
    def nested(self) -> bool:
        """Whether a deeper search finds all of a shallower one, at the same cost: not so where it walks a graph."""
        return isinstance(self._stored, faiss.IndexFlat | faiss.IndexIVF)

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Return the best `k` rows and their inner products, `(q, k)` each, best first.

        Where an approximate index finds fewer than `k`, the rest holds row -1 and score -inf. Raises `ArtifactError`
        where a stored index names rows that it does not have.
        """
        k = min(k, self._index.ntotal)
        index = self._stored if k > GPU_MOST else self._index
        with self._turn:
            scores, rows = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        if rows.max(initial=-1) >= index.ntotal:
            raise ArtifactError(f"the index names row {rows.max()} of {index.ntotal}: it is damaged; train again")
        return rows.astype(np.int32), np.where(rows < 0, -np.inf, scores).astype(np.float32)

    def recall(self, vectors: FloatArray, k: int = 100, sample: int = 1000) -> float:
        """Share of the true best `k` that this index finds, against exact search for a sample of the vectors."""
        chosen = np.linspace(0, len(vectors) - 1, min(sample, len(vectors))).astype(np.int64)
        queries = np.ascontiguousarray(vectors[chosen], dtype=np.float32)
        _, truth = faiss.knn(queries, np.ascontiguousarray(vectors), min(k, len(vectors)), faiss.METRIC_INNER_PRODUCT)
        rows, _ = self.search(queries, k)
        return float(np.mean([np.isin(found, true).mean() for found, true in zip(rows, truth, strict=True)]))

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return the whole index as bytes `(n,)`."""
        return faiss.serialize_index(self._stored)

    @classmethod
    def from_bytes(cls, data: NDArray[np.uint8], shape: tuple[int, ...]) -> Index:
        """Rebuild what `to_bytes` gave of vectors of a shape `(I, d)`.

        Raises `ArtifactError` where FAISS cannot read them, or they are the index of other vectors.
        """
        index = _read(data)
        if (index.ntotal, index.d) != shape:
            raise ArtifactError(f"the index is one of {index.ntotal} x {index.d} numbers, the vectors are {shape}")
        return cls(index)

    @classmethod
    def grown(cls, data: NDArray[np.uint8], vectors: FloatArray) -> Index:
        """Rebuild what `to_bytes` gave, and add those of `vectors` `(I, d)` that it did not hold yet."""
        index = _read(data)
        index.add(np.ascontiguousarray(vectors[index.ntotal :], dtype=np.float32))
        return cls(index)


class Searched:
    """An index asked by the same queries `(q, d)` at several depths: what was found is not searched for again.

    Where searches are nested, the depths are powers of two. So one search serves a list with a filter and the list
    without it, and of items that score the same both see the same ones at the edge, which FAISS leaves open.
    """

    def __init__(self, index: Index, queries: FloatArray) -> None:
        self._index, self._queries = index, queries
        self._found: dict[int, tuple[IntArray, FloatArray]] = {}

    @property
    def exact(self) -> bool:
        """Whether the index compares a query with every vector."""
        return self._index.exact

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Do as `Index.search` does, for all of the queries or for some of them."""
        depth = max(LEAST_DEPTH, 1 << (k - 1).bit_length()) if self._index.nested else k
        if len(queries) < len(self._queries):
            rows, scores = self._index.search(queries, depth)
        else:
            if depth not in self._found:
                self._found[depth] = self._index.search(queries, depth)
            rows, scores = self._found[depth]
        return rows[:, :k], scores[:, :k]


def _read(data: NDArray[np.uint8]) -> faiss.Index:
    try:
        return faiss.deserialize_index(np.asarray(data))
    except Exception as error:  # sizes that it believes may ask for any memory
        raise ArtifactError(f"the index is none that FAISS reads: {error}; train again") from error


def _on_gpu(index: faiss.Index) -> faiss.Index:
    movable = isinstance(index, faiss.IndexFlat | faiss.IndexIVF)  # HNSW has no GPU form
    if movable and getattr(faiss, "get_num_gpus", int)() and hasattr(faiss, "index_cpu_to_all_gpus"):
        return faiss.index_cpu_to_all_gpus(index)
    return index
