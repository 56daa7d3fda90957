"""Answers of retrievers that know a score for a few items of each query."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.ragged import find_keys, lengths_of, pair_keys
from recsys.retrieval.candidates import top_of_pairs
from recsys.retrieval.filtered_search import ItemFilter
from recsys.types import Hits


@dataclass(frozen=True)
class SparseAnswer:
    """The scores of some (query, item) pairs; all other pairs score 0.

    Attributes:
        keys: The keys of the pairs `(n,)`, ascending and distinct (see `pair_keys`).
        value: Their scores `(n,)`.
        n_lists: Queries in the batch.
        n_items: Items in the catalogue.
    """

    keys: LongArray
    value: FloatArray
    n_lists: int
    n_items: int

    @classmethod
    def sum_pairs(cls, owner: LongArray, item: IntArray, value: FloatArray, n_lists: int,
                  n_items: int) -> SparseAnswer:  # fmt: skip
        """Add up all values `(n,)` of each (query, item) pair.

        Key and place are sorted as one number: many times faster than a stable sort, and the values of a pair are
        added in their order.
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
        # What scores below a query's k-th value is dropped before anything is sorted.
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
