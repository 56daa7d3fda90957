"""Search within a filter: find the best allowed items by whichever plan costs least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.arrays import BoolArray, FloatArray, IntArray, LongArray, Rows
from recsys.ragged import find_keys
from recsys.retrieval.index import CachedSearch, Index, inner_products

# What a plan costs for one query, in item vectors that a flat index reads (measured at 100,000 x 384 on one core).
GATHER_COST = 3.0  # one allowed vector fetched by its row number
HIT_COST = 5.0  # one hit more of a flat index
APPROXIMATE_HIT_COST = 20.0  # one hit more of an approximate index, which reads no vector but those on its way

MAX_GATHERED_QUERIES = 4  # for more queries it pays to copy the allowed vectors and multiply
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """The items that lists may hold.

    Attributes:
        rows: The allowed items `(a,)`, ascending.
        popular: The same items, most popular first.
        mask: Whether each item of the catalogue is allowed `(I,)`; None where the rows are few and came with the
            request.
    """

    rows: IntArray
    popular: IntArray
    mask: BoolArray | None = None

    @classmethod
    def of(cls, mask: BoolArray, popular: IntArray) -> ItemFilter:
        """Allow the items of a mask `(I,)`; `popular` `(I,)` holds the whole catalogue, most popular first."""
        return cls(np.flatnonzero(mask).astype(np.int32), popular[mask[popular]], mask)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.rows.nbytes + self.popular.nbytes + (0 if self.mask is None else self.mask.nbytes)

    def holds(self, item: Rows) -> BoolArray:
        """Return whether each item `(n,)` is allowed."""
        return self.mask[item] if self.mask is not None else find_keys(self.rows, item) >= 0

    def depths(self, k: int, n_items: int) -> Iterator[int]:
        """Yield how deep a ranking of all items must go to likely hold `k` allowed ones, then ever greater depths."""
        share = len(self.rows) / n_items
        depth = int(1.1 * k / share) + 16 if share else n_items
        while depth < n_items:
            yield depth
            depth *= 2


def filtered_search(
    index: Index | CachedSearch, vectors: FloatArray, queries: FloatArray, k: int, allowed: ItemFilter
) -> tuple[IntArray, FloatArray]:
    """Find the allowed items with the greatest inner products.

    There are two plans. A filter that passes much: search the index for more than `k` and drop what is not allowed,
    deeper where that was not enough. A filter that passes little: multiply with each allowed vector, which is exact.
    The cheaper one is chosen, and again before each deeper search. FAISS's own selectors (`IDSelector`) gain nothing
    over these two: on a flat index one reads as long as the whole search where much passes, and longer than the
    products where little does.

    Args:
        index: The index of the vectors.
        vectors: The item vectors `(I, d)`.
        queries: The query vectors `(q, d)`.
        k: How many items each query needs.
        allowed: The items that may be found.

    Returns:
        The rows and their inner products, `(q, k)` each, best first; -1 and -inf where fewer are allowed.
    """
    n_items, n_allowed = len(vectors), len(allowed)
    width = min(k, n_allowed)
    rows = np.full((len(queries), k), -1, dtype=np.int32)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    left = np.arange(len(queries))  # queries that still lack items
    per_hit, read = (HIT_COST, n_items) if index.exact else (APPROXIMATE_HIT_COST, 0)
    for depth in allowed.depths(width, n_items):
        if not len(left) or GATHER_COST * n_allowed <= read + per_hit * depth:
            break
        found, products = index.search(queries[left], depth)
        kept = (found >= 0) & allowed.holds(found)
        place = np.cumsum(kept, axis=1) - 1
        full = place[:, -1] + 1 >= width
        owner, column = np.nonzero(kept & (place < width) & full[:, None])
        rows[left[owner], place[owner, column]] = found[owner, column]
        scores[left[owner], place[owner, column]] = products[owner, column]
        left = left[~full]
    if len(left) and width:
        rows[left, :width], scores[left, :width] = _multiply_all(vectors, queries[left], width, allowed.rows)
    return rows, scores


def _multiply_all(vectors: FloatArray, queries: FloatArray, k: int, rows: IntArray) -> tuple[LongArray, FloatArray]:
    """Find the best `k` of some rows by their products with each query, best first, block by block."""
    few = len(queries) <= MAX_GATHERED_QUERIES
    best = np.zeros((len(queries), 0), dtype=np.int64)
    score = np.zeros((len(queries), 0), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        own = np.broadcast_to(block, (len(queries), len(block)))
        found = inner_products(queries, vectors, own) if few else queries @ vectors[block].T
        best = np.concatenate([best, own], axis=1)
        score = np.concatenate([score, found], axis=1)
        if best.shape[1] > k:
            kept = np.argpartition(-score, k - 1, axis=1)[:, :k]
            best, score = np.take_along_axis(best, kept, axis=1), np.take_along_axis(score, kept, axis=1)
    order = np.lexsort((best, -score), axis=1)
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(score, order, axis=1)
