"""What retrievers over item vectors share: answers from an index, and how an index is stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.ragged import offsets_of
from recsys.retrieval.base import Arrays, Stored
from recsys.retrieval.filtered_search import ItemFilter, search
from recsys.retrieval.index import AUTO, EXACT, QUERIES, Index, Searched, pair_products
from recsys.types import Histories, Hits, Interactions


@dataclass(frozen=True)
class VectorAnswer:
    """Query vectors `(U, d)` against the item vectors; queries whose query is all zeros find nothing."""

    queries: FloatArray
    vectors: FloatArray
    index: Index | None

    @cached_property
    def _asking(self) -> LongArray:
        return np.flatnonzero(np.abs(self.queries).sum(axis=1) > 0)

    @cached_property
    def _searched(self) -> Searched | None:
        return None if self.index is None else Searched(self.index, self.queries[self._asking])

    def top(self, k: int, allowed: ItemFilter | None = None, spare: int = 0) -> Hits:
        asking, searched = self._asking, self._searched
        if searched is None or not len(asking):
            return Hits(np.zeros(len(self.queries) + 1, dtype=np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
        queries = self.queries[asking]
        rows, scores = (
            searched.search(queries, k, spare)
            if allowed is None
            else search(searched, self.vectors, queries, min(k + spare, len(allowed)), allowed)
        )
        found = rows >= 0
        counts = np.zeros(len(self.queries), dtype=np.int64)
        counts[asking] = found.sum(axis=1)
        return Hits(offsets_of(counts), rows[found], scores[found])

    def score(self, owner: LongArray, item: IntArray) -> FloatArray:
        return pair_products(self.queries, owner, self.vectors, item)


def index_arrays(index: Index | None) -> Arrays:
    """Return what a bundle stores of an index."""
    # An exact index is its vectors, which the bundle holds already.
    return {} if index is None or index.exact else {"index": index.to_bytes()}


def sample_histories(events: Interactions, newest: int) -> Histories:
    """The newest events of at most `QUERIES` users that have any, as of their last."""
    users = np.flatnonzero(np.diff(events.offsets))
    users = users[np.linspace(0, len(users) - 1, min(QUERIES, len(users))).astype(np.int64)]
    return events.histories(users, events.time[events.offsets[1:][users] - 1] + 1, newest)


def restored_index(arrays: Stored, vectors: FloatArray, index: str) -> Index:
    """The stored index; `auto` stores none where it is exact."""
    exact = index == EXACT or (index == AUTO and "index" not in arrays)
    return Index(vectors) if exact else Index.from_bytes(arrays["index"], vectors)
