"""The users and items of a bundle by their ids, and the history of each user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from recsys.arrays import IntArray, LongArray
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.persistence import load_histories
from recsys.errors import RequestError, UnknownIdError
from recsys.serving import requests
from recsys.serving.requests import Events, SessionReader
from recsys.types import Histories, Id


class EntityLookup:
    """Rows of users and items by their ids, and histories by the rows of users.

    An id that the bundle does not hold raises `UnknownIdError`, one that no bundle could hold `RequestError`.
    """

    def __init__(self, bundle: Bundle, session_reader: SessionReader) -> None:
        self.user_ids: pl.Series = bundle.tables["users"]["user_id"]
        self._session_reader = session_reader
        self.stored = load_histories(bundle)
        self._order = bundle.arrays["item_order"].astype(np.int64)
        self._sorted_ids: pl.Series = bundle.tables["catalog"]["item_id"].gather(self._order)

    def user_row(self, user_id: Id, strict: bool) -> int:
        """Return the row of a user; -1 for an unknown one, unless `strict`."""
        row = int(requests.find_ids(self.user_ids, [user_id])[0])
        if row < 0 and strict:
            raise self._unknown(user_id)
        return row

    def user_rows(self, users: Sequence[Id]) -> LongArray:
        """Return the rows of users `(n,)`."""
        rows = requests.find_ids(self.user_ids, users)
        if (rows < 0).any():
            raise self._unknown(users[int(np.argmin(rows))])
        return rows

    def _unknown(self, user_id: Id) -> UnknownIdError:
        shown = requests.show_value(user_id)
        similar = difflib.get_close_matches(shown.strip("'"), [str(u) for u in self.user_ids.head(100_000)], n=3)
        hint = f"; near ones: {', '.join(similar)}" if similar else ""
        return UnknownIdError(f"user {shown} is not among the {len(self.user_ids)} users of this bundle{hint}")

    def item_rows(self, item_ids: Sequence[Id]) -> LongArray:
        """Return the rows of items `(n,)`, in the order given."""
        rows = requests.find_ids(self._sorted_ids, item_ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            shown = ", ".join(requests.show_value(item_ids[row]) for row in unknown[:10])
            count = f"{len(unknown)} of {len(rows)} items"
            raise UnknownIdError(f"{count} are not in the catalogue of {len(self._order)}: {shown}")
        return self._order[rows]

    def distinct_item_rows(self, name: str, items: Iterable[Id] | None) -> IntArray:
        """Return the rows of items, ascending and distinct. `name` is the argument that holds them, for errors."""
        if items is None:
            return np.zeros(0, dtype=np.int32)
        return np.unique(self.item_rows(requests.parse_ids(name, items))).astype(np.int32)

    def history_for_request(self, user_id: Id, history: Events | None, strict: bool) -> Histories:
        """Return the history of one user, with the events of the request; the present is just after the last of them.

        Raises:
            RequestError: An event cannot be read, or is no newer than what the bundle knows of the user.
            UnknownIdError: The bundle does not hold an item of the events, or with `strict` the user.
        """
        requests.check_user_id(user_id)
        row = self.user_row(user_id, requests.check_flag("strict", strict))
        known = self.histories(np.array([row]))
        session = None if history is None else self._session_reader.read(history)
        if session is None or not session.items:
            return known
        items = self.item_rows(session.items).astype(np.int32)
        now = int(known.as_of[0])
        time = now + np.arange(len(items)) if session.time is None else session.time
        newest = known.time.max(initial=requests.EARLIEST)
        if time[0] <= newest:
            raise RequestError(
                f"history: {int((time <= newest).sum())} of {len(time)} events are no newer than the newest one that "
                f"the bundle knows of user {requests.show_value(user_id)}, at {newest}; give only what came after"
            )
        return Histories(known.user, known.offsets + np.array([0, len(items)]), np.concatenate([known.item, items]),
                         np.concatenate([known.time, time]), np.concatenate([known.weight, session.weight]),
                         np.array([max(now, int(time[-1]) + 1)]), known.text_vectors)  # fmt: skip

    def histories(self, rows: LongArray) -> Histories:
        """Return the histories of users by row `(n,)`; row -1 is a user without history."""
        stored = self.stored
        if (rows >= 0).all():
            return stored.select(rows)
        nothing = np.zeros(0, dtype=np.int64)
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        text_vectors = None
        if stored.text_vectors is not None:
            text_vectors = np.zeros((len(rows), stored.text_vectors.shape[1]), dtype=np.float32)
        return Histories(rows.astype(np.int32), offsets, nothing.astype(np.int32), nothing, nothing.astype(np.float32),
                         np.full(len(rows), stored.as_of.max(initial=0)), text_vectors)  # fmt: skip
