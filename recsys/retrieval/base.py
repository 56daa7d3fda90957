"""Answers: what a fitted retriever says to a batch of histories.

An answer gives the best items of each query (`top`) and the score of any (query, item) pair (`score`), so every
retriever is a feature too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import BoolArray, FloatArray, IntArray, LongArray
from recsys.config import Range
from recsys.ragged import find_keys, lengths_of, pair_keys
from recsys.retrieval.candidates import max_blocked, top_of_pairs, without
from recsys.retrieval.filtered_search import ItemFilter
from recsys.types import Histories, Hits, State

TOGETHER = 16  # queries whose lists are padded to one length and multiplied as a stack


class Answer(Protocol):
    """What a fitted retriever says to some histories."""

    def top(self, k: int, allowed: ItemFilter | None = None, spare: int = 0) -> Hits:
        """Return at most `k + spare` (allowed) items for each query, best first.

        The spare ones stand in for items that the caller will leave out: nobody need look further for them.
        """

    def score(self, owner: LongArray, item: IntArray) -> FloatArray:
        """Return the retriever's own score of each (query, item) pair `(n,)`, finite, 0 for no evidence."""


def top_unblocked(
    answer: Answer, k: int, blocked_pairs: LongArray, n_items: int, allowed: ItemFilter | None = None
) -> Hits:
    """Return each query's `k` best (allowed) items that are not blocked: fewer only where the answer has no more."""
    if not len(blocked_pairs):
        return answer.top(min(n_items, k), allowed)
    depth, spare = k, min(max_blocked(blocked_pairs, n_items), k)
    while True:
        hits = answer.top(depth, allowed, spare)
        free = without(hits, blocked_pairs, n_items, k)
        asked = depth + spare
        if asked >= n_items or not ((np.diff(free.offsets) < k) & (np.diff(hits.offsets) == asked)).any():
            return free
        depth, spare = 2 * asked, 0


def decayed(histories: Histories, decay: float, newest: int) -> tuple[LongArray, FloatArray]:
    """Return the rows of the `newest` events of each query, and their weights: `decay` to the power of the age.

    Age counts baskets, not events: what was bought together ages together.
    """
    place = np.repeat(histories.offsets[1:], histories.lengths) - np.arange(len(histories.item))
    rows = np.flatnonzero(place <= newest)
    return rows, (histories.weight[rows] * np.float64(decay) ** histories.age[rows]).astype(np.float32)


def ragged_dots(queries: FloatArray, vectors: FloatArray, offsets: LongArray, item: IntArray) -> FloatArray:
    """Inner products of each query's `q` queries `(U, q, d)` with the vectors of its own list of items: `(n, q)`.

    Each item vector is gathered once, a few queries at a time, into memory that fits a cache.
    """
    products = np.empty((len(item), queries.shape[1]), dtype=np.float32)
    for some, rows, real, padded in _padded(offsets, item):
        products[rows] = (vectors[padded] @ queries[some].transpose(0, 2, 1))[real]
    return products


def ragged_sums(weight: FloatArray, vectors: FloatArray, offsets: LongArray, item: IntArray) -> FloatArray:
    """The weighted sum of the vectors of each query's own list of items: `(U, d)`. Weights are `(n,)`."""
    sums = np.zeros((len(offsets) - 1, vectors.shape[1]), dtype=np.float32)
    for some, rows, real, padded in _padded(offsets, item):
        weights = np.zeros(real.shape, dtype=np.float32)
        weights[real] = weight[rows]
        sums[some] = (weights[:, None, :] @ vectors[padded])[:, 0]
    return sums


def _padded(offsets: LongArray, item: IntArray) -> Iterator[tuple[slice, slice, BoolArray, LongArray]]:
    """Pad the lists of a few queries at a time to one length: who, which rows, which are real, and their items."""
    for start in range(0, len(offsets) - 1, TOGETHER):
        starts = offsets[start : start + TOGETHER + 1]
        lengths = np.diff(starts)
        if lengths.any():
            real = np.arange(lengths.max()) < lengths[:, None]
            padded = np.zeros(real.shape, dtype=np.int64)
            rows = slice(starts[0], starts[-1])
            padded[real] = item[rows]
            yield slice(start, start + len(lengths)), rows, real, padded


