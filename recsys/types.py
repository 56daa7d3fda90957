"""The types that all packages share: frozen, shape-checked arrays. Row numbers inside, external ids at the edge.

Throughout, `U` users, `I` items, `n` rows, `r` retrievers, `d` dimensions. A *ragged* array holds one list
per user: the list of user `u` is `values[offsets[u]:offsets[u + 1]]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from recsys.arrays import BoolArray, FloatArray, IntArray, LongArray, Rows
from recsys.errors import DataError, LeakageError
from recsys.ragged import late_events, lengths_of, moments_of, offsets_of, owners_of

Id = str | int  # of a user or an item, as the shop writes it


CATEGORY_SEPARATOR = " > "


DAY = 86_400_000_000  # microseconds


def _must_match(name: str, **lengths: int) -> None:
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{key}: {value}" for key, value in lengths.items())
        raise DataError(f"{name}: these must have one length, and have {found}")


@dataclass(frozen=True, eq=False)
class Catalog:
    """The items. Row `i` of `frame` is item `i` everywhere in the library.

    Attributes:
        frame: The columns `item_id`, `title`, `description`, `category`, `brand`, `price`, and any further ones that
            the shop keeps for filters.
    """

    frame: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    @property
    def ids(self) -> pl.Series:
        """External item ids, unique, in row order."""
        return self.frame["item_id"]

    @cached_property
    def titles(self) -> list[str]:
        """The title of each row, or its id where it has none."""
        return self.frame.select(pl.col("title").fill_null(pl.col("item_id").cast(pl.String))).to_series().to_list()

    def title(self, row: int) -> str:
        """Return the title of one row as in `titles`, without building the whole list."""
        title = self.frame["title"][row]
        return str(self.ids[row]) if title is None else title

    @cached_property
    def category_codes(self) -> tuple[IntArray, IntArray]:
        """Codes `(I,)` of the whole category path and of its parent path; -1 where there is none."""
        parts = pl.col("category").str.split(CATEGORY_SEPARATOR)
        parent = parts.list.head(parts.list.len().cast(pl.Int64) - 1).list.join(CATEGORY_SEPARATOR)
        both = self.frame.select(path="category", parent=parent)
        return codes_of(both["path"]), codes_of(both["parent"])

    @property
    def top_categories(self) -> pl.Series:
        """The first part of each item's category path `(I,)`; null where it has none."""
        first = pl.col("category").cast(pl.String).str.split(CATEGORY_SEPARATOR).list.first()
        return self.frame.select(first.replace("", None)).to_series()

    @cached_property
    def brand_codes(self) -> IntArray:
        """Codes `(I,)` of the brands; -1 where there is none."""
        return codes_of(self.frame["brand"])


def codes_of(labels: pl.Series) -> IntArray:
    """Encode a column of strings as dense codes `(n,)` in alphabetical order; -1 for null and empty."""
    rank = labels.replace("", None).rank("dense").cast(pl.Int32)
    return (rank.fill_null(0) - 1).to_numpy()


