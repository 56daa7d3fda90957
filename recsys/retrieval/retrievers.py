"""Retrievers: from histories to the items each asker may want.

A retriever is a dataclass of settings. `fit(state)` returns a `Fitted` one, which holds plain arrays and answers
any histories: users of the table and live sessions alike; `restore` rebuilds it from those arrays, and `grow` makes
room in them for items that joined the catalogue since.
`depth` is how many items it proposes; `depth: 0` means that it only scores what others propose.

The statistics are imported where something is learnt: they bring scipy, which no answer needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Choice, Range
from recsys.retrieval import tower
from recsys.retrieval.fitted import (
    Fitted,
    FittedPopularity,
    FittedRepeat,
    FittedSemantic,
    FittedTower,
    ItemToItem,
)
from recsys.retrieval.index import AUTO, EXACT, FLOOR, QUERIES, Index, mixtures
from recsys.types import DAY, FloatArray, Histories, Interactions, State

Depth = Annotated[int, Field(ge=0), Range(0.5, 2, log=True, relative=True)]
Decay = Annotated[float, Range(0.3, 1)]
Newest = Annotated[int, Range(2, 500, log=True)]
Stored = Mapping[str, NDArray[Any]]


class Retriever(Protocol):
    """Settings that can be fitted, or restored from the arrays of an earlier fit.

    One that is not `dated` learns from the catalogue alone: fits at different moments are the same.
    """

    dated: ClassVar[bool]

    @property
    def depth(self) -> int:
        """How many items to propose to each asker."""

    def fit(self, state: State) -> Fitted:
        """Learn from what was known at the state's moment."""

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        """Rebuild what `Fitted.arrays` gave; `vectors` are the item vectors `(I, d)`."""

    def grow(self, arrays: Stored, state: State) -> Stored:
        """Return the arrays for a catalogue with further items at its end, of which no interaction tells.

        Old pairs keep their scores, and no two old items are compared.
        """


@dataclass(frozen=True)
class Semantic:
    """Items whose text vectors lie nearest to the decayed sum of the history's, by inner product in FAISS.

    With `query: text` the asker's own encoded behaviour text is the query (the sum stands in where there is none).
    `index` is `auto` (exact while that takes a few milliseconds), `Flat` (exact) or a FAISS factory string, `search`
    how far it looks (`nprobe=32`, `efSearch=256`); an approximate index that finds less than `floor` of the true 100
    nearest is refused when it is built. Events only tell how far it must look.
    """

    dated: ClassVar[bool] = False
    depth: Depth = 200
    decay: Decay = 0.8
    newest: Newest = 10
    query: Literal["pool", "text"] = "pool"
    index: str = AUTO
    search: str = ""
    floor: float = FLOOR

    def fit(self, state: State) -> Fitted:
        if not self.depth:
            return self._over(state.vectors, None)
        queries = self.asked(state)
        return self._over(state.vectors, Index.chosen(state.vectors, queries, self.index, self.search, self.floor))

    def asked(self, state: State) -> FloatArray:
        """What an index is measured with `(q, d)`: queries of known histories, and mixtures where these are few."""
        pooled = self._over(state.vectors, None).ask(_some(state.interactions, self.newest)).queries
        return np.concatenate([pooled, mixtures(state.vectors, QUERIES - len(pooled))])

    def restore(self, arrays: Stored, vectors: FloatArray) -> FittedSemantic:
        return self._over(vectors, _restored(arrays, vectors, self.index) if self.depth else None)

    def _over(self, vectors: FloatArray, index: Index | None) -> FittedSemantic:
        return FittedSemantic(vectors, index, self.decay, self.newest, self.query)

    def grow(self, arrays: Stored, state: State) -> Stored:
        if "index" not in arrays:
            return {}
        queries = self.asked(state)
        return {"index": Index.grown(arrays["index"], state.vectors, queries, self.index, self.floor).to_bytes()}


