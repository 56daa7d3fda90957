"""FAISS behind one small interface. Exact inner product is the oracle for every other index."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray, LongArray, unit_rows
from recsys.errors import ArtifactError, ConfigError
from recsys.extras import require

try:
    import faiss
except ModuleNotFoundError:
    require("cpu", "searching vectors")
    raise

log = logging.getLogger(__name__)

AUTO = "auto"
EXACT = "Flat"
FLOOR = 0.98
EXACT_MOST = 20_000_000  # numbers that one core reads in about 3 ms: a catalogue below that is searched exactly
QUERIES = 500  # that an index is measured with
K = 100  # of how many true neighbours the share found is its recall
DEEPER = 3  # how many times what was asked for is scored again, where an index compares short codes
MANY = 256  # numbers of a vector, from which on one code stands for two
TRAINED = 64  # vectors for each list of an inverted file
BLOCK = 65_536
GPU_MOST = 2048  # neighbours that a GPU index can return
LEAST_DEPTH = 256


class Index:
    """Inner-product search over item vectors `(I, d)` float32, exact or by a FAISS index that finds most of the best.

    The vectors are read where they lie, memory-mapped ones too; every score is the exact product with them. On a
    machine with `faiss-gpu` and a GPU the exact search runs there.
    """

    def __init__(self, vectors: FloatArray, finder: faiss.Index | None = None, factory: str = EXACT,
                 found: float = 1.0) -> None:  # fmt: skip
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.factory = factory
        self.found = found
        """The recall that it was measured to have; NaN where it was not."""
        self._finder = finder
        self._ivf = finder if isinstance(finder, faiss.IndexIVF) else None
        self._deeper = DEEPER if isinstance(finder, faiss.IndexIVFFastScan) else 1
        self._gpu = _on_gpu(self.vectors) if finder is None else None
        # FAISS searches on a CPU from many threads at once, but on a GPU only from one.
        self._turn = nullcontext() if self._gpu is None else Lock()

    @classmethod
    def build(cls, vectors: FloatArray, factory: str = EXACT, search: str = "") -> Index:
        """Train where the factory needs it, and add every vector.

        `factory` is a FAISS factory string: `Flat` is exact and builds nothing, `IVF1024,Flat` and `HNSW32` are
        approximate. `search` sets how far an approximate index looks, as FAISS writes it: `nprobe=32`,
        `efSearch=256`. Raises `ConfigError` for a factory or a search string that FAISS does not know.
        """
        if factory == EXACT:
            return cls(vectors)
        try:
            finder = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ConfigError(
                f"index {factory!r} is not a FAISS factory string; try auto, Flat, HNSW32 or IVF256,Flat"
            ) from error
        ivf = faiss.try_extract_index_ivf(finder)
        some = len(vectors) if ivf is None else min(len(vectors), ivf.nlist * TRAINED)
        finder.train(np.ascontiguousarray(vectors[_spread(len(vectors), some)], dtype=np.float32))
        _add(finder, vectors)
        if search:
            try:
                faiss.ParameterSpace().set_index_parameters(finder, search)  # type: ignore[arg-type]
            except RuntimeError as error:
                raise ConfigError(
                    f"search {search!r} does not fit index {factory!r}; try nprobe=32 or efSearch=256"
                ) from error
        return cls(vectors, finder, factory, math.nan)

    @classmethod
    def build_measured(cls, vectors: FloatArray, queries: FloatArray, factory: str = AUTO, search: str = "",
               floor: float = FLOOR) -> Index:  # fmt: skip
        """Build what was asked for, measured with `queries` `(q, d)`, which are none of the vectors.

        `auto` is exact for a catalogue that is read in a few milliseconds, and `compressed` above; where that does not
        reach the floor, it is exact again. Without `search` an inverted file looks into as many of its lists as the
        floor needs, and no more. Raises `ArtifactError` where another factory finds less than the floor.
        """
        if factory == EXACT or (factory == AUTO and vectors.size <= EXACT_MOST):
            return cls(vectors)
        index = cls.build(vectors, compressed(vectors.shape) if factory == AUTO else factory, search)
        index._measure(queries, math.inf if search else floor)
        if factory == AUTO and index.found < floor:
            log.warning("index auto: %s finds %.3f of the true %d nearest items, below the floor of %s: every search "
                        "is exact", index.factory, index.found, K, floor)  # fmt: skip
            return cls(vectors)
        return index._above(floor)

    @property
    def exact(self) -> bool:
        """Whether the index compares a query with every vector."""
        return self._finder is None

    @property
    def search_params(self) -> str:
        """How far an approximate index looks, as FAISS writes it."""
        if self._ivf is not None:
            return f"nprobe={self._ivf.nprobe}"
        return f"efSearch={self._finder.hnsw.efSearch}" if isinstance(self._finder, faiss.IndexHNSW) else ""

    def search(self, queries: FloatArray, k: int, spare: int = 0) -> tuple[IntArray, FloatArray]:
        """Return the best `k + spare` rows and their inner products, `(q, k + spare)` each, best first.

        An approximate index looks as far as `k` need: the spare ones are the best of what it met besides. Where it
        finds fewer, the rest holds row -1 and score -inf. Raises `ArtifactError` where a stored index names rows that
        it does not have.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if self._finder is not None:
            return self._find(self._finder, queries, k, spare)
        k = min(k + spare, len(self.vectors))
        if self._gpu is None or k > GPU_MOST:
            scores, rows = faiss.knn(queries, self.vectors, k, faiss.METRIC_INNER_PRODUCT)
        else:
            with self._turn:
                scores, rows = self._gpu.search(queries, k)
        return rows.astype(np.int32), scores

    def _find(self, finder: faiss.Index, queries: FloatArray, k: int, spare: int) -> tuple[IntArray, FloatArray]:
        """Let the index propose rows, and order them by their exact products."""
        n_items = len(self.vectors)
        params = self._further(min(k, n_items))
        k, deeper = min(k + spare, n_items), min(max(self._deeper * max(k, K), k + spare), n_items)
        _, rows = finder.search(queries, deeper, params=params)
        if rows.max(initial=-1) >= n_items:
            raise ArtifactError(f"the index names row {rows.max()} of {n_items}: it is damaged; train again")
        scores = products(queries, self.vectors, rows)
        if k < deeper:
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(rows, order, axis=1).astype(np.int32), np.take_along_axis(scores, order, axis=1)

    def _further(self, k: int) -> faiss.SearchParametersIVF | None:
        """Who asks for more than the index was measured with, is shown more lists in proportion."""
        if self._ivf is None or k <= K:
            return None
        lists = min(self._ivf.nlist, -(-self._ivf.nprobe * k // K))
        return faiss.SearchParametersIVF(nprobe=lists)  # type: ignore[call-arg]

    def recall(self, queries: FloatArray, k: int = K) -> float:
        """Share of the true best `k` that this index finds for queries `(q, d)`; of equally good ones any counts."""
        return self._recall(queries, self._least(queries, k), k)

    def _least(self, queries: FloatArray, k: int) -> FloatArray:
        """The k-th best product of each query `(q, 1)`, by exact search."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        scores, _ = faiss.knn(queries, self.vectors, min(k, len(self.vectors)), faiss.METRIC_INNER_PRODUCT)
        return (scores[:, -1:] - 1e-6 * np.abs(scores[:, -1:])).astype(np.float32)

    def _recall(self, queries: FloatArray, least: FloatArray, k: int) -> float:
        return float((self.search(queries, k)[1] >= least).mean()) if len(queries) else 1.0

    def _measure(self, queries: FloatArray, floor: float) -> None:
        """Set `found`. With a finite floor an inverted file looks into twice as many lists until it is reached."""
        least = self._least(queries, K)
        self.found = self._recall(queries, least, K)
        while self._ivf is not None and math.isfinite(floor) and self.found < floor:
            if self._ivf.nprobe == self._ivf.nlist:
                break
            self._ivf.nprobe = min(2 * self._ivf.nprobe, self._ivf.nlist)
            self.found = self._recall(queries, least, K)

    def _above(self, floor: float) -> Index:
        if self.found < floor:
            raise ArtifactError(
                f"index {self.factory!r} finds {self.found:.3f} of the true {K} nearest items, below the floor of "
                f"{floor}: let it search more (`search: nprobe=64` or `efSearch=512`), or use `index: {AUTO}` or "
                f"`index: {EXACT}`"
            )
        return self

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return an approximate index as bytes `(n,)`; an exact one has none."""
        assert self._finder is not None
        return faiss.serialize_index(self._finder)

    @classmethod
    def from_bytes(cls, data: NDArray[np.uint8], vectors: FloatArray) -> Index:
        """Rebuild the index of `vectors` `(I, d)` that `to_bytes` gave.

        Raises `ArtifactError` where FAISS cannot read them, or they are the index of other vectors.
        """
        finder = _read(data)
        if (finder.ntotal, finder.d) != vectors.shape:
            raise ArtifactError(
                f"the index is one of {finder.ntotal} x {finder.d} numbers, the vectors are {vectors.shape}"
            )
        if isinstance(finder, faiss.IndexIVF) and not 1 <= finder.nprobe <= finder.nlist:
            raise ArtifactError(
                f"the index looks into {finder.nprobe} of {finder.nlist} lists: it is damaged; train again"
            )
        return cls(vectors, finder, "", math.nan)

    @classmethod
    def grown(cls, data: NDArray[np.uint8], vectors: FloatArray, queries: FloatArray, factory: str,
              floor: float) -> Index:  # fmt: skip
        """Rebuild what `to_bytes` gave, add those of `vectors` `(I, d)` that it did not hold yet, and measure again.

        Raises `ArtifactError` where it now finds less than the floor.
        """
        finder = _read(data)
        _add(finder, vectors)
        index = cls(vectors, finder, factory)
        index._measure(queries, math.inf)
        return index._above(floor)


def products(queries: FloatArray, vectors: FloatArray, rows: IntArray | LongArray) -> FloatArray:
    """The product of each query `(q, d)` with its own rows `(q, n)`; -inf for row -1. No vector is copied."""
    result = np.empty(rows.shape, dtype=np.float32)
    queries, rows = np.ascontiguousarray(queries), np.ascontiguousarray(rows, dtype=np.int64)
    faiss.fvec_inner_products_by_idx(  # type: ignore[attr-defined]
        faiss.swig_ptr(result), faiss.swig_ptr(queries), faiss.swig_ptr(vectors), faiss.swig_ptr(rows),
        vectors.shape[1], *rows.shape,
    )  # fmt: skip
    result[rows < 0] = -np.inf
    return result


def pair_products(queries: FloatArray, owner: LongArray, vectors: FloatArray, item: IntArray) -> FloatArray:
    """The product of each pair's query and item vector `(n,)`. No vector is copied."""
    result = np.empty(len(item), dtype=np.float32)
    left, right = (np.ascontiguousarray(rows, dtype=np.int64) for rows in (owner, item))
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    faiss.pairwise_indexed_inner_product(  # type: ignore[attr-defined]
        vectors.shape[1], len(item), faiss.swig_ptr(queries), faiss.swig_ptr(left), faiss.swig_ptr(vectors),
        faiss.swig_ptr(right), faiss.swig_ptr(result),
    )  # fmt: skip
    return result


def compressed(shape: tuple[int, ...]) -> str:
    """The factory for many vectors `(I, d)`: an inverted file of about the root of their number lists, and short codes.

    4 bits stand for one number, or for two where there are many: product quantisation (Jégou, Douze and Schmid 2011),
    compared within the processor's registers (André, Kermarrec and Le Scouarnec 2015). What HNSW and 8 bits a number
    came to is told in docs/log.md.
    """
    n_items, width = shape
    codes = width // 2 if width >= MANY and width % 2 == 0 else width
    return f"IVF{2 ** round(math.log2(n_items) / 2)},PQ{codes}x4fs"


def mixtures(vectors: FloatArray, n: int = QUERIES) -> FloatArray:
    """Queries `(n, d)` like those of histories: decayed sums of 2 to 10 items, drawn by lot; unit rows."""
    rng = np.random.default_rng(0)
    some = rng.integers(len(vectors), size=(n, 10))
    weight = np.float32(0.8) ** np.arange(10, dtype=np.float32)
    weight = np.where(np.arange(10) < rng.integers(2, 11, size=(n, 1)), weight, 0).astype(np.float32)
    return unit_rows(np.einsum("qj,qjd->qd", weight, vectors[some]))


def _spread(n: int, some: int) -> LongArray:
    return np.linspace(0, n - 1, some).astype(np.int64)


def _add(finder: faiss.Index, vectors: FloatArray) -> None:
    """Add the vectors that an index does not hold yet, block by block: a transform before it copies them."""
    for start in range(finder.ntotal, len(vectors), BLOCK):
        finder.add(np.ascontiguousarray(vectors[start : start + BLOCK], dtype=np.float32))


class Searched:
    """An index asked by the same queries `(q, d)` at several depths: what was found is not searched for again.

    Exact searches go to depths that are powers of two, which costs next to nothing. So one search serves a list with a
    filter and the list without it, and of items that score the same both see the same ones at the edge, which FAISS
    leaves open.
    """

    def __init__(self, index: Index, queries: FloatArray) -> None:
        self._index, self._queries = index, queries
        self._found: dict[tuple[int, int], tuple[IntArray, FloatArray]] = {}

    @property
    def exact(self) -> bool:
        """Whether the index compares a query with every vector."""
        return self._index.exact

    def search(self, queries: FloatArray, k: int, spare: int = 0) -> tuple[IntArray, FloatArray]:
        """Do as `Index.search` does, for all of the queries or for some of them."""
        most = k + spare
        asked = (max(LEAST_DEPTH, 1 << (most - 1).bit_length()), 0) if self.exact else (k, spare)
        if len(queries) < len(self._queries):
            rows, scores = self._index.search(queries, *asked)
        else:
            if asked not in self._found:
                self._found[asked] = self._index.search(queries, *asked)
            rows, scores = self._found[asked]
        return rows[:, :most], scores[:, :most]


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
