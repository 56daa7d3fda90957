"""The nouns: frozen, shape-checked arrays. Row numbers inside, external ids only at the edge.

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
        told = ", ".join(f"{key}: {value}" for key, value in lengths.items())
        raise DataError(f"{name}: these must have one length, and have {told}")


@dataclass(frozen=True, eq=False)
class Catalog:
    """The items. Row `i` of `frame` is item `i` everywhere in the library.

    `frame` has the columns `item_id`, `title`, `description`, `category`, `brand`, `price`, and any
    further ones the shop keeps for filters.
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
        """Title of each row, the id where there is none."""
        return self.frame.select(pl.col("title").fill_null(pl.col("item_id").cast(pl.String))).to_series().to_list()

    def title(self, row: int) -> str:
        """Title of one row as in `titles`, without a list of all."""
        title = self.frame["title"][row]
        return str(self.ids[row]) if title is None else title

    @cached_property
    def category_codes(self) -> tuple[IntArray, IntArray]:
        """Codes `(I,)` of the whole category path and of its parent path; -1 where there is none."""
        parts = pl.col("category").str.split(CATEGORY_SEPARATOR)
        parent = parts.list.head(parts.list.len().cast(pl.Int64) - 1).list.join(CATEGORY_SEPARATOR)
        both = self.frame.select(path="category", parent=parent)
        return codes_of(both["path"]), codes_of(both["parent"])

    @cached_property
    def brand_codes(self) -> IntArray:
        """Codes `(I,)` of the brands; -1 where there is none."""
        return codes_of(self.frame["brand"])


def codes_of(labels: pl.Series) -> IntArray:
    """Dense codes of a column of strings, in alphabetical order; -1 for null and empty."""
    rank = labels.replace("", None).rank("dense").cast(pl.Int32)
    return (rank.fill_null(0) - 1).to_numpy()


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who did what to which item, when: `(n,)` each, sorted by user, then time, then file order.

    `time` is microseconds since 1970 (UTC), or any growing integer where only the order is known.
    `weight` is what the config says an event of that kind is worth. `target` says whether the event is of
    a kind that the engine predicts.
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
        """Ragged offsets `(U + 1,)`: the rows of each user."""
        return offsets_of(np.bincount(self.user, minlength=self.n_users))

    def take(self, rows: Rows | BoolArray) -> Interactions:
        """Return the rows asked for, by a mask or by ascending row numbers."""
        return Interactions(
            self.user[rows], self.item[rows], self.time[rows], self.weight[rows], self.target[rows], self.n_users
        )

    def histories(self, users: Rows, as_of: LongArray, newest: int | None = None) -> Histories:
        """Return the events of some users (or only the `newest` ones), each asking at their own moment `as_of` `(U,)`.

        Raises `LeakageError` (from `Histories`) if one of these events lies at or after that moment.
        """
        ends = self.offsets[1:][users]
        lengths = ends - self.offsets[:-1][users]
        lengths = lengths if newest is None else np.minimum(lengths, newest)
        offsets = offsets_of(lengths)
        rows = np.repeat(ends - lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Histories(users.astype(np.int32), offsets, self.item[rows], self.time[rows], self.weight[rows], as_of)


@dataclass(frozen=True, eq=False)
class Histories:
    """What each of `U` queries did before the moment they ask: ragged, oldest first.

    The one form in which every retriever and feature sees users: rows of a table, live sessions and labelled
    training users alike. `user` is the row of a known user or -1; `as_of` `(U,)` the moment of asking;
    `text_vectors` `(U, d)` the encoded behaviour texts where the config asks for them.

    Raises `LeakageError` if any event lies at or after its query's `as_of`.
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
        """How many distinct later moments each event's history has `(n,)`: 0 for all of the newest basket."""
        moment = moments_of(self.offsets, self.time)
        last = np.zeros(len(self), dtype=np.int64)
        filled = self.lengths > 0
        last[filled] = moment[self.offsets[1:][filled] - 1]
        return np.repeat(last, self.lengths) - moment

    @cached_property
    def lengths(self) -> LongArray:
        """Events of each query `(U,)`."""
        return lengths_of(self.offsets)

    def newest(self, events: int) -> Histories:
        """Return the same queries with at most so many of their newest events."""
        return self if self.lengths.max(initial=0) <= events else self.select(np.arange(len(self)), events)

    def select(self, queries: Rows, newest: int | None = None) -> Histories:
        """Return the histories of some queries (or only their `newest` events), in the order asked."""
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
    """What was known at one moment: the catalogue, every interaction before `as_of`, and the item vectors.

    `vectors` is `(I, d)` float32, unit rows. `as_of` is the first moment that is not known; None in a
    per-user split, where each user has a moment of their own.

    Raises `LeakageError` if an interaction lies at or after `as_of`.
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
    """What one retriever found: ragged, best first, no item twice in a list. `score` is the retriever's own."""

    offsets: LongArray
    item: IntArray
    score: FloatArray


@dataclass(frozen=True, eq=False)
class Candidates:
    """The union of what the retrievers found, ragged: items ascending in each list, none twice.

    `found` `(n, r)` is the place (from 0) at which each retriever found the item, -1 where it did not.
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
    """The answer: ragged lists of items, best first, with the scorer's score (higher is better).

    `found` `(n, r)` is carried along from the candidates; all -1 marks an item that filled a short list.
    """

    offsets: LongArray
    item: IntArray
    score: FloatArray
    found: IntArray

    def take(self, kept: BoolArray) -> Ranking:
        """Return the same lists with only the items of a mask `(n,)`."""
        count = np.bincount(owners_of(self.offsets)[kept], minlength=len(self.offsets) - 1)
        return Ranking(offsets_of(count), self.item[kept], self.score[kept], self.found[kept])


@dataclass(frozen=True)
class Tables:
    """What ingest hands on: the catalogue, the interactions in row numbers, the users' external ids (sorted).

    `clock` is `time` where `Interactions.time` is microseconds, `order` where it only orders events.
    `report` counts what happened to the rows on the way in.
    """

    catalog: Catalog
    interactions: Interactions
    user_ids: pl.Series
    clock: str
    report: Mapping[str, object] = field(default_factory=dict)