@dataclass(frozen=True)
class Tower:
    """A learned user tower over frozen text vectors: attention over the `length` newest events asks in FAISS.

    Learns from every event and the ones before it, with the sampled softmax; see `recsys.retrieval.tower`. `index`
    and `floor` as for `Semantic`, measured with what known histories ask.
    """

    dated: ClassVar[bool] = True
    depth: Depth = 200
    width: int = 128
    length: int = 20
    epochs: Annotated[int, Choice((6, 12, 20))] = 12
    dropout: Annotated[float, Choice((0.3, 0.5))] = 0.5
    index: str = AUTO
    floor: float = FLOOR
    seed: int = 0

    def fit(self, state: State) -> Fitted:
        return self.over(tower.train(state, self.width, self.length, self.epochs, self.dropout, self.seed), state)

    def over(self, weights: tower.Weights, state: State) -> Fitted:
        """Index the items of weights that were learnt."""
        if not self.depth:
            return FittedTower(weights, None)
        queries = tower.queries(weights, _some(state.interactions, self.length))
        return FittedTower(weights, Index.chosen(weights["items"], queries, self.index, floor=self.floor))

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        weights = {name: array for name, array in arrays.items() if name != "index"}
        return FittedTower(weights, _restored(arrays, weights["items"], self.index) if self.depth else None)

    def grow(self, arrays: Stored, state: State) -> Stored:
        grown = tower.grown(arrays, state.vectors)
        if "index" not in arrays:
            return grown
        queries = tower.queries(grown, _some(state.interactions, self.length))
        return grown | {
            "index": Index.grown(arrays["index"], grown["items"], queries, self.index, self.floor).to_bytes()
        }


def _some(events: Interactions, newest: int) -> Histories:
    """The newest events of at most `QUERIES` users that have any, as of their last."""
    users = np.flatnonzero(np.diff(events.offsets))
    users = users[np.linspace(0, len(users) - 1, min(QUERIES, len(users))).astype(np.int64)]
    return events.histories(users, events.time[events.offsets[1:][users] - 1] + 1, newest)


def _restored(arrays: Stored, vectors: FloatArray, index: str) -> Index:
    """The stored index; `auto` stores none where it is exact."""
    exact = index == EXACT or (index == AUTO and "index" not in arrays)
    return Index(vectors) if exact else Index.from_bytes(arrays["index"], vectors)


@dataclass(frozen=True)
class _ItemToItem(ABC):
    """What the item-to-item retrievers share: how a history is weighted, and how many neighbours an item keeps."""

    dated: ClassVar[bool] = True
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


@dataclass(frozen=True)
class Covisitation(_ItemToItem):
    """Sequential co-visitation: what follows what within `window` baskets of one user."""

    window: Annotated[int, Choice((1, 2, 5, 10, 20))] = 5
    backward: Annotated[float, Choice((0.0, 0.5, 1.0))] = 0.5

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import statistics

        return statistics.covisitation(
            state.interactions, len(state.catalog), self.window, self.backward, self.neighbours
        )


@dataclass(frozen=True)
class TextCovisitation(Covisitation):
    """Co-visitation between the text neighbours of two items: an item that nobody had yet inherits from those like it.

    Each count spreads to the `alike` items of nearest text on both sides, by the exponential of `sharpness` times
    their cosine less 1; nearer than `least` they must be.
    """

    alike: int = 20
    sharpness: float = 5.0
    least: float = 0.3

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import statistics

        spread = statistics.text_neighbours(state.vectors, self.alike, self.sharpness, self.least)
        return statistics.between(spread, super().matrix(state), self.neighbours)


