"""All that features may look at, for a batch of (query, candidate) pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.ragged import find_keys, offsets_of, pair_keys
from recsys.retrieval.base import Answer
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.ragged_products import ragged_dots
from recsys.types import Candidates, Histories

BEST_OF = 10


@dataclass(frozen=True, eq=False)
class Context:
    """All that a feature may look at: queries, candidates, the retrievers' answers and the item vectors.

    Attributes:
        histories: The queries' histories, up to the moment of each.
        candidates: The proposed items of each query, `n` pairs in all.
        answers: The answer of each configured retriever, in the order of the config.
        vectors: Unit vectors of the catalogue `(I, d)`.
        blocked_pairs: Ascending keys of the (query, item) pairs that no list may hold.
        allowed: The items that lists may hold; None for the whole catalogue.
        retrieved: Every retriever's score of every pair `(n, r)`, where they are known already.
        joining: The lists of the same queries that each candidate is ranked in as if it alone had joined, so that
            candidates do not push each other down.
    """

    histories: Histories
    candidates: Candidates
    answers: Mapping[str, Answer]
    vectors: FloatArray
    blocked_pairs: LongArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    allowed: ItemFilter | None = None
    retrieved: FloatArray | None = None
    joining: Context | None = None

    @property
    def owner(self) -> LongArray:
        """The query of each pair `(n,)`."""
        return self.candidates.owner

    @property
    def item(self) -> IntArray:
        """The item of each pair `(n,)`."""
        return self.candidates.item

    @property
    def n_items(self) -> int:
        """Items in the catalogue."""
        return len(self.vectors)

    @cached_property
    def scores(self) -> FloatArray:
        """Every retriever's own score of every pair `(n, r)`."""
        if self.retrieved is not None:
            return self.retrieved
        return np.stack([answer.score(self.owner, self.item) for answer in self.answers.values()], axis=1)

    @cached_property
    def best_match(self) -> FloatArray:
        """Greatest cosine of each pair's item with one of the history's 10 newest items `(n,)`; 0 without any."""
        histories = self.histories
        row = histories.offsets[1:, None] - np.arange(1, BEST_OF + 1)
        has = row >= histories.offsets[:-1, None]
        if not has.any():
            return np.zeros(len(self.item), dtype=np.float32)
        past = self.vectors[histories.item[np.where(has, row, 0)]]
        match = ragged_dots(past, self.vectors, self.candidates.offsets, self.item)
        best = np.where(has[self.owner], match, -np.inf).max(axis=1)
        return np.where(np.isfinite(best), best, 0).astype(np.float32)

    @cached_property
    def own_events(self) -> tuple[LongArray, LongArray]:
        """Ascending keys of the histories' distinct (query, item) pairs, and the row of each one's newest event."""
        keys = pair_keys(self.histories.owner, self.histories.item, self.n_items)
        distinct, place = np.unique(keys[::-1], return_index=True)
        return distinct, len(keys) - 1 - place

    @cached_property
    def own_event(self) -> LongArray:
        """The newest event of each pair's history with that very item `(n,)`; -1 for none."""
        distinct, row = self.own_events
        place = find_keys(distinct, pair_keys(self.owner, self.item, self.n_items))
        return np.where(place >= 0, row[place] if len(row) else -1, -1)


def side_by_side(contexts: Sequence[Context]) -> Context:
    """Join several lists of the same query, so that their features cost little more than those of one list.

    Args:
        contexts: Contexts of one query each, which differ only in their candidates.

    Returns:
        A context in which each list is that of a query of its own.
    """
    one, lists = contexts[0], np.zeros(len(contexts), dtype=np.int64)
    candidates = Candidates(
        offsets_of(np.array([len(context.item) for context in contexts])),
        np.concatenate([context.item for context in contexts]),
        np.concatenate([context.candidates.found for context in contexts]),
    )
    scores = np.concatenate([context.scores for context in contexts])
    return Context(one.histories.select(lists), candidates, one.answers, one.vectors, retrieved=scores)
