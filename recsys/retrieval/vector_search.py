"""What retrievers over item vectors share: answers from an index, and how an index is stored and measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.array_checks import ArrayChecks
from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.ragged import offsets_of
from recsys.retrieval.base import Arrays, Stored
from recsys.retrieval.filtered_search import ItemFilter, filtered_search
from recsys.retrieval.index import EXACT, CachedSearch, Index, pairwise_inner_products
from recsys.retrieval.index_spec import AUTO, TUNING_QUERIES
from recsys.types import Histories, Hits, Interactions


@dataclass(frozen=True)
class VectorAnswer:
    """Inner products of query vectors with the item vectors. A query vector of zeros finds nothing.

    Attributes:
        queries: The query vectors `(U, d)`.
        vectors: The item vectors `(I, d)`.
        index: The index that `top` searches; None where the retriever only scores.
    """

    queries: FloatArray
    vectors: FloatArray
    index: Index | None

    @cached_property
    def _nonzero(self) -> LongArray:
        """The queries that ask for anything."""
        return np.flatnonzero(np.abs(self.queries).sum(axis=1) > 0)

    @cached_property
    def _search(self) -> CachedSearch | None:
        return None if self.index is None else CachedSearch(self.index, self.queries[self._nonzero])

    def top(self, k: int, allowed: ItemFilter | None = None, spare: int = 0) -> Hits:
        nonzero, cached = self._nonzero, self._search
        if cached is None or not len(nonzero):
            return Hits(np.zeros(len(self.queries) + 1, dtype=np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
        queries = self.queries[nonzero]
        rows, scores = (
            cached.search(queries, k, spare)
            if allowed is None
            else filtered_search(cached, self.vectors, queries, min(k + spare, len(allowed)), allowed)
        )
        found = rows >= 0
        counts = np.zeros(len(self.queries), dtype=np.int64)
        counts[nonzero] = found.sum(axis=1)
        return Hits(offsets_of(counts), rows[found], scores[found])

    def score(self, owner: LongArray, item: IntArray) -> FloatArray:
        return pairwise_inner_products(self.queries, owner, self.vectors, item)


def index_arrays(index: Index | None) -> Arrays:
    """Return what a bundle stores of an index: nothing of an exact one, which is its vectors."""
    return {} if index is None or index.exact else {"index": index.to_bytes()}


def restore_index(arrays: Stored, vectors: FloatArray, factory: str) -> Index:
    """Rebuild the index that `index_arrays` gave; `auto` stores none where it is exact.

    Raises:
        ArtifactError: The stored index is damaged, or that of other vectors.
    """
    exact = factory == EXACT or (factory == AUTO and "index" not in arrays)
    return Index(vectors) if exact else Index.from_bytes(arrays["index"], vectors)


def check_index(checks: ArrayChecks) -> None:
    """Check the type of a stored index, if there is one. Raises `ArtifactError`."""
    if "index" in checks.arrays:
        checks.shape("index", np.uint8, None)


def sample_histories(events: Interactions, newest: int) -> Histories:
    """Take the newest events of at most `TUNING_QUERIES` users that have any, as of their last event."""
    users = np.flatnonzero(np.diff(events.offsets))
    users = users[np.linspace(0, len(users) - 1, min(TUNING_QUERIES, len(users))).astype(np.int64)]
    return events.histories(users, events.time[events.offsets[1:][users] - 1] + 1, newest)
