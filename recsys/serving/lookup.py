"""The users and items of a bundle by their ids, and the history of each user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from recsys.arrays import IntArray, LongArray
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.persistence import load_histories
from recsys.errors import UnknownIdError
from recsys.serving import requests
from recsys.serving.requests import Events, SessionReader
from recsys.serving.sessions import LogClock, join_session
from recsys.serving.unknown import UnknownItems
from recsys.types import Histories, Id

REFUSE = UnknownItems()


class EntityLookup:
    """Rows of users and items by their ids, and histories by the rows of users.

    An id that the bundle does not hold raises `UnknownIdError`, one that no bundle could hold `RequestError`.
    """

    def __init__(self, bundle: Bundle, session_reader: SessionReader) -> None:
        self.user_ids: pl.Series = bundle.tables["users"]["user_id"]
        self._session_reader = session_reader
        self.stored = load_histories(bundle)
        self._clock = LogClock.of(self.stored, session_reader.ordered)
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
        # Near ids would be those of other people.
        shown = requests.show_value(user_id)
        return UnknownIdError(f"user {shown} is not among the {len(self.user_ids)} users of this bundle")

    def item_rows(self, argument: str, item_ids: Sequence[Id], unknown: UnknownItems = REFUSE) -> LongArray:
        """Return the rows of items `(n,)`, in the order given; -1 where one is unknown and `unknown` ignores that.

        `argument` is the name of what holds them.
        """
        rows = requests.find_ids(self._sorted_ids, item_ids)
        unknown.check(argument, item_ids, rows, len(self._order))
        return np.where(rows >= 0, self._order[rows], -1) if len(rows) else rows

    def item_row(self, item_id: Id) -> int:
        """Return the row of one item."""
        return int(self.item_rows("item_id", [item_id])[0])

    def distinct_item_rows(self, argument: str, items: Iterable[Id] | None, unknown: UnknownItems) -> IntArray:
        """Return the rows of known items, ascending and distinct. `argument` is what holds them."""
        if items is None:
            return np.zeros(0, dtype=np.int32)
        rows = self.item_rows(argument, requests.parse_ids(argument, items), unknown)
        return np.unique(rows[rows >= 0]).astype(np.int32)

    def history_for_request(self, user_id: Id, history: Events | None, strict: bool,
                            unknown: UnknownItems = REFUSE) -> Histories:  # fmt: skip
        """Return the history of one user with the events of the request that the bundle does not know yet.

        The present is just after the last of them. See `sessions.join_session`.

        Raises:
            RequestError: An event cannot be read.
            UnknownIdError: The bundle does not hold an item of the events, or with `strict` the user.
        """
        requests.check_user_id(user_id)
        row = self.user_row(user_id, requests.check_flag("strict", strict))
        known = self.histories(np.array([row]))
        session = None if history is None else self._session_reader.read(history)
        if session is None or not session.items:
            return known
        items = self.item_rows("history", session.items, unknown)
        return join_session(known, items, session.time, session.weight, self._clock)

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
