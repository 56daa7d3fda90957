"""Ids and times are read file by file, before files are joined: one may hold numbers where another holds text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from recsys.config import CatalogConfig, DataConfig, InteractionsConfig, ReviewTableConfig
from recsys.tables import ids, times
from recsys.tables.rules import parsed
from recsys.tables.sources.base import RawTable
from recsys.tables.sources.scanning import HEAD_ROWS, REFUSED, join

TIME, OTHER_UNIT = parsed("time"), parsed("other_unit")


def settle(
    raw: RawTable, settings: CatalogConfig | InteractionsConfig | ReviewTableConfig, data: DataConfig
) -> RawTable:
    """Give every file of a table ids of one type, and read its timestamps, each file by its own cells.

    Args:
        raw: A table as its source opened it.
        settings: Those of the table; `columns` is used.
        data: `clock`, `timezone` and `day_first` are used.

    Returns:
        The table with ids as they were where all files agree on their type, otherwise as text. With `clock: time` and a
        column of timestamps it has two columns more: TIME (microseconds since 1970 in UTC, Int64, null where a cell is
        no time) and OTHER_UNIT (whether a number must be of another unit than the rest of its file).

    Raises:
        ConfigError: the time zone is unknown.
        DataError: timestamps cannot be read, see `times.find_readings`.
    """
    parts = dict(raw.parts) or {"": raw.frame}
    types = dict(raw.types)
    for ours in ("user_id", "item_id"):
        theirs = settings.columns.get(ours, ours)
        if theirs is not None:
            parts, known = _ids(parts, ours, theirs)
            types |= known
    time = settings.columns.get("timestamp", "timestamp")
    if not isinstance(settings, CatalogConfig) and data.clock == "time" and time is not None:
        parts = _times(parts, time, data)
    return replace(raw, frame=join(list(parts.values())), parts=parts, types=types)


def _ids(
    parts: Mapping[str, pl.LazyFrame], ours: str, column: str
) -> tuple[dict[str, pl.LazyFrame], dict[str, pl.DataType]]:
    types = {file: part.collect_schema().get(column) for file, part in parts.items()}
    there = {file: dtype for file, dtype in types.items() if dtype is not None and not dtype.is_nested()}
    texts = [file for file, dtype in there.items() if dtype == pl.String]
    heads = pl.collect_all([parts[file].select(column).head(HEAD_ROWS) for file in texts], engine="streaming")
    floats = {file for file, head in zip(texts, heads, strict=True) if ids.are_whole_floats(head.to_series())}
    settled = {}
    for file, part in parts.items():
        cell = pl.col(column)
        if file in floats:
            part = part.with_columns(cell.str.strip_chars().str.replace(ids.WHOLE_FLOAT, "${1}"))
        elif file in there and len(set(there.values())) > 1:
            too_large = pl.when(ids.inexact(column, there[file])).then(pl.lit(f"{ours}: {ids.INEXACT}"))
            part = part.with_columns(
                ids.as_text(column, there[file]).alias(column), pl.coalesce(REFUSED, too_large).alias(REFUSED)
            )
        settled[file] = part
    numbers = [file in floats or dtype.is_numeric() for file, dtype in there.items()]
    mixed = floats or len(set(there.values())) > 1 or any(ids.is_written_as_text(dtype) for dtype in there.values())
    return settled, ({column: pl.Int64()} if numbers and all(numbers) and mixed else {})


def _times(parts: Mapping[str, pl.LazyFrame], column: str, data: DataConfig) -> dict[str, pl.LazyFrame]:
    types = {file: part.collect_schema().get(column) for file, part in parts.items()}
    if not any(types.values()) or any(
        dtype and (dtype.is_nested() or dtype == pl.Duration) for dtype in types.values()
    ):
        return dict(parts)  # what is wrong with the column is said where it is mapped
    readings = times.find_readings(parts, column, data)
    settled = {}
    for file, part in parts.items():
        dtype, reading = types[file], readings[file]
        if dtype is None:
            settled[file] = part.with_columns(pl.lit(None, pl.Int64).alias(TIME), pl.lit(False).alias(OTHER_UNIT))
            continue
        time = times.read_moment(column, dtype, reading, data.timezone).alias(TIME)
        early = pl.col(TIME).is_between(0, int(times.LEAST_EPOCH * 1e6), closed="left")
        other = early if reading.unit is not None else pl.lit(False)
        raw = times.in_calendar(column, dtype)
        if len(set(types.values())) > 1:
            raw = raw.cast(pl.String)
        settled[file] = part.with_columns(time, raw.alias(column)).with_columns(other.alias(OTHER_UNIT))
    return settled
