"""The arguments of a request: each is checked and turned into numbers. Every error is a `RequestError`."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from recsys.arrays import FloatArray, LongArray
from recsys.config import nearest
from recsys.errors import RequestError
from recsys.types import Id

LARGEST = (1 << 63) - 1
LATEST = 1 << 62  # microseconds; times after it still fit 64 bits
EARLIEST = -LATEST
MOST_PINNED = 1000
FEW = 20  # up to so many ids are found faster one by one than all at once
MOST_BOOST = 1e9
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENT_KEYS = ["item_id", "event", "time"]

Event = Mapping[str, Any] | Id
Events = Sequence[Event] | pl.DataFrame


def show_value(value: object) -> str:
    """Write any value for an error message, cut to 200 characters."""
    try:
        return f"{value!r:.200}"
    except Exception:  # an integer of too many digits, or whatever a caller's own class does
        return f"a {type(value).__name__} that cannot be shown"


def check_user_id(user_id: Id) -> Id:
    """Check the id of a user, who may be unknown.

    Returns:
        The id as an answer can carry it: a text without lone surrogates, or a number of 64 bits.

    Raises:
        RequestError: It is neither a text nor a whole number.
    """
    if isinstance(user_id, bool) or not isinstance(user_id, str | int | np.integer):
        raise RequestError(f"user_id must be a text or a whole number, got {show_value(user_id)}")
    return legible_id(user_id)


def legible_id(value: object) -> Id:
    """Return an id as an answer can carry it: a text without lone surrogates, a number of 64 bits, or how it looks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return int(value) if whole and -LARGEST <= value <= LARGEST else show_value(value)  # type: ignore[call-overload,operator]


def check_flag(name: str, value: bool) -> bool:
    """Check an argument that is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise RequestError(f"{name} must be True or False, got {show_value(value)}")
    return bool(value)


def check_text(text: str, what: str = "the text to search for") -> str:
    """Check a text that `what` calls in messages: it is not blank."""
    if not isinstance(text, str) or not text.strip():
        raise RequestError(f"{what} must be words, got {show_value(text)}")
    return text.encode("utf-8", "replace").decode()


def check_count(k: object) -> int:
    """Check `k`, a whole number from 0; return it, cut to 64 bits."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
        raise RequestError(f"k must be a whole number from 0, got {show_value(k)}")
    return min(int(k), LARGEST)


