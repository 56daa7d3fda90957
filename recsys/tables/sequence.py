"""From checked rows to a log: users get numbers, events get their order, and repeated ones are left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from recsys.arrays import LongArray
from recsys.tables.ids import as_id
from recsys.tables.sources.scanning import FILE, ROW

SECOND = 1_000_000


def number_users(events: pl.DataFrame, types: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, pl.Series]:
    """Give each user a number, in the order of ids.

    Args:
        events: Column `user_id`, String or Int64.
        types: What the columns of a text file look like, see `RawTable`.

    Returns:
        The events with the number as UInt32 in column `user`, without `user_id`; and the ids in order, whole numbers
        where the file holds nothing else.
    """
    distinct = events["user_id"].unique()
    ids = pl.DataFrame({"id": distinct, "typed": as_id(distinct, types)}).sort("typed")
    # An Enum finds places several times as fast as a join on texts.
    users = events["user_id"].cast(pl.String).cast(pl.Enum(ids["id"].cast(pl.String))).to_physical()
    return events.drop("user_id").with_columns(user=users.cast(pl.UInt32)), ids["typed"]


def put_in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Sort events by user, time, file and row; of those alike in user, item, time and kind the first is kept.

    Args:
        events: Columns `user`, `item`, `time`, `kind`, FILE, ROW and any further ones.

    Returns:
        The events that are kept, without FILE and ROW.
    """
    if not _is_in_file_order(events):
        events = events.sort(FILE, ROW)
    events = events.drop(FILE, ROW)
    key = _key(events["user"].to_numpy(), events["time"].to_numpy())
    if key is None:
        events = events.sort("user", "time", maintain_order=True)
        user, time = (events[name].to_numpy() for name in ("user", "time"))
        follows = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    else:
        # One column of numbers sorts several times as fast as a frame by two.
        places = pl.DataFrame({"key": key}).with_row_index("place").sort("key", maintain_order=True)
        events = events[places["place"]]
        key = places["key"].to_numpy()
        follows = key[1:] == key[:-1]
    return events.filter(_firsts(events, follows))


def _is_in_file_order(events: pl.DataFrame) -> bool:
    file, row = events[FILE].to_physical().to_numpy(), events[ROW].to_numpy()
    return bool(((file[1:] > file[:-1]) | ((file[1:] == file[:-1]) & (row[1:] > row[:-1]))).all())


def _key(user: LongArray, time: LongArray) -> LongArray | None:
    """One number an event `(n,)` that sorts by user, then time; None where 63 bits do not hold it."""
    if not len(user):
        return np.zeros(0, dtype=np.int64)
    first, last = int(time.min()), int(time.max())
    unit = SECOND if not ((time - first) % SECOND).any() else 1
    span = (last - first) // unit + 1
    if (int(user.max()) + 1) * span >= 2**63:
        return None
    return user.astype(np.int64) * span + (time - first) // unit


def _firsts(events: pl.DataFrame, follows: np.ndarray) -> pl.Series:
    """Which events are no repetition; only those of a user's same moment can be one."""
    crowded = np.zeros(events.height, dtype=bool)
    crowded[1:] = follows
    crowded[:-1] |= follows
    kept = np.ones(events.height, dtype=bool)
    among = events.filter(crowded).select(pl.struct("user", "item", "time", "kind").is_first_distinct())
    kept[crowded] = among.to_series().to_numpy()
    return pl.Series(kept)
