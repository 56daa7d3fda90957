"""Who and what a bundle knows: its users, its items, and what each user did."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from recsys.arrays import IntArray, LongArray
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.persistence import remembered
from recsys.config import Config
from recsys.errors import RequestError, UnknownIdError
from recsys.serving import requests
from recsys.serving.requests import Events
from recsys.types import Histories, Id


class EntityLookup:
    """Rows of users and items by their ids, and histories by the rows of users.

    An id that the bundle does not hold raises `UnknownIdError`, one that no bundle could hold `RequestError`.
    """

    def __init__(self, bundle: Bundle, config: Config) -> None:
        self.user_ids: pl.Series = bundle.tables["users"]["user_id"]
        self._config = config
        self._histories = remembered(bundle)
        self._order = bundle.arrays["item_order"].astype(np.int64)
        self._sorted_ids: pl.Series = bundle.tables["catalog"]["item_id"].gather(self._order)

    def user(self, user_id: Id, strict: bool) -> int:
        """Row of a user; -1 for an unknown one, unless `strict`."""
        row = int(requests.places(self.user_ids, [user_id])[0])
        if row < 0 and strict:
            raise self._unknown(user_id)
        return row

    def users(self, users: Sequence[Id]) -> LongArray:
        """Rows of some users `(n,)`."""
        rows = requests.places(self.user_ids, users)
        if (rows < 0).any():
            raise self._unknown(users[int(np.argmin(rows))])
        return rows

    def _unknown(self, user_id: Id) -> UnknownIdError:
        told = requests.shown(user_id)
        near = difflib.get_close_matches(told.strip("'"), [str(u) for u in self.user_ids.head(100_000)], n=3)
        hint = f"; near ones: {', '.join(near)}" if near else ""
        return UnknownIdError(f"user {told} is not among the {len(self.user_ids)} users of this bundle{hint}")

    def items(self, item_ids: Sequence[Id]) -> LongArray:
        """Rows of some items `(n,)`."""
        rows = requests.places(self._sorted_ids, item_ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            told = ", ".join(requests.shown(item_ids[place]) for place in unknown[:10])
            some = f"{len(unknown)} of {len(rows)} items"
            raise UnknownIdError(f"{some} are not in the catalogue of {len(self._order)}: {told}")
        return self._order[rows]

    def item_rows(self, name: str, items: Iterable[Id] | None) -> IntArray:
        """Rows of some items, ascending and distinct."""
        if items is None:
            return np.zeros(0, dtype=np.int32)
        return np.unique(self.items(requests.listed(name, items))).astype(np.int32)

    def history_for_request(self, user_id: Id, history: Events | None, strict: bool) -> Histories:
        """What one user did, with the events that the request tells; asked just after the last of them."""
        requests.identity(user_id)
        row = self.user(user_id, requests.flag("strict", strict))
        known = self.histories(np.array([row]))
        told = None if history is None else requests.session(history, self._config)
        if told is None or not told.items:
            return known
        items = self.items(told.items).astype(np.int32)
        now = int(known.as_of[0])
        time = now + np.arange(len(items)) if told.time is None else told.time
        newest = known.time.max(initial=requests.EARLIEST)
        if time[0] <= newest:
            raise RequestError(
                f"history: {int((time <= newest).sum())} of {len(time)} events are no newer than the newest one that "
                f"the bundle knows of user {requests.shown(user_id)}, at {newest}; give only what came after"
            )
        return Histories(known.user, known.offsets + np.array([0, len(items)]), np.concatenate([known.item, items]),
                         np.concatenate([known.time, time]), np.concatenate([known.weight, told.weight]),
                         np.array([max(now, int(time[-1]) + 1)]), known.text_vectors)  # fmt: skip

    def histories(self, rows: LongArray) -> Histories:
        """What the users of some rows did; row -1 is a user without history."""
        stored = self._histories
        if (rows >= 0).all():
            return stored.select(rows)
        nothing = np.zeros(0, dtype=np.int64)
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        told = stored.text_vectors
        untold = None if told is None else np.zeros((len(rows), told.shape[1]), dtype=np.float32)
        return Histories(rows.astype(np.int32), offsets, nothing.astype(np.int32), nothing, nothing.astype(np.float32),
                         np.full(len(rows), stored.as_of.max(initial=0)), untold)  # fmt: skip