@dataclass(frozen=True)
class SparseAnswer:
    """Scores of the (query, item) pairs that have any, `keys` `(n,)` ascending (see `pair_keys`); the rest score 0."""

    keys: LongArray
    value: FloatArray
    n_lists: int
    n_items: int

    @classmethod
    def of(cls, owner: LongArray, item: IntArray, value: FloatArray, n_lists: int,
           n_items: int) -> SparseAnswer:  # fmt: skip
        """Add up all that is said `(n,)` of each (query, item) pair.

        Key and place are sorted as one number: many times faster than a stable sort, and what is added keeps its order.
        """
        bits = len(item).bit_length()
        packed = (pair_keys(owner, item, n_items) << bits) | np.arange(len(item))
        packed.sort()
        keys, place = packed >> bits, packed & ((1 << bits) - 1)
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        starts = np.flatnonzero(first)
        added = np.add.reduceat(value[place], starts) if len(starts) else value
        return cls(keys[starts], added, n_lists, n_items)

    @cached_property
    def _lists(self) -> tuple[LongArray, IntArray]:
        """Offsets `(U + 1,)` and items `(n,)` of the pairs, as ragged lists."""
        begins = np.arange(self.n_lists + 1) * self.n_items
        offsets = np.searchsorted(self.keys, begins)
        return offsets, (self.keys - np.repeat(begins[:-1], lengths_of(offsets))).astype(np.int32)

    def top(self, k: int, allowed: ItemFilter | None = None, spare: int = 0) -> Hits:
        offsets, item = self._lists
        k += spare
        lengths = lengths_of(offsets)
        value = self.value if allowed is None else np.where(allowed.holds(item), self.value, 0)
        # What is below an query's k-th is left out before anything is sorted.
        edges = [_kth(value[start:end], k) for start, end in itertools.pairwise(offsets.tolist())]
        kept = np.flatnonzero((value > 0) & (value >= np.repeat(np.array(edges, dtype=np.float32), lengths)))
        owner = np.searchsorted(offsets, kept, side="right") - 1
        return top_of_pairs(owner, item[kept], value[kept], self.n_lists, k)

    def score(self, owner: LongArray, item: IntArray) -> FloatArray:
        if not len(self.keys):
            return np.zeros(len(item), dtype=np.float32)
        place = find_keys(self.keys, pair_keys(owner, item, self.n_items))
        return np.where(place >= 0, self.value[place], np.float32(0))


def _kth(value: FloatArray, k: int) -> float:
    """The k-th highest of some values, -inf where there are fewer."""
    return np.partition(value, len(value) - k)[len(value) - k] if 0 < k < len(value) else -np.inf


Arrays = dict[str, NDArray[Any]]


class Fitted(Protocol):
    """A retriever that has seen a state. Safe to share between threads."""

    def ask(self, histories: Histories) -> Answer:
        """Prepare to answer these histories."""

    def arrays(self) -> Arrays:
        """Return all that was learnt, as plain arrays, for the bundle."""


Depth = Annotated[int, Field(ge=0), Range(0.5, 2, log=True, relative=True)]


Decay = Annotated[float, Range(0.3, 1)]


Newest = Annotated[int, Range(2, 500, log=True)]


Stored = Mapping[str, NDArray[Any]]


class Retriever(Protocol):
    """Settings that can be fitted, or restored from the arrays of an earlier fit.

    One that is not `refit_per_cut` learns from the catalogue alone: fits at different moments are the same.
    """

    refit_per_cut: ClassVar[bool]

    @property
    def depth(self) -> int:
        """How many items to propose to each query."""

    def fit(self, state: State) -> Fitted:
        """Learn from what was known at the state's moment."""

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        """Rebuild what `Fitted.arrays` gave; `vectors` are the item vectors `(I, d)`."""

    def grow(self, arrays: Stored, state: State) -> Stored:
        """Return the arrays for a catalogue with further items at its end, of which no interaction tells.

        Old pairs keep their scores, and no two old items are compared.
        """
