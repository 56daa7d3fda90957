"""The learned user tower as a retriever."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np

from recsys.array_checks import ArrayChecks
from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.config import Choice
from recsys.retrieval import tower_network
from recsys.retrieval.base import Answer, Arrays, Depth, Fitted, Retriever, Stored
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.index import Index
from recsys.retrieval.index_spec import AUTO, FLOOR, IndexSpec
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.tower_network import Weights, encode_histories
from recsys.retrieval.vector_search import VectorAnswer, check_index, index_arrays, restore_index, sample_histories
from recsys.types import Histories, Hits, State

MAX_LOG_ODDS = 30


@dataclass(frozen=True)
class OddsAnswer(VectorAnswer):
    """Query vectors whose products with the item vectors are log odds: a score is the odds against the mean item."""

    def top(self, k: int, allowed: ItemFilter | None = None, spare: int = 0) -> Hits:
        hits = super().top(k, allowed, spare)
        return Hits(hits.offsets, hits.item, _odds(hits.score))

    def score(self, owner: LongArray, item: IntArray) -> FloatArray:
        nonzero = np.abs(self.queries).sum(axis=1) > 0
        return np.where(nonzero[owner], _odds(super().score(owner, item)), 0).astype(np.float32)


def _odds(log_odds: FloatArray) -> FloatArray:
    return np.exp(np.minimum(log_odds, MAX_LOG_ODDS))


@dataclass(frozen=True)
class FittedTower(Fitted):
    """The tower's weights, and the index of its item vectors (None where the retriever only scores)."""

    weights: Weights
    index: Index | None = None

    def ask(self, histories: Histories) -> Answer:
        return OddsAnswer(encode_histories(self.weights, histories), self.weights["items"], self.index)

    def arrays(self) -> Arrays:
        return {**self.weights, **index_arrays(self.index)}

    def with_exact_index(self) -> FittedTower:
        return replace(self, index=None if self.index is None else Index(self.index.vectors))


@RETRIEVERS.register
@dataclass(frozen=True)
class Tower(Retriever):
    """A learned user tower over frozen text vectors: attention over the newest events gives the query.

    It learns to predict every event from the ones before it, by the sampled softmax; see
    `recsys.retrieval.tower_network` for the network and its sources.

    Attributes:
        width: The width of the learned vectors.
        length: How many of the newest events of a history the attention sees.
        epochs: How often the training goes through the log, more often where that is small.
        dropout: The share of activations that training drops.
        index: As for `Semantic`, measured with the queries of known histories.
        floor: As for `Semantic`.
        seed: The seed of the training; that of the run unless it is set.
    """

    name: ClassVar[str] = "tower"
    depth: Depth = 200
    width: int = 128
    length: int = 20
    epochs: Annotated[int, Choice((6, 12, 20))] = 12
    dropout: Annotated[float, Choice((0.3, 0.5))] = 0.5
    index: str = AUTO
    floor: float = FLOOR
    seed: int = 0

    def fit(self, state: State) -> Fitted:
        weights = tower_network.train(state, self.width, self.length, self.epochs, self.dropout, self.seed)
        return self._build(weights, state)

    def _build(self, weights: Weights, state: State) -> Fitted:
        """Index the items of learned weights."""
        return FittedTower(weights, self._spec(weights, state).build() if self.depth else None)

    def _spec(self, weights: Weights, state: State) -> IndexSpec:
        queries = encode_histories(weights, sample_histories(state.interactions, self.length))
        return IndexSpec(weights["items"], queries, self.index, floor=self.floor)

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        weights = {name: array for name, array in arrays.items() if name != "index"}
        return FittedTower(weights, restore_index(arrays, weights["items"], self.index) if self.depth else None)

    def grow(self, arrays: Stored, state: State) -> Stored:
        weights = tower_network.append_items(arrays, state.vectors)
        if "index" not in arrays:
            return weights
        return weights | {"index": self._spec(weights, state).extend(arrays["index"]).to_bytes()}

    def carry_over(self, arrays: Stored, old_vectors: FloatArray, state: State, old_row: LongArray) -> Fitted:
        """Keep the weights and move them to the new catalogue: nothing is trained."""
        return self._build(tower_network.move_to_catalog(arrays, old_vectors, state.vectors, old_row), state)

    def check_arrays(self, checks: ArrayChecks) -> None:
        width = checks.shape("items", np.float32, checks.n_items, None)[1]
        checks.shape("position", np.float32, None, width - 1)
        checks.require(
            "projection" in checks.arrays,
            "items come from a tower before its scores were log odds (it holds no projection)",
        )
        check_index(checks)

    @property
    def topic(self) -> str | None:
        return "follows"