@dataclass(frozen=True, eq=False)
class Interactions:
    """The events: arrays `(n,)`, sorted by user, then time, then file order.

    Attributes:
        user: Row of the user.
        item: Row of the item.
        time: Microseconds since 1970 (UTC), or any growing integer where only the order is known.
        weight: What the config says an event of that kind is worth.
        target: Whether the event is of a kind that the engine predicts.
        n_users: Users in all, with events or without.

    Raises:
        DataError: lengths differ, rows are not sorted, or a user row lies outside `n_users`.
    """

    user: IntArray
    item: IntArray
    time: LongArray
    weight: FloatArray
    target: BoolArray
    n_users: int

    def __post_init__(self) -> None:
        _must_match("interactions", user=len(self.user), item=len(self.item), time=len(self.time),
                    weight=len(self.weight), target=len(self.target))  # fmt: skip
        if len(self.user) > 1:
            step = np.diff(self.user)
            if (step < 0).any() or ((step == 0) & (np.diff(self.time) < 0)).any():
                raise DataError("interactions: rows must be sorted by user, then time")
        if len(self.user) and (self.user[0] < 0 or self.user[-1] >= self.n_users):
            raise DataError(f"interactions: user rows must lie in [0, {self.n_users})")

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def offsets(self) -> LongArray:
        """Ragged offsets `(U + 1,)`: the events of each user."""
        return offsets_of(np.bincount(self.user, minlength=self.n_users))

    def take(self, rows: Rows | BoolArray) -> Interactions:
        """Return some of the events, by a mask `(n,)` or by ascending row numbers."""
        return Interactions(
            self.user[rows], self.item[rows], self.time[rows], self.weight[rows], self.target[rows], self.n_users
        )

    def histories(self, users: Rows, as_of: LongArray, newest: int | None = None) -> Histories:
        """Return the histories of some users.

        Args:
            users: Rows of the users `(U,)`.
            as_of: The moment of each user's query `(U,)`.
            newest: How many of the newest events of each user to keep; None for all.

        Raises:
            LeakageError: one of these events lies at or after the moment of its user.
        """
        ends = self.offsets[1:][users]
        lengths = ends - self.offsets[:-1][users]
        lengths = lengths if newest is None else np.minimum(lengths, newest)
        offsets = offsets_of(lengths)
        rows = np.repeat(ends - lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Histories(users.astype(np.int32), offsets, self.item[rows], self.time[rows], self.weight[rows], as_of)


@dataclass(frozen=True, eq=False)
class Histories:
    """A batch of `U` queries: what each user did before the moment of the query, ragged, oldest first.

    Every retriever and feature sees users in this one form: rows of a table, live sessions and labelled training users.

    Attributes:
        user: Row of a known user, or -1 `(U,)`.
        offsets: Ragged offsets of the events `(U + 1,)`.
        item: Item row of each event `(n,)`.
        time: Time of each event `(n,)`.
        weight: Weight of each event `(n,)`.
        as_of: The moment of each query `(U,)`.
        text_vectors: The encoded behaviour texts `(U, d)`, where the config asks for them.

    Raises:
        LeakageError: an event lies at or after the moment of its query.
        DataError: lengths differ.
    """

    user: IntArray
    offsets: LongArray
    item: IntArray
    time: LongArray
    weight: FloatArray
    as_of: LongArray
    text_vectors: FloatArray | None = None

    def __post_init__(self) -> None:
        _must_match("histories", user=len(self.user), offsets=len(self.offsets) - 1, as_of=len(self.as_of))
        _must_match("histories", item=len(self.item), time=len(self.time), weight=len(self.weight),
                    offsets=int(self.offsets[-1]))  # fmt: skip
        late = late_events(self.offsets, self.time, self.as_of)
        if len(late):
            first = int(late[0])
            raise LeakageError(
                f"{len(late)} of {len(self.time)} history events lie at or after the moment they are used: "
                f"event {first} has time {int(self.time[first])}, its user asks as of "
                f"{int(self.as_of[self.owner[first]])}"
            )

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def owner(self) -> LongArray:
        """The query `(n,)` of each event."""
        return owners_of(self.offsets)

    @cached_property
    def age(self) -> LongArray:
        """The number of distinct later moments in each event's history `(n,)`: 0 for all of the newest basket."""
        moment = moments_of(self.offsets, self.time)
        last = np.zeros(len(self), dtype=np.int64)
        filled = self.lengths > 0
        last[filled] = moment[self.offsets[1:][filled] - 1]
        return np.repeat(last, self.lengths) - moment

    @cached_property
    def lengths(self) -> LongArray:
        """The number of events of each query `(U,)`."""
        return lengths_of(self.offsets)

    def newest(self, events: int) -> Histories:
        """Return the same queries with at most `events` of their newest events."""
        return self if self.lengths.max(initial=0) <= events else self.select(np.arange(len(self)), events)

    def select(self, queries: Rows, newest: int | None = None) -> Histories:
        """Return the histories of some queries, or only their `newest` events, in the given order."""
        ends = self.offsets[1:][queries]
        lengths = ends - self.offsets[:-1][queries]
        lengths = lengths if newest is None else np.minimum(lengths, newest)
        offsets = offsets_of(lengths)
        rows = np.repeat(ends - lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
        vectors = None if self.text_vectors is None else self.text_vectors[queries]
        return Histories(self.user[queries], offsets, self.item[rows], self.time[rows], self.weight[rows],
                         self.as_of[queries], vectors)  # fmt: skip


@dataclass(frozen=True, eq=False)
class State:
    """What was known at one moment.

    Attributes:
        catalog: The items.
        interactions: Every event before `as_of`.
        vectors: The item vectors `(I, d)` float32, unit rows.
        as_of: The first moment that is not known; None in a per-user split, where each user has their own.

    Raises:
        LeakageError: an interaction lies at or after `as_of`.
        DataError: lengths differ.
    """

    catalog: Catalog
    interactions: Interactions
    vectors: FloatArray
    as_of: int | None = None

    def __post_init__(self) -> None:
        _must_match("state", catalog=len(self.catalog), vectors=len(self.vectors))
        if self.as_of is not None and len(self.interactions) and self.interactions.time.max() >= self.as_of:
            late = int((self.interactions.time >= self.as_of).sum())
            raise LeakageError(f"state as of {self.as_of} was given {late} interactions at or after that moment")


@dataclass(frozen=True, eq=False)
class Hits:
    """The items that one retriever found: ragged, best first, no item twice in a list, with the retriever's score."""

    offsets: LongArray
    item: IntArray
    score: FloatArray


@dataclass(frozen=True, eq=False)
class Candidates:
    """The union of what the retrievers found, ragged: items ascending in each list, none twice.

    Attributes:
        offsets: Ragged offsets `(U + 1,)`.
        item: Item rows `(n,)`.
        found: The place, from 0, at which each retriever found the item `(n, r)`; -1 where it did not.
    """

    offsets: LongArray
    item: IntArray
    found: IntArray

    def __post_init__(self) -> None:
        _must_match("candidates", item=len(self.item), found=len(self.found), offsets=int(self.offsets[-1]))

    @cached_property
    def owner(self) -> LongArray:
        """The query `(n,)` of each candidate."""
        return owners_of(self.offsets)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranked lists: ragged, best first, with the scorer's score (higher is better).

    Attributes:
        offsets: Ragged offsets `(U + 1,)`.
        item: Item rows `(n,)`.
        score: Scores `(n,)`.
        found: As in `Candidates` `(n, r)`; all -1 for an item that fills a short list.
    """

    offsets: LongArray
    item: IntArray
    score: FloatArray
    found: IntArray

    def take(self, kept: BoolArray) -> Ranking:
        """Return the same lists with only the items that a mask `(n,)` keeps."""
        count = np.bincount(owners_of(self.offsets)[kept], minlength=len(self.offsets) - 1)
        return Ranking(offsets_of(count), self.item[kept], self.score[kept], self.found[kept])


@dataclass(frozen=True)
class Tables:
    """The tables of a run, checked.

    Attributes:
        catalog: The items.
        interactions: The events, in row numbers.
        user_ids: The external ids of the users, sorted.
        clock: `time` where `Interactions.time` is microseconds, `order` where it only orders events.
        report: How many rows were kept, refused and dropped, and why.
    """

    catalog: Catalog
    interactions: Interactions
    user_ids: pl.Series
    clock: str
    report: Mapping[str, object] = field(default_factory=dict)
