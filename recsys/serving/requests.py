"""What a request may say: each part checked, and put into numbers and rows."""

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
from recsys.config import Config, nearest
from recsys.errors import RequestError
from recsys.types import Id

LARGEST = (1 << 63) - 1
LATEST = 1 << 62  # of a time, so that the moments after it are still numbers
EARLIEST = -LATEST
MOST_PINNED = 1000
FEW = 20  # ids that are found sooner one by one than by polars, which hands each call to its own threads
MOST_BOOST = 1e9
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENT_KEYS = ["item_id", "event", "time"]

Event = Mapping[str, Any] | Id
Events = Sequence[Event] | pl.DataFrame


def shown(value: object) -> str:
    """Write any value for an error message, cut to 200 characters."""
    try:
        return f"{value!r:.200}"
    except Exception:  # an integer of too many digits, or whatever a caller's own class does
        return f"a {type(value).__name__} that cannot be shown"


def identity(user_id: Id) -> Id:
    """Check who asks: a text or a whole number, which a bundle may know or not. Raises `RequestError`.

    Returned is what an answer can carry: no half of a surrogate pair, no number beyond 64 bits.
    """
    if isinstance(user_id, str):
        return user_id.encode("utf-8", "replace").decode()
    if isinstance(user_id, bool) or not isinstance(user_id, int | np.integer):
        raise RequestError(f"user_id must be a text or a whole number, got {shown(user_id)}")
    return int(user_id) if -LARGEST <= user_id <= LARGEST else shown(user_id)


def flag(name: str, value: bool) -> bool:
    """Check a yes or no. Raises `RequestError`."""
    if not isinstance(value, bool | np.bool_):
        raise RequestError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def words(text: str) -> str:
    """Check a free text. Raises `RequestError`."""
    if not isinstance(text, str):
        raise RequestError(f"the text to search for must be a string, got {shown(text)}")
    return text


def count(k: object) -> int:
    """Check how many items are asked for: a whole number from 0, cut to 64 bits. Raises `RequestError`."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
        raise RequestError(f"k must be a whole number from 0, got {shown(k)}")
    return min(int(k), LARGEST)


def share(name: str, value: object) -> float:
    """Check a number from 0 to 1. Raises `RequestError`."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or not 0 <= value <= 1:
        raise RequestError(f"{name} must be a number from 0 to 1, got {shown(value)}")
    return float(value)


def listed(name: str, ids: Iterable[Id]) -> list[Id]:
    """Read several ids. Raises `RequestError` for a single one, and for what is no collection."""
    single = isinstance(ids, np.ndarray) and ids.ndim != 1
    if single or isinstance(ids, str | bytes | Mapping | pl.DataFrame) or not isinstance(ids, Iterable):
        raise RequestError(f"{name} must be a list of ids, got {shown(ids)}")
    return ids.tolist() if isinstance(ids, np.ndarray) else list(ids)


def boosted(boosts: Mapping[Id, float]) -> tuple[list[Id], FloatArray]:
    """Read boosts: the items, and what is added to the score of each. Raises `RequestError`."""
    if not isinstance(boosts, Mapping):
        raise RequestError(f"boosts must map item ids to numbers, got {shown(boosts)}")
    for item, boost in boosts.items():
        number = isinstance(boost, int | float | np.integer | np.floating) and not isinstance(boost, bool)
        if not number or not abs(boost) <= MOST_BOOST:
            raise RequestError(
                f"boosts: the boost of {shown(item)} must be a number up to {MOST_BOOST:.0e}, got {shown(boost)}"
            )
    return list(boosts), np.array([float(boost) for boost in boosts.values()], dtype=np.float32)


def pinned(ids: Iterable[Id]) -> list[Id]:
    """Read pinned items. Raises `RequestError` for more than `MOST_PINNED`."""
    found = listed("pinned", ids)
    if len(found) > MOST_PINNED:
        raise RequestError(f"pinned holds {len(found)} items, and at most {MOST_PINNED} can be pinned")
    return found