def check_share(name: str, value: object) -> float:
    """Check a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or not 0 <= value <= 1:
        raise RequestError(f"{name} must be a number from 0 to 1, got {show_value(value)}")
    return float(value)


def parse_ids(name: str, ids: Iterable[Id]) -> list[Id]:
    """Return a list of ids. A single id is an error, and so is anything that is no collection."""
    single = isinstance(ids, np.ndarray) and ids.ndim != 1
    if single or isinstance(ids, str | bytes | Mapping | pl.DataFrame) or not isinstance(ids, Iterable):
        raise RequestError(f"{name} must be a list of ids, got {show_value(ids)}")
    return ids.tolist() if isinstance(ids, np.ndarray) else list(ids)


def parse_boosts(boosts: Mapping[Id, float]) -> tuple[list[Id], FloatArray]:
    """Return the items of boosts, and what is added to the score of each `(n,)`."""
    if not isinstance(boosts, Mapping):
        raise RequestError(f"boosts must map item ids to numbers, got {show_value(boosts)}")
    for item, boost in boosts.items():
        number = isinstance(boost, int | float | np.integer | np.floating) and not isinstance(boost, bool)
        if not number or not abs(boost) <= MOST_BOOST:
            raise RequestError(
                f"boosts: the boost of {show_value(item)} must be a number up to {MOST_BOOST:.0e}, "
                f"got {show_value(boost)}"
            )
    return list(boosts), np.array([float(boost) for boost in boosts.values()], dtype=np.float32)


def parse_pinned(ids: Iterable[Id]) -> list[Id]:
    """Return the ids of pinned items, at most `MOST_PINNED`."""
    items = parse_ids("pinned", ids)
    if len(items) > MOST_PINNED:
        raise RequestError(f"pinned holds {len(items)} items, and at most {MOST_PINNED} can be pinned")
    return items


def find_ids(ids: pl.Series, wanted: Sequence[Id]) -> LongArray:
    """Find ids in an ascending column.

    An id may be text where the column holds integers, as from a command line, and the other way round.

    Returns:
        The row of each id `(n,)`, -1 where the column does not hold it.
    """
    if not len(ids) or not len(wanted):
        return np.full(len(wanted), -1, dtype=np.int64)
    read = _as_text if ids.dtype == pl.String else _as_number
    if len(wanted) <= FEW:
        return np.array([_find_id(ids, read(one)) for one in wanted], dtype=np.int64)
    read_ids = [read(one) for one in wanted]
    legible = np.array([one is not None for one in read_ids])
    clean = pl.Series([ids[0] if one is None else one for one in read_ids], dtype=ids.dtype)
    place = np.minimum(_search_sorted(ids, clean), len(ids) - 1)
    return np.where((ids.gather(place) == clean).to_numpy() & legible, place, -1)


def _search_sorted(ids: pl.Series, wanted: pl.Series) -> LongArray:
    """Return how many of some ascending ids are below each wanted one `(n,)`.

    Bisection for all at once. `Series.search_sorted` would wait for ever in a forked child (`parallel.forks`).
    """
    if ids.dtype.is_integer():
        return np.searchsorted(ids.to_numpy(), wanted.to_numpy())
    low, high = np.zeros(len(wanted), dtype=np.int64), np.full(len(wanted), len(ids))
    for _ in range(len(ids).bit_length()):
        middle = np.minimum((low + high) // 2, len(ids) - 1)
        below = (ids.gather(middle) < wanted).to_numpy() & (low < high)
        low, high = np.where(below, middle + 1, low), np.where(below, high, np.minimum(high, middle))
    return low


def _find_id(ids: pl.Series, value: str | int | None) -> int:
    place = len(ids) if value is None else bisect_left(ids, value)
    return place if place < len(ids) and ids[place] == value else -1


def _as_text(wanted: object) -> str | None:
    if isinstance(wanted, bool) or not isinstance(wanted, str | int | np.integer):
        return None
    try:
        return str(wanted).encode().decode()
    except ValueError:  # a lone surrogate, or an integer of too many digits: no table holds either
        return None


def _as_number(wanted: object) -> int | None:
    if isinstance(wanted, str):
        number = int(wanted) if re.fullmatch("-?[0-9]{1,19}", wanted) else None
    else:
        number = int(wanted) if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool) else None
    return number if number is not None and -LARGEST <= number <= LARGEST else None


@dataclass(frozen=True)
class Session:
    """The events of a request, oldest first.

    Attributes:
        items: The item of each event.
        weight: What each event counts `(n,)`.
        time: When each happened `(n,)`; None where the request gives no times.
    """

    items: list[Id]
    weight: FloatArray
    time: LongArray | None


@dataclass(frozen=True)
class SessionReader:
    """Reads the events of a request as the bundle's own log was read.

    Attributes:
        weights: The weight of each kind of event.
        ordered: Whether times only order events (`clock: order`) and are plain integers.
        timezone: The IANA name of the zone of times that have none.
    """

    weights: Mapping[str, float]
    ordered: bool
    timezone: str

    def read(self, history: Events) -> Session:
        """Read events and sort them by time where they have one.

        Args:
            history: Item ids, oldest first, or mappings (rows of a polars or pandas frame) with `item_id` and, where
                known, `event` and `time`. An event without a kind counts as the least of the weights. A time is a
                datetime, an ISO text or microseconds since 1970 (under `clock: order` a growing integer), given for all
                events or for none.

        Raises:
            RequestError: An event cannot be read; the message names its number, from 1.
        """
        if isinstance(history, pl.DataFrame):
            history = history.rows(named=True)
        elif _is_pandas(history):
            history = _rows_of_pandas(history)
        scalar = isinstance(history, np.ndarray) and history.ndim != 1
        if scalar or isinstance(history, str | bytes | Mapping) or not isinstance(history, Iterable):
            raise RequestError(f"history must be a list of events or item ids, got {show_value(history)}")
        least = min(self.weights.values(), default=1.0)
        items: list[Id] = []
        weight: list[float] = []
        times: list[int] = []
        for number, event in enumerate(history, start=1):
            if not isinstance(event, Mapping):
                items.append(event)
                weight.append(least)
                continue
            _check_keys(event, number)
            items.append(event["item_id"])
            kind = event.get("event")
            weight.append(least if kind is None else self._weight(kind, number))
            if event.get("time") is not None:
                times.append(self._time(event["time"], number))
        if times and len(times) < len(items):
            raise RequestError(f"history: {len(times)} of {len(items)} events have a time; give it for all or for none")
        order = np.argsort(np.array(times, dtype=np.int64), kind="stable") if times else np.arange(len(items))
        time = np.array(times, dtype=np.int64)[order] if times else None
        return Session([items[row] for row in order], np.array(weight, dtype=np.float32)[order], time)

    def _weight(self, kind: object, number: int) -> float:
        if not isinstance(kind, str) or (self.weights and kind not in self.weights):
            hint = nearest(kind, dict(self.weights)) if isinstance(kind, str) else ""
            known = ", ".join(self.weights) or "any text"
            raise RequestError(f"history event {number}: unknown kind {show_value(kind)}{hint}; known: {known}")
        return self.weights.get(kind, 1.0)

    def _time(self, time: object, number: int) -> int:
        microseconds: int | None = None
        try:
            if isinstance(time, int | np.integer) and not isinstance(time, bool):
                microseconds = int(time)
            elif isinstance(time, str | datetime) and not self.ordered:
                moment = datetime.fromisoformat(time) if isinstance(time, str) else time
                if moment.tzinfo is None:
                    moment = moment.replace(tzinfo=ZoneInfo(self.timezone))
                microseconds = (moment - EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError):
            microseconds = None
        if microseconds is None or abs(microseconds) >= LATEST:
            wanted = "a whole number" if self.ordered else "a datetime, an ISO text, or microseconds since 1970"
            raise RequestError(f"history event {number}: time must be {wanted}, got {show_value(time)}")
        return microseconds


def _is_pandas(frame: Any) -> bool:
    return type(frame).__module__.partition(".")[0] == "pandas" and hasattr(frame, "columns")


def _rows_of_pandas(frame: Any) -> list[dict[str, Any]]:
    rows = frame.to_dict("records")
    return [{key: None if _is_missing(cell) else cell for key, cell in row.items()} for row in rows]


def _is_missing(cell: Any) -> bool:
    """Whether a cell of pandas is NaN, NaT or NA: each differs from itself, or cannot say."""
    try:
        return bool(cell != cell)
    except TypeError:
        return True


def _check_keys(event: Mapping[str, Any], number: int) -> None:
    for key in event:
        if key not in EVENT_KEYS:
            hint = nearest(key, EVENT_KEYS) if isinstance(key, str) else ""
            known = ", ".join(EVENT_KEYS)
            raise RequestError(f"history event {number}: unknown key {show_value(key)}{hint}; known: {known}")
    if "item_id" not in event:
        raise RequestError(f"history event {number} has no item_id: {show_value(dict(event))}")
