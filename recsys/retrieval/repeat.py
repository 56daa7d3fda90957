"""What the user had before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from recsys.arrays import FloatArray
from recsys.retrieval.base import Answer, Arrays, Decay, Depth, Fitted, Newest, Retriever, Stored, decayed_events
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.sparse_answer import SparseAnswer
from recsys.types import Histories, State


@dataclass(frozen=True)
class FittedRepeat(Fitted):
    """Nothing was learned: the history is the answer."""

    n_items: int
    decay: float
    newest: int

    def ask(self, histories: Histories) -> Answer:
        rows, weight = decayed_events(histories, self.decay, self.newest)
        return SparseAnswer.sum_pairs(histories.owner[rows], histories.item[rows], weight, len(histories), self.n_items)

    def arrays(self) -> Arrays:
        return {}


@RETRIEVERS.register
@dataclass(frozen=True)
class Repeat(Retriever):
    """What the user had before, most often and most lately first: for replenishment and reordering.

    A score is the decayed sum of the item's own events.

    Attributes:
        decay: How much an event counts for each later basket of its history, to the power of their number.
        newest: How many events of a history count.
    """

    name: ClassVar[str] = "repeat"
    refit_per_cut: ClassVar[bool] = False
    depth: Depth = 100
    decay: Decay = 0.95
    newest: Newest = 1000

    def fit(self, state: State) -> Fitted:
        return self.restore({}, state.vectors)

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        return FittedRepeat(len(vectors), self.decay, self.newest)

    def grow(self, arrays: Stored, state: State) -> Stored:
        return {}

    @property
    def topic(self) -> str | None:
        return "own"
