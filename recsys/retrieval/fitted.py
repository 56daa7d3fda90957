"""Fitted retrievers: what was learnt from a state, as plain arrays, ready to answer any histories."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.answers import (
    Answer,
    OddsAnswer,
    PopularityAnswer,
    SemanticAnswer,
    SparseAnswer,
    decayed,
    ragged_sums,
)
from recsys.retrieval.index import Index
from recsys.retrieval.tower import Weights, queries
from recsys.types import FloatArray, Histories, IntArray, LongArray, Rows, lengths_of, offsets_of, unit_rows

if TYPE_CHECKING:  # importing scipy takes a service a third of what numpy, FAISS and polars take together
    from scipy import sparse

Arrays = dict[str, NDArray[Any]]

TOGETHER = 16  # askers whose sums are sorted at once, in memory that fits a cache


class Fitted(Protocol):
    """A retriever that has seen a state. Safe to share between threads."""

    def ask(self, histories: Histories) -> Answer:
        """Prepare to answer these histories."""

    def arrays(self) -> Arrays:
        """Return all that was learnt, as plain arrays, for the bundle."""


@dataclass(frozen=True)
class ItemToItem:
    """A fitted retriever that is one sparse matrix `(I, I)`: how much an item of the history speaks for another."""

    indptr: Rows
    indices: Rows
    data: FloatArray
    decay: float
    newest: int

    @classmethod
    def of(cls, matrix: sparse.csr_matrix, decay: float, newest: int) -> ItemToItem:
        """Take the arrays of a matrix."""
        return cls(matrix.indptr, matrix.indices, matrix.data, decay, newest)

    @property
    def neighbours(self) -> sparse.csr_matrix:
        """The matrix."""
        from scipy import sparse

        n_items = len(self.indptr) - 1
        return sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(n_items, n_items), copy=False)

    def ask(self, histories: Histories) -> Answer:
        rows, weight = decayed(histories, self.decay, self.newest)
        owner, item, n_items = histories.owner[rows], histories.item[rows], len(self.indptr) - 1
        bounds = np.searchsorted(owner, np.arange(0, len(histories) + TOGETHER, TOGETHER))
        some = (slice(start, stop) for start, stop in itertools.pairwise(bounds))
        parts = [self._spoken(owner[part], item[part], weight[part], len(histories)) for part in some]
        keys = np.concatenate([part.keys for part in parts] or [rows])
        value = np.concatenate([part.value for part in parts] or [weight])
        return SparseAnswer(keys, value, len(histories), n_items)

    def _spoken(self, owner: LongArray, item: IntArray, weight: FloatArray, n_lists: int) -> SparseAnswer:
        """Add up what some events `(e,)` say of other items: rows of the matrix, gathered, so nothing is `(I,)`."""
        starts = self.indptr[item].astype(np.int64)
        offsets = offsets_of(self.indptr[item + 1] - starts)
        lengths = lengths_of(offsets)
        place = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        said = np.repeat(weight, lengths) * self.data[place]
        return SparseAnswer.of(np.repeat(owner, lengths), self.indices[place], said, n_lists, len(self.indptr) - 1)

    def arrays(self) -> Arrays:
        return {"indptr": self.indptr, "indices": self.indices, "data": self.data}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], decay: float, newest: int) -> ItemToItem:
        return cls(arrays["indptr"], arrays["indices"], arrays["data"], decay, newest)


@dataclass(frozen=True)
class FittedSemantic:
    """Item vectors `(I, d)` and their index (None where the retriever only scores)."""

    vectors: FloatArray
    index: Index | None
    decay: float
    newest: int
    query: str

    def ask(self, histories: Histories) -> SemanticAnswer:
        rows, weight = decayed(histories, self.decay, self.newest)
        offsets = offsets_of(np.bincount(histories.owner[rows], minlength=len(histories)))
        queries = unit_rows(ragged_sums(weight, self.vectors, offsets, histories.item[rows]))
        if self.query == "text" and histories.text_vectors is not None:
            told = np.abs(histories.text_vectors).sum(axis=1) > 0
            queries = np.where(told[:, None], histories.text_vectors, queries)
        return SemanticAnswer(queries, self.vectors, self.index)

    def arrays(self) -> Arrays:
        return _index_arrays(self.index)


@dataclass(frozen=True)
class FittedTower:
    """The tower's weights, and the index of its item vectors (None where the retriever only scores)."""

    weights: Weights
    index: Index | None

    def ask(self, histories: Histories) -> Answer:
        return OddsAnswer(queries(self.weights, histories), self.weights["items"], self.index)

    def arrays(self) -> Arrays:
        return {**self.weights, **_index_arrays(self.index)}


def _index_arrays(index: Index | None) -> Arrays:
    # An exact index is its vectors, which the bundle holds already.
    return {} if index is None or index.exact else {"index": index.to_bytes()}


@dataclass(frozen=True)
class FittedPopularity:
    """Decayed events of each item `(I,)`."""

    count: FloatArray

    def ask(self, histories: Histories) -> Answer:
        return PopularityAnswer(self.count, self.order, len(histories))

    @cached_property
    def order(self) -> IntArray:
        """The items that have any events, most first."""
        return np.argsort(-self.count, kind="stable")[: int((self.count > 0).sum())].astype(np.int32)

    def arrays(self) -> Arrays:
        return {"count": self.count}


@dataclass(frozen=True)
class FittedRepeat:
    """Nothing was learnt: the history is the answer."""

    n_items: int
    decay: float
    newest: int

    def ask(self, histories: Histories) -> Answer:
        rows, weight = decayed(histories, self.decay, self.newest)
        return SparseAnswer.of(histories.owner[rows], histories.item[rows], weight, len(histories), self.n_items)

    def arrays(self) -> Arrays:
        return {}
