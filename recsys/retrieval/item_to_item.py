"""Retrievers: from histories to the items each query may want.

A retriever is a dataclass of settings. `fit(state)` returns a `Fitted` one, which holds plain arrays and answers
any histories: users of the table and live sessions alike; `restore` rebuilds it from those arrays, and `grow` makes
room in them for items that joined the catalogue since.
`depth` is how many items it proposes; `depth: 0` means that it only scores what others propose.

The statistics are imported where something is learnt: they bring scipy, which no answer needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray, LongArray, Rows
from recsys.ragged import lengths_of, offsets_of
from recsys.retrieval.base import Answer, SparseAnswer, decayed
from recsys.types import Histories

if TYPE_CHECKING:  # importing scipy takes a service a third of what numpy, FAISS and polars take together
    from scipy import sparse
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

from recsys.config import Choice
from recsys.retrieval.base import Arrays, Decay, Depth, Fitted, Newest, Stored
from recsys.retrieval.registry import RETRIEVERS
from recsys.types import State

TOGETHER = 16  # queries whose sums are sorted at once, in memory that fits a cache


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
        parts = [self._sum_neighbour_scores(owner[part], item[part], weight[part], len(histories)) for part in some]
        keys = np.concatenate([part.keys for part in parts] or [rows])
        value = np.concatenate([part.value for part in parts] or [weight])
        return SparseAnswer(keys, value, len(histories), n_items)

    def _sum_neighbour_scores(self, owner: LongArray, item: IntArray, weight: FloatArray, n_lists: int) -> SparseAnswer:
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
class _ItemToItem(ABC):
    """What the item-to-item retrievers share: how a history is weighted, and how many neighbours an item keeps."""

    refit_per_cut: ClassVar[bool] = True
    depth: Depth = 200
    decay: Decay = 0.8
    newest: Newest = 30
    neighbours: int = 500

    def fit(self, state: State) -> Fitted:
        return ItemToItem.of(self.matrix(state), self.decay, self.newest)

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        return ItemToItem.from_arrays(arrays, self.decay, self.newest)

    def grow(self, arrays: Stored, state: State) -> Stored:
        """Leave the rows of new items empty: what nobody had yet has no statistic."""
        further = len(state.catalog) + 1 - len(arrays["indptr"])
        return {**arrays, "indptr": np.pad(arrays["indptr"], (0, further), mode="edge")}

    @abstractmethod
    def matrix(self, state: State) -> Any:
        """Return the statistic `(I, I)`, sparse, at most `neighbours` a row."""


@RETRIEVERS.register
@dataclass(frozen=True)
class Covisitation(_ItemToItem):
    """Sequential co-visitation: what follows what within `window` baskets of one user."""

    name: ClassVar[str] = "covisitation"
    window: Annotated[int, Choice((1, 2, 5, 10, 20))] = 5
    backward: Annotated[float, Choice((0.0, 0.5, 1.0))] = 0.5

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import similarity

        return similarity.covisitation(
            state.interactions, len(state.catalog), self.window, self.backward, self.neighbours
        )


@RETRIEVERS.register
@dataclass(frozen=True)
class TextCovisitation(Covisitation):
    """Co-visitation between the text neighbours of two items: an item that nobody had yet inherits from those like it.

    Each count spreads to the `alike` items of nearest text on both sides, by the exponential of `sharpness` times
    their cosine less 1; nearer than `least` they must be.
    """

    name: ClassVar[str] = "text_covisitation"
    alike: int = 20
    sharpness: float = 5.0
    least: float = 0.3

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import similarity

        spread = similarity.text_neighbours(state.vectors, self.alike, self.sharpness, self.least)
        return similarity.between(spread, super().matrix(state), self.neighbours)


@RETRIEVERS.register
@dataclass(frozen=True)
class Lexical(_ItemToItem):
    """Items whose titles and brands share rare words, by the cosine of their TF-IDF vectors.

    What an encoder smooths over counts here: a brand, a shade, a model number. Words that more than `most_items`
    items have tell nothing.
    """

    name: ClassVar[str] = "lexical"
    refit_per_cut: ClassVar[bool] = False
    newest: Newest = 10
    neighbours: int = 200
    most_items: int = 5_000

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import similarity

        return similarity.shared_words(state.catalog, self.most_items, self.neighbours)

    def grow(self, arrays: Stored, state: State) -> Stored:
        """Compare the new items with all, by how rare words are now."""
        from scipy import sparse

        from recsys.retrieval import similarity

        old = len(arrays["indptr"]) - 1
        padded = ItemToItem.from_arrays(super().grow(arrays, state), self.decay, self.newest).neighbours
        new = similarity.shared_words(state.catalog, self.most_items, self.neighbours, first=old).tocoo()
        # What a new item says of an old one, that one says of it: the cosine is the same both ways.
        back = new.col < old
        turned = sparse.csr_matrix((new.data[back], (new.col[back], new.row[back])), shape=new.shape)
        return ItemToItem.of((padded + new + turned).tocsr(), self.decay, self.newest).arrays()


@RETRIEVERS.register
@dataclass(frozen=True)
class ItemKNN(_ItemToItem):
    """Item-based nearest neighbours by the cosine between user sets."""

    name: ClassVar[str] = "item_knn"
    decay: Decay = 1.0
    newest: Newest = 200
    shrink: Annotated[float, Choice((1.0, 10.0, 50.0))] = 10.0

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import similarity

        return similarity.cosine(state.interactions, len(state.catalog), self.shrink, self.neighbours)


@RETRIEVERS.register
@dataclass(frozen=True)
class Ease(_ItemToItem):
    """EASE: a linear autoencoder in closed form, over the most frequent items."""

    name: ClassVar[str] = "ease"
    penalty: Annotated[float, Choice((30.0, 100.0, 300.0))] = 100.0
    max_items: int = 12_500

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import similarity

        return similarity.ease(state.interactions, len(state.catalog), self.penalty, self.max_items, self.neighbours)


@RETRIEVERS.register
@dataclass(frozen=True)
class Slit(_ItemToItem):
    """Linear model from the decayed history to the next items, in closed form, over the most frequent items."""

    name: ClassVar[str] = "slit"
    penalty: Annotated[float, Choice((5.0, 20.0, 80.0))] = 20.0
    max_items: int = 12_500
    source_decay: Annotated[float, Choice((0.3, 0.5, 0.7))] = 0.5
    ahead: int = 5
    span: int = 8

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import similarity

        return similarity.transitions(state.interactions, len(state.catalog), self.penalty, self.max_items,
                                      self.source_decay, self.ahead, self.span, self.neighbours)  # fmt: skip