def places(ids: pl.Series, wanted: Sequence[Id]) -> LongArray:
    """Place of each wanted id in an ascending column `(n,)`, -1 where it is not there.

    Ids from a command line may be text where the column has integers, and the other way round.
    """
    if not len(ids) or not len(wanted):
        return np.full(len(wanted), -1, dtype=np.int64)
    read = _as_text if ids.dtype == pl.String else _as_number
    if len(wanted) <= FEW:
        return np.array([_place(ids, read(one)) for one in wanted], dtype=np.int64)
    clean = pl.Series([read(one) for one in wanted], dtype=ids.dtype)
    known = clean.fill_null(ids[0]) if clean.null_count() else clean
    place = np.minimum(ids.search_sorted(known).to_numpy().astype(np.int64), len(ids) - 1)
    return np.where(ids[place].eq_missing(clean).to_numpy(), place, -1)


def _place(ids: pl.Series, value: str | int | None) -> int:
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
    """Events newer than a bundle, oldest first: what, what each is worth, and when (None where no time is told)."""

    items: list[Id]
    weight: FloatArray
    time: LongArray | None


def session(history: Events, config: Config) -> Session:
    """Read the events of a request: item ids alone, oldest first, or mappings (rows of a frame) with their keys.

    `item_id` must be there; `event` is a kind of the config, whose weight counts (without a kind the least of the
    configured weights); `time` a datetime, an ISO text, or microseconds since 1970 (under `clock: order` any growing
    integer), told for all events or for none. Events with times are put in their order. Raises `RequestError`.
    """
    if isinstance(history, pl.DataFrame):
        history = history.rows(named=True)
    scalar = isinstance(history, np.ndarray) and history.ndim != 1
    if scalar or isinstance(history, str | bytes | Mapping) or not isinstance(history, Iterable):
        raise RequestError(f"history must be a list of events or item ids, got {shown(history)}")
    weights = config.data.interactions.events
    usual = min(weights.values(), default=1.0)
    items: list[Id] = []
    weight: list[float] = []
    times: list[int] = []
    for number, event in enumerate(history, start=1):
        if not isinstance(event, Mapping):
            items.append(event)
            weight.append(usual)
            continue
        _check_keys(event, number)
        items.append(event["item_id"])
        kind = event.get("event")
        weight.append(usual if kind is None else _weight(kind, weights, number))
        if event.get("time") is not None:
            times.append(_time(event["time"], config, number))
    if times and len(times) < len(items):
        raise RequestError(f"history: {len(times)} of {len(items)} events have a time; give it for all or for none")
    order = np.argsort(np.array(times, dtype=np.int64), kind="stable") if times else np.arange(len(items))
    time = np.array(times, dtype=np.int64)[order] if times else None
    return Session([items[place] for place in order], np.array(weight, dtype=np.float32)[order], time)


def _check_keys(event: Mapping[str, Any], number: int) -> None:
    for key in event:
        if key not in EVENT_KEYS:
            near = nearest(key, EVENT_KEYS) if isinstance(key, str) else ""
            raise RequestError(
                f"history event {number}: unknown key {shown(key)}{near}; known: {', '.join(EVENT_KEYS)}"
            )
    if "item_id" not in event:
        raise RequestError(f"history event {number} has no item_id: {shown(dict(event))}")


def _weight(kind: object, weights: Mapping[str, float], number: int) -> float:
    if not isinstance(kind, str) or (weights and kind not in weights):
        hint = nearest(kind, dict(weights)) if isinstance(kind, str) else ""
        raise RequestError(
            f"history event {number}: unknown kind {shown(kind)}{hint}; known: {', '.join(weights) or 'any text'}"
        )
    return weights.get(kind, 1.0)


def _time(time: object, config: Config, number: int) -> int:
    ordered = config.data.clock == "order"
    told: int | None = None
    try:
        if isinstance(time, int | np.integer) and not isinstance(time, bool):
            told = int(time)
        elif isinstance(time, str | datetime) and not ordered:
            moment = datetime.fromisoformat(time) if isinstance(time, str) else time
            zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo(config.data.timezone))
            told = (zoned - EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        told = None
    if told is None or abs(told) >= LATEST:
        wanted = "a whole number" if ordered else "a datetime, an ISO text, or microseconds since 1970"
        raise RequestError(f"history event {number}: time must be {wanted}, got {shown(time)}")
    return told
