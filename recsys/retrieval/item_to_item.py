"""What item-to-item retrievers share: one sparse matrix of how much each item of a history speaks for others.

A member writes `matrix(state)` and imports scipy and `recsys.retrieval.similarity` inside of it: importing scipy takes
a third of what numpy, FAISS and polars take together, and no answer needs it.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.array_checks import ArrayChecks
from recsys.arrays import FloatArray, IntArray, LongArray, Rows
from recsys.ragged import lengths_of, offsets_of
from recsys.retrieval.base import Answer, Arrays, Decay, Depth, Fitted, Newest, Retriever, Stored, decayed_events
from recsys.retrieval.sparse_answer import SparseAnswer
from recsys.types import Histories, State

if TYPE_CHECKING:
    from scipy import sparse

QUERIES_PER_BLOCK = 16  # queries whose scores are added up at once, in memory that fits a cache


@dataclass(frozen=True)
class FittedItemToItem(Fitted):
    """One sparse matrix `(I, I)`: `[i, j]` is how much item `i` of a history speaks for item `j`.

    `indptr`, `indices` and `data` are those of a matrix in compressed sparse rows.
    """

    indptr: Rows
    indices: Rows
    data: FloatArray
    decay: float
    newest: int

    @classmethod
    def from_matrix(cls, matrix: sparse.csr_matrix, decay: float, newest: int) -> FittedItemToItem:
        """Take the arrays of a matrix."""
        return cls(matrix.indptr, matrix.indices, matrix.data, decay, newest)

    @property
    def matrix(self) -> sparse.csr_matrix:
        """The arrays as a matrix of scipy."""
        from scipy import sparse

        n_items = len(self.indptr) - 1
        return sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(n_items, n_items), copy=False)

    def ask(self, histories: Histories) -> Answer:
        rows, weight = decayed_events(histories, self.decay, self.newest)
        owner, item, n_items = histories.owner[rows], histories.item[rows], len(self.indptr) - 1
        bounds = np.searchsorted(owner, np.arange(0, len(histories) + QUERIES_PER_BLOCK, QUERIES_PER_BLOCK))
        blocks = (slice(start, stop) for start, stop in itertools.pairwise(bounds))
        parts = [self._sum_neighbour_scores(owner[own], item[own], weight[own], len(histories)) for own in blocks]
        keys = np.concatenate([part.keys for part in parts] or [rows])
        value = np.concatenate([part.value for part in parts] or [weight])
        return SparseAnswer(keys, value, len(histories), n_items)

    def _sum_neighbour_scores(self, owner: LongArray, item: IntArray, weight: FloatArray, n_lists: int) -> SparseAnswer:
        """Add up the matrix rows of some events `(e,)`; they are gathered, so nothing is as long as the catalogue."""
        starts = self.indptr[item].astype(np.int64)
        offsets = offsets_of(self.indptr[item + 1] - starts)
        lengths = lengths_of(offsets)
        place = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        score = np.repeat(weight, lengths) * self.data[place]
        return SparseAnswer.sum_pairs(
            np.repeat(owner, lengths), self.indices[place], score, n_lists, len(self.indptr) - 1
        )

    def strongest_support(self, histories: Histories, owner: LongArray, item: IntArray) -> LongArray:
        rows, weight = decayed_events(histories, self.decay, self.newest)
        strongest, matrix = np.full(len(item), -1, dtype=np.int64), self.matrix
        for query in np.unique(owner):
            own = histories.owner[rows] == query
            past, pairs = histories.item[rows[own]], np.flatnonzero(owner == query)
            if not len(past):
                continue
            support = matrix[past][:, item[pairs]].toarray() * weight[own, None]
            support[past[:, None] == item[pairs]] = 0
            strongest[pairs] = np.where(support.max(axis=0) > 0, past[support.argmax(axis=0)], -1)
        return strongest

    def arrays(self) -> Arrays:
        return {"indptr": self.indptr, "indices": self.indices, "data": self.data}


@dataclass(frozen=True)
class ItemToItem(Retriever):
    """The settings of an item-to-item retriever; a member writes `matrix`.

    Attributes:
        decay: How much an event counts for each later basket of its history, to the power of their number.
        newest: How many events of a history ask.
        neighbours: How many items each item may speak for.
    """

    depth: Depth = 200
    decay: Decay = 0.8
    newest: Newest = 30
    neighbours: int = 500

    @abstractmethod
    def matrix(self, state: State) -> Any:
        """Return the sparse matrix `(I, I)` float32 in compressed rows, at most `neighbours` values a row.

        `[i, j]` is how much item `i` of a history speaks for item `j`; only values above 0 are stored.
        """

    def fit(self, state: State) -> Fitted:
        return FittedItemToItem.from_matrix(self.matrix(state), self.decay, self.newest)

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        return FittedItemToItem(arrays["indptr"], arrays["indices"], arrays["data"], self.decay, self.newest)

    def grow(self, arrays: Stored, state: State) -> Stored:
        """Leave the rows of new items empty: an item without events has no statistic."""
        added = len(state.catalog) + 1 - len(arrays["indptr"])
        return {**arrays, "indptr": np.pad(arrays["indptr"], (0, added), mode="edge")}

    def check_arrays(self, checks: ArrayChecks) -> None:
        """Check the compressed rows: products with them are computed without a look at their bounds."""
        n = len(checks.arrays["indices"])
        checks.shape("data", np.float32, n)
        checks.offsets("indptr", checks.n_items, n)
        checks.integers("indices", n)
        checks.item_rows("indices")

    @property
    def topic(self) -> str | None:
        return "follows"
