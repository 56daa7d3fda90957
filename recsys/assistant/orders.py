"""What customers bought, as a bundle knows it: one customer's own orders, and what many bought together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

from recsys.arrays import LongArray
from recsys.assistant.facts import Order
from recsys.config import Config
from recsys.serving import requests
from recsys.serving.recommender import Recommender
from recsys.types import Id

FEWEST_CUSTOMERS = 5  # who bought both items, before anybody hears of it: no customer can be told from the answer


@dataclass(frozen=True)
class Purchase:
    """One event of a customer: the row of the item, and the moment as the bundle keeps it."""

    row: int
    time: int


class Purchases:
    """The purchases of a bundle."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        config = recommender.config
        self.dated = config.data.clock == "time"
        self._zone = ZoneInfo(config.data.timezone)
        self._worth = _worth_of_purchases(config)

    @property
    def known(self) -> bool:
        """Whether purchases can be told from other events: the bundle keeps what an event is worth, not its kind."""
        return self._worth is None or bool(self._worth)

    def of_user(self, user_id: Id) -> list[Purchase]:
        """Return what one user bought, newest first; empty for a user that the bundle does not hold."""
        row = int(requests.find_ids(self._recommender.user_ids, [user_id])[0])
        if row < 0:
            return []
        histories = self._recommender.histories
        span = slice(int(histories.offsets[row]), int(histories.offsets[row + 1]))
        bought = self._bought[span]
        item, time = histories.item[span][bought], histories.time[span][bought]
        return [Purchase(int(i), int(t)) for i, t in zip(item[::-1], time[::-1], strict=True)]

    def orders(self, purchases: list[Purchase]) -> tuple[Order, ...]:
        """Group purchases of one user by moment, in the order given."""
        catalog = self._recommender.catalog
        grouped: dict[int, list[int]] = {}
        for purchase in purchases:
            grouped.setdefault(purchase.time, []).append(purchase.row)
        return tuple(
            Order(self.order_id(time), tuple(catalog.ids[r] for r in rows), tuple(catalog.title(r) for r in rows))
            for time, rows in grouped.items()
        )

    def order_id(self, time: int) -> str:
        """Return what tells the orders of one customer apart."""
        return _utc(time).isoformat().replace("+00:00", "Z") if self.dated else str(time)

    def day(self, time: int) -> date:
        """Return the day of a moment where the shop is."""
        return _utc(time).astimezone(self._zone).date()

    @cached_property
    def counts(self) -> LongArray:
        """How often each item was bought `(I,)`."""
        bought = self._recommender.histories.item[self._bought]
        return np.bincount(bought, minlength=len(self._recommender.catalog))

    def companions(self, row: int, k: int) -> list[tuple[int, int]]:
        """Return what the buyers of an item also bought.

        The measure is the cosine of two items over customers (Sarwar et al. 2001): customers of both, over the root of
        the product of the customers of each. Fewer than `FEWEST_CUSTOMERS` of both are never told.

        Args:
            row: The item.
            k: How many companions at most.

        Returns:
            For each companion its row and how many customers bought both, best first.
        """
        user, item = self._pairs
        buyers = user[item == row]
        of_buyers = np.isin(user, buyers)
        both = np.bincount(item[of_buyers], minlength=len(self._recommender.catalog))
        both[row] = 0
        cosine = both / np.sqrt(np.maximum(self._buyers, 1) * max(len(buyers), 1))
        cosine[both < FEWEST_CUSTOMERS] = 0
        best = np.argsort(-cosine, kind="stable")[:k]
        return [(int(other), int(both[other])) for other in best if cosine[other] > 0]

    @cached_property
    def _bought(self) -> np.ndarray:
        weight = self._recommender.histories.weight
        return np.ones(len(weight), dtype=bool) if self._worth is None else np.isin(weight, list(self._worth))

    @cached_property
    def _pairs(self) -> tuple[LongArray, LongArray]:
        """Each customer and item once: two arrays `(n,)`."""
        histories, n_items = self._recommender.histories, len(self._recommender.catalog)
        key = np.unique(histories.owner[self._bought] * n_items + histories.item[self._bought])
        return key // n_items, key % n_items

    @cached_property
    def _buyers(self) -> LongArray:
        return np.bincount(self._pairs[1], minlength=len(self._recommender.catalog))


def _worth_of_purchases(config: Config) -> frozenset[np.float32] | None:
    """Return what purchases are worth among the events; None where all are purchases, empty where it cannot be told.

    Targets are the purchases: the kinds of event that the engine predicts.
    """
    table = config.data.interactions
    targets = set(table.targets or table.events)
    others = {worth for kind, worth in table.events.items() if kind not in targets}
    worth = {table.events[kind] for kind in targets if kind in table.events}
    if not table.events or not others:
        return None
    return frozenset() if worth & others else frozenset(np.float32(value) for value in worth)


def _utc(time: int) -> datetime:
    return datetime.fromtimestamp(time / 1_000_000, UTC)