@dataclass(frozen=True)
class Lexical(_ItemToItem):
    """Items whose titles and brands share rare words, by the cosine of their TF-IDF vectors.

    What an encoder smooths over counts here: a brand, a shade, a model number. Words that more than `most_items`
    items have tell nothing.
    """

    dated: ClassVar[bool] = False
    newest: Newest = 10
    neighbours: int = 200
    most_items: int = 5_000

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import statistics

        return statistics.shared_words(state.catalog, self.most_items, self.neighbours)

    def grow(self, arrays: Stored, state: State) -> Stored:
        """Compare the new items with all, by how rare words are now."""
        from scipy import sparse

        from recsys.retrieval import statistics

        old = len(arrays["indptr"]) - 1
        padded = ItemToItem.from_arrays(super().grow(arrays, state), self.decay, self.newest).neighbours
        new = statistics.shared_words(state.catalog, self.most_items, self.neighbours, first=old).tocoo()
        # What a new item says of an old one, that one says of it: the cosine is the same both ways.
        back = new.col < old
        turned = sparse.csr_matrix((new.data[back], (new.col[back], new.row[back])), shape=new.shape)
        return ItemToItem.of((padded + new + turned).tocsr(), self.decay, self.newest).arrays()


@dataclass(frozen=True)
class ItemKNN(_ItemToItem):
    """Item-based nearest neighbours by the cosine between user sets."""

    decay: Decay = 1.0
    newest: Newest = 200
    shrink: Annotated[float, Choice((1.0, 10.0, 50.0))] = 10.0

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import statistics

        return statistics.cosine(state.interactions, len(state.catalog), self.shrink, self.neighbours)


@dataclass(frozen=True)
class Ease(_ItemToItem):
    """EASE: a linear autoencoder in closed form, over the most frequent items."""

    penalty: Annotated[float, Choice((30.0, 100.0, 300.0))] = 100.0
    max_items: int = 12_500

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import statistics

        return statistics.ease(state.interactions, len(state.catalog), self.penalty, self.max_items, self.neighbours)


@dataclass(frozen=True)
class Slit(_ItemToItem):
    """Linear model from the decayed history to the next items, in closed form, over the most frequent items."""

    penalty: Annotated[float, Choice((5.0, 20.0, 80.0))] = 20.0
    max_items: int = 12_500
    source_decay: Annotated[float, Choice((0.3, 0.5, 0.7))] = 0.5
    ahead: int = 5
    span: int = 8

    def matrix(self, state: State) -> Any:
        from recsys.retrieval import statistics

        return statistics.transitions(state.interactions, len(state.catalog), self.penalty, self.max_items,
                                      self.source_decay, self.ahead, self.span, self.neighbours)  # fmt: skip


@dataclass(frozen=True)
class Popularity:
    """What all users do most. With `half_life_days` an event counts half as much each time that span passes."""

    dated: ClassVar[bool] = True
    depth: Depth = 50
    half_life_days: Annotated[float | None, Choice((7.0, 14.0, 28.0, 56.0))] = None

    def fit(self, state: State) -> Fitted:
        events = state.interactions
        weight = events.weight.astype(np.float64)
        if self.half_life_days is not None and state.as_of is not None:
            weight = weight * 0.5 ** ((state.as_of - events.time) / (self.half_life_days * DAY))
        count = np.bincount(events.item, weights=weight, minlength=len(state.catalog))
        return FittedPopularity(count.astype(np.float32))

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        return FittedPopularity(arrays["count"])

    def grow(self, arrays: Stored, state: State) -> Stored:
        return {"count": np.pad(arrays["count"], (0, len(state.catalog) - len(arrays["count"])))}


@dataclass(frozen=True)
class Repeat:
    """What the asker already had, most often and most lately first: for replenishment and reordering."""

    dated: ClassVar[bool] = False
    depth: Depth = 100
    decay: Decay = 0.95
    newest: Newest = 1000

    def fit(self, state: State) -> Fitted:
        return self.restore({}, state.vectors)

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        return FittedRepeat(len(vectors), self.decay, self.newest)

    def grow(self, arrays: Stored, state: State) -> Stored:
        return {}


RETRIEVERS: dict[str, type[Retriever]] = {
    "semantic": Semantic,
    "tower": Tower,
    "covisitation": Covisitation,
    "text_covisitation": TextCovisitation,
    "lexical": Lexical,
    "item_knn": ItemKNN,
    "ease": Ease,
    "slit": Slit,
    "popularity": Popularity,
    "repeat": Repeat,
}
