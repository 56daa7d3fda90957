"""The learned user tower as a retriever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.config import Choice
from recsys.retrieval import tower_network
from recsys.retrieval.base import Answer, Arrays, Depth, Fitted, Stored
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.index import AUTO, FLOOR, Index
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.tower_network import Weights, queries
from recsys.retrieval.vector_search import VectorAnswer, index_arrays, restored_index, sample_histories
from recsys.types import Histories, Hits, State


@dataclass(frozen=True)
class OddsAnswer(VectorAnswer):
    """Queries against item vectors whose products are log odds: a score is the odds against the mean item."""

    def top(self, k: int, allowed: ItemFilter | None = None, spare: int = 0) -> Hits:
        hits = super().top(k, allowed, spare)
        return Hits(hits.offsets, hits.item, _odds(hits.score))

    def score(self, owner: LongArray, item: IntArray) -> FloatArray:
        asking = np.abs(self.queries).sum(axis=1) > 0
        return np.where(asking[owner], _odds(super().score(owner, item)), 0).astype(np.float32)


def _odds(log_odds: FloatArray) -> FloatArray:
    return np.exp(np.minimum(log_odds, 30))


@dataclass(frozen=True)
class FittedTower:
    """The tower's weights, and the index of its item vectors (None where the retriever only scores)."""

    weights: Weights
    index: Index | None

    def ask(self, histories: Histories) -> Answer:
        return OddsAnswer(queries(self.weights, histories), self.weights["items"], self.index)

    def arrays(self) -> Arrays:
        return {**self.weights, **index_arrays(self.index)}


@RETRIEVERS.register
@dataclass(frozen=True)
class Tower:
    """A learned user tower over frozen text vectors: attention over the `length` newest events asks in FAISS.

    Learns from every event and the ones before it, with the sampled softmax; see `recsys.retrieval.tower_network`. `index`
    and `floor` as for `Semantic`, measured with what known histories ask.
    """

    name: ClassVar[str] = "tower"
    refit_per_cut: ClassVar[bool] = True
    depth: Depth = 200
    width: int = 128
    length: int = 20
    epochs: Annotated[int, Choice((6, 12, 20))] = 12
    dropout: Annotated[float, Choice((0.3, 0.5))] = 0.5
    index: str = AUTO
    floor: float = FLOOR
    seed: int = 0

    def fit(self, state: State) -> Fitted:
        return self.over(
            tower_network.train(state, self.width, self.length, self.epochs, self.dropout, self.seed), state
        )

    def over(self, weights: tower_network.Weights, state: State) -> Fitted:
        """Index the items of weights that were learnt."""
        if not self.depth:
            return FittedTower(weights, None)
        queries = tower_network.queries(weights, sample_histories(state.interactions, self.length))
        return FittedTower(weights, Index.build_measured(weights["items"], queries, self.index, floor=self.floor))

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        weights = {name: array for name, array in arrays.items() if name != "index"}
        return FittedTower(weights, restored_index(arrays, weights["items"], self.index) if self.depth else None)

    def grow(self, arrays: Stored, state: State) -> Stored:
        grown = tower_network.grown(arrays, state.vectors)
        if "index" not in arrays:
            return grown
        queries = tower_network.queries(grown, sample_histories(state.interactions, self.length))
        return grown | {
            "index": Index.grown(arrays["index"], grown["items"], queries, self.index, self.floor).to_bytes()
        }
