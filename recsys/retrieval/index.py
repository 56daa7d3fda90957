"""FAISS behind one small interface. Exact inner product is the oracle for every other index."""

from __future__ import annotations

import math
from contextlib import nullcontext
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.errors import ArtifactError, ConfigError
from recsys.extras import require

try:
    import faiss
except ModuleNotFoundError:
    require("cpu", "searching vectors")
    raise

EXACT = "Flat"
RECALL_K = 100  # the recall of an index is the share of so many true neighbours that it finds
RERANK_FACTOR = 3  # how many times k is scored again, where an index compares short codes
TRAINING_VECTORS_PER_LIST = 64  # of an inverted file
BLOCK = 65_536
MAX_GPU_K = 2048  # neighbours that a GPU index can return
MIN_CACHED_DEPTH = 256


class Index:
    """Inner-product search over item vectors `(I, d)` float32, exact or by a FAISS index that finds most of the best.

    The vectors are read where they lie, memory-mapped ones too; every score is the exact product with them. On a
    machine with `faiss-gpu` and a GPU the exact search runs there.

    Attributes:
        vectors: The item vectors.
        factory: The FAISS factory string; `Flat` is exact.
        measured_recall: The recall that was measured when the index was built; NaN where it was not.
    """

    def __init__(self, vectors: FloatArray, approximate: faiss.Index | None = None, factory: str = EXACT,
                 measured_recall: float = 1.0) -> None:  # fmt: skip
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.factory = factory
        self.measured_recall = measured_recall
        self._approximate = approximate
        self._ivf = approximate if isinstance(approximate, faiss.IndexIVF) else None
        self._rerank_factor = RERANK_FACTOR if isinstance(approximate, faiss.IndexIVFFastScan) else 1
        self._gpu = _on_gpu(self.vectors) if approximate is None else None
        # FAISS searches on a CPU from many threads at once, but on a GPU only from one.
        self._gpu_lock = nullcontext() if self._gpu is None else Lock()

    @classmethod
    def build(cls, vectors: FloatArray, factory: str = EXACT, search: str = "") -> Index:
        """Build an index, unmeasured: train where the factory needs it, and add every vector.

        Args:
            vectors: The item vectors `(I, d)`.
            factory: A FAISS factory string: `Flat` is exact and builds nothing, `IVF1024,Flat` and `HNSW32` are
                approximate.
            search: How widely an approximate index searches, as FAISS writes it: `nprobe=32`, `efSearch=256`.

        Raises:
            ConfigError: FAISS does not know the factory or the search string.
        """
        if factory == EXACT:
            return cls(vectors)
        try:
            approximate = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ConfigError(
                f"index {factory!r} is not a FAISS factory string; try auto, Flat, HNSW32 or IVF256,Flat"
            ) from error
        ivf = faiss.try_extract_index_ivf(approximate)
        n_training = len(vectors) if ivf is None else min(len(vectors), ivf.nlist * TRAINING_VECTORS_PER_LIST)
        training_rows = _evenly_spaced(len(vectors), n_training)
        approximate.train(np.ascontiguousarray(vectors[training_rows], dtype=np.float32))
        _add_missing(approximate, vectors)
        if search:
            try:
                faiss.ParameterSpace().set_index_parameters(approximate, search)  # type: ignore[arg-type]
            except RuntimeError as error:
                raise ConfigError(
                    f"search {search!r} does not fit index {factory!r}; try nprobe=32 or efSearch=256"
                ) from error
        return cls(vectors, approximate, factory, math.nan)

    @property
    def exact(self) -> bool:
        """Whether the index compares a query with every vector."""
        return self._approximate is None

    @property
    def search_params(self) -> str:
        """How widely an approximate index searches, as FAISS writes it."""
        if self._ivf is not None:
            return f"nprobe={self._ivf.nprobe}"
        hnsw = isinstance(self._approximate, faiss.IndexHNSW)
        return f"efSearch={self._approximate.hnsw.efSearch}" if hnsw else ""  # type: ignore[union-attr]

    def search(self, queries: FloatArray, k: int, spare: int = 0) -> tuple[IntArray, FloatArray]:
        """Find the items with the greatest inner products.

        Args:
            queries: The query vectors `(q, d)`.
            k: How many items each query needs: an approximate index searches as widely as `k` needs.
            spare: How many items to return on top, the best that the search for `k` came across.

        Returns:
            The rows and their inner products, `(q, k + spare)` each, best first. Where the index finds fewer, the rest
            holds row -1 and score -inf.

        Raises:
            ArtifactError: A stored index names rows that the vectors do not have.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if self._approximate is not None:
            return self._search_approximately(self._approximate, queries, k, spare)
        k = min(k + spare, len(self.vectors))
        if self._gpu is None or k > MAX_GPU_K:
            scores, rows = faiss.knn(queries, self.vectors, k, faiss.METRIC_INNER_PRODUCT)
        else:
            with self._gpu_lock:
                scores, rows = self._gpu.search(queries, k)
        return rows.astype(np.int32), scores

    def _search_approximately(
        self, approximate: faiss.Index, queries: FloatArray, k: int, spare: int
    ) -> tuple[IntArray, FloatArray]:
        """Let the FAISS index propose rows, and order them by their exact products."""
        n_items = len(self.vectors)
        params = self._search_parameters(min(k, n_items))
        k, depth = min(k + spare, n_items), min(max(self._rerank_factor * max(k, RECALL_K), k + spare), n_items)
        _, rows = approximate.search(queries, depth, params=params)
        if rows.max(initial=-1) >= n_items:
            raise ArtifactError(f"the index names row {rows.max()} of {n_items}: it is damaged; train again")
        scores = inner_products(queries, self.vectors, rows)
        if k < depth:
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(rows, order, axis=1).astype(np.int32), np.take_along_axis(scores, order, axis=1)

    def _search_parameters(self, k: int) -> faiss.SearchParametersIVF | None:
        """Scale nprobe in proportion when k exceeds the k that the recall was measured with."""
        if self._ivf is None or k <= RECALL_K:
            return None
        lists = min(self._ivf.nlist, -(-self._ivf.nprobe * k // RECALL_K))
        return faiss.SearchParametersIVF(nprobe=lists)  # type: ignore[call-arg]

    def recall(self, queries: FloatArray, k: int = RECALL_K) -> float:
        """Return the share of the true best `k` that this index finds for queries `(q, d)`; ties count as found."""
        return self._share_reaching(self._kth_products(queries, k), queries, k)

    def _kth_products(self, queries: FloatArray, k: int) -> FloatArray:
        """The k-th best product of each query `(q, 1)`, by exact search; a little less, for rounding."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        scores, _ = faiss.knn(queries, self.vectors, min(k, len(self.vectors)), faiss.METRIC_INNER_PRODUCT)
        return (scores[:, -1:] - 1e-6 * np.abs(scores[:, -1:])).astype(np.float32)

    def _share_reaching(self, kth: FloatArray, queries: FloatArray, k: int) -> float:
        return float((self.search(queries, k)[1] >= kth).mean()) if len(queries) else 1.0

    def measure(self, queries: FloatArray, floor: float = math.inf) -> None:
        """Measure the recall with queries `(q, d)`; with a finite floor, double nprobe until the recall reaches it.

        Only an inverted file has an nprobe to double.
        """
        kth = self._kth_products(queries, RECALL_K)
        self.measured_recall = self._share_reaching(kth, queries, RECALL_K)
        while self._ivf is not None and math.isfinite(floor) and self.measured_recall < floor:
            if self._ivf.nprobe == self._ivf.nlist:
                break
            self._ivf.nprobe = min(2 * self._ivf.nprobe, self._ivf.nlist)
            self.measured_recall = self._share_reaching(kth, queries, RECALL_K)

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return an approximate index as bytes `(n,)`; an exact one has none."""
        assert self._approximate is not None
        return faiss.serialize_index(self._approximate)

    @classmethod
    def from_bytes(cls, data: NDArray[np.uint8], vectors: FloatArray) -> Index:
        """Rebuild the index of `vectors` `(I, d)` that `to_bytes` gave.

        Raises:
            ArtifactError: FAISS cannot read the bytes, or they are the index of other vectors.
        """
        approximate = _read(data)
        if (approximate.ntotal, approximate.d) != vectors.shape:
            raise ArtifactError(
                f"the index is one of {approximate.ntotal} x {approximate.d} numbers, the vectors are {vectors.shape}"
            )
        if isinstance(approximate, faiss.IndexIVF) and not 1 <= approximate.nprobe <= approximate.nlist:
            raise ArtifactError(
                f"the index looks into {approximate.nprobe} of {approximate.nlist} lists: it is damaged; train again"
            )
        return cls(vectors, approximate, "", math.nan)

    @classmethod
    def extend(cls, data: NDArray[np.uint8], vectors: FloatArray, factory: str) -> Index:
        """Rebuild what `to_bytes` gave and add those of `vectors` `(I, d)` that it does not hold yet; unmeasured.

        Raises:
            ArtifactError: FAISS cannot read the bytes.
        """
        approximate = _read(data)
        _add_missing(approximate, vectors)
        return cls(vectors, approximate, factory, math.nan)


class CachedSearch:
    """An index searched with the same queries `(q, d)` at several depths: results are kept.

    Exact searches go to depths that are powers of two, which costs next to nothing. So one search serves a list with a
    filter and the list without it, and where items tie at the edge of a list, which FAISS leaves open, both hold the
    same ones.
    """

    def __init__(self, index: Index, queries: FloatArray) -> None:
        self._index, self._queries = index, queries
        self._results: dict[tuple[int, int], tuple[IntArray, FloatArray]] = {}

    @property
    def exact(self) -> bool:
        """Whether the index compares a query with every vector."""
        return self._index.exact

    def search(self, queries: FloatArray, k: int, spare: int = 0) -> tuple[IntArray, FloatArray]:
        """Do as `Index.search` does, for all of the queries or for some of them."""
        total = k + spare
        depth = (max(MIN_CACHED_DEPTH, 1 << (total - 1).bit_length()), 0) if self.exact else (k, spare)
        if len(queries) < len(self._queries):
            rows, scores = self._index.search(queries, *depth)
        else:
            if depth not in self._results:
                self._results[depth] = self._index.search(queries, *depth)
            rows, scores = self._results[depth]
        return rows[:, :total], scores[:, :total]


def inner_products(queries: FloatArray, vectors: FloatArray, rows: IntArray | LongArray) -> FloatArray:
    """Multiply each query with its own item vectors; no vector is copied.

    Args:
        queries: The query vectors `(q, d)`.
        vectors: The item vectors `(I, d)`.
        rows: The items of each query `(q, n)`; -1 for none.

    Returns:
        The inner products `(q, n)`; -inf for row -1.
    """
    result = np.empty(rows.shape, dtype=np.float32)
    queries, rows = np.ascontiguousarray(queries), np.ascontiguousarray(rows, dtype=np.int64)
    faiss.fvec_inner_products_by_idx(  # type: ignore[attr-defined]
        faiss.swig_ptr(result), faiss.swig_ptr(queries), faiss.swig_ptr(vectors), faiss.swig_ptr(rows),
        vectors.shape[1], *rows.shape,
    )  # fmt: skip
    result[rows < 0] = -np.inf
    return result


def pairwise_inner_products(queries: FloatArray, owner: LongArray, vectors: FloatArray, item: IntArray) -> FloatArray:
    """Multiply the query vector and the item vector of each pair; no vector is copied.

    Args:
        queries: The query vectors `(q, d)`.
        owner: The query of each pair `(n,)`.
        vectors: The item vectors `(I, d)`.
        item: The item of each pair `(n,)`.

    Returns:
        The inner products `(n,)`.
    """
    result = np.empty(len(item), dtype=np.float32)
    left, right = (np.ascontiguousarray(rows, dtype=np.int64) for rows in (owner, item))
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    faiss.pairwise_indexed_inner_product(  # type: ignore[attr-defined]
        vectors.shape[1], len(item), faiss.swig_ptr(queries), faiss.swig_ptr(left), faiss.swig_ptr(vectors),
        faiss.swig_ptr(right), faiss.swig_ptr(result),
    )  # fmt: skip
    return result


def _evenly_spaced(n: int, count: int) -> LongArray:
    return np.linspace(0, n - 1, count).astype(np.int64)


def _add_missing(index: faiss.Index, vectors: FloatArray) -> None:
    """Add the vectors that an index does not hold yet, block by block: a transform before it copies them."""
    for start in range(index.ntotal, len(vectors), BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + BLOCK], dtype=np.float32))


def _read(data: NDArray[np.uint8]) -> faiss.Index:
    # Copied, not mapped: FAISS aborts the process where an index that views foreign memory is added to.
    try:
        return faiss.deserialize_index(np.asarray(data))
    except Exception as error:  # sizes that it believes may ask for any memory
        raise ArtifactError(f"the index is none that FAISS reads: {error}; train again") from error


def _on_gpu(vectors: FloatArray) -> faiss.Index | None:
    if not (getattr(faiss, "get_num_gpus", int)() and hasattr(faiss, "index_cpu_to_all_gpus")):
        return None
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    return faiss.index_cpu_to_all_gpus(flat)
