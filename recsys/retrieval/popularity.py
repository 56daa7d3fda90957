"""What all users do most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np

from recsys.array_checks import ArrayChecks
from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.config import Choice
from recsys.retrieval.base import Answer, Arrays, Depth, Fitted, Retriever, Stored
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.registry import RETRIEVERS
from recsys.types import DAY, Histories, Hits, State


@dataclass(frozen=True)
class PopularityAnswer:
    """The same count of each item `(I,)` for every query; `order` holds the items that have any, most first."""

    count: FloatArray
    order: IntArray
    n_lists: int

    def top(self, k: int, allowed: ItemFilter | None = None, spare: int = 0) -> Hits:
        k += spare
        best = self.order[:k] if allowed is None else self._best(k, allowed)
        offsets = np.arange(self.n_lists + 1, dtype=np.int64) * len(best)
        return Hits(offsets, np.tile(best, self.n_lists), np.tile(self.count[best], self.n_lists))

    def _best(self, k: int, allowed: ItemFilter) -> IntArray:
        """Walk down the order while that is shorter than the list of allowed items; sort those otherwise."""
        for depth in allowed.depths(k, len(self.count)):
            if depth >= len(allowed):
                break
            best = self.order[:depth]
            best = best[allowed.holds(best)]
            if len(best) >= k or depth >= len(self.order):
                return best[:k]
        counted = allowed.rows[self.count[allowed.rows] > 0]
        return counted[np.argsort(-self.count[counted], kind="stable")][:k]

    def score(self, owner: LongArray, item: IntArray) -> FloatArray:
        return self.count[item]


@dataclass(frozen=True)
class FittedPopularity(Fitted):
    """The decayed sum of the event weights of each item `(I,)`."""

    count: FloatArray

    def ask(self, histories: Histories) -> Answer:
        return PopularityAnswer(self.count, self.order, len(histories))

    @cached_property
    def order(self) -> IntArray:
        """The items that have any events, most first."""
        return np.argsort(-self.count, kind="stable")[: int((self.count > 0).sum())].astype(np.int32)

    def arrays(self) -> Arrays:
        return {"count": self.count}


@RETRIEVERS.register
@dataclass(frozen=True)
class Popularity(Retriever):
    """What all users do most, the same for every query.

    Attributes:
        half_life_days: An event counts half as much each time that so many days pass; None: events do not age. Ages
            count back from the state's moment, or in a per-user split, which has none, from the newest known event.
    """

    name: ClassVar[str] = "popularity"
    depth: Depth = 50
    half_life_days: Annotated[float | None, Choice((7.0, 14.0, 28.0, 56.0))] = None

    def fit(self, state: State) -> Fitted:
        events = state.interactions
        weight = events.weight.astype(np.float64)
        if self.half_life_days is not None and len(events):
            now = int(events.time.max()) if state.as_of is None else state.as_of
            weight = weight * 0.5 ** ((now - events.time) / (self.half_life_days * DAY))
        count = np.bincount(events.item, weights=weight, minlength=len(state.catalog))
        return FittedPopularity(count.astype(np.float32))

    def restore(self, arrays: Stored, vectors: FloatArray) -> Fitted:
        return FittedPopularity(arrays["count"])

    def grow(self, arrays: Stored, state: State) -> Stored:
        return {"count": np.pad(arrays["count"], (0, len(state.catalog) - len(arrays["count"])))}

    def check_arrays(self, checks: ArrayChecks) -> None:
        checks.shape("count", np.float32, checks.n_items)

    @property
    def needs_clock(self) -> bool:
        return self.half_life_days is not None

    @property
    def topic(self) -> str | None:
        return "now" if self.half_life_days else "popular"
