"""What the two tables must look like: their columns, how each cell is read, and why a row is refused.

Everything is a polars expression over the raw frame of a `RawTable`. A reason reads `column: what is wrong`; the
first one that applies to a row is the one that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import available_timezones

import polars as pl

from recsys.config import CatalogConfig, DataConfig, InteractionsConfig, nearest
from recsys.errors import ConfigError, DataError
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW, name_files
from recsys.types import CATEGORY_SEPARATOR, DAY

# Our columns, and whether a table must have them.
CATALOG = {"item_id": True, "title": False, "description": False, "category": False, "brand": False, "price": False}
INTERACTIONS = {
    "user_id": True, "item_id": True, "timestamp": True, "event": False, "value": False, "review_text": False,
    "request_id": False, "rank": False, "propensity": False,
}  # fmt: skip
TEXTS = ("title", "description", "category", "brand")  # may be lists of texts
DEFAULT_KIND = "interaction"

SNIFFED_ROWS = 10_000
# Whole numbers up to here, read as seconds, fall before March 1973: positions or dates such as 20250131.
LEAST_EPOCH = 1e8
# Upper bound of each unit's numbers, and how many microseconds it has: seconds, milli-, micro-, nanoseconds.
EPOCH_UNITS = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (float("inf"), 1e-3))
EPOCH, CALENDAR = date(1970, 1, 1), (date(1, 1, 2), date(9999, 12, 30))  # a day less at either end: time zones
PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
NAIVE_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


@dataclass(frozen=True, eq=False)
class Check:
    """One way in which a cell is wrong: rows of which `broken` is true are refused with `reason`.

    Everywhere here the cell as read from column `name` stands in column `_name`.
    """

    column: str
    reason: str
    broken: pl.Expr


def mapped(source: RawTable, settings: CatalogConfig | InteractionsConfig, table: Table) -> RawTable:
    """Give a raw table our column names, and null columns for those it lacks; further ones stay, behind ours.

    Where the log has no `event`, every event is of kind `interaction`.

    Raises `ConfigError` for a mapping of a column that we do not know, `DataError` where a required or mapped
    column is not in the files, or one holds structs, durations and the like.
    """
    known = CATALOG if table == "catalog" else INTERACTIONS
    types_of = source.frame.collect_schema()
    have = [name for name in types_of if name not in (FILE, ROW, REFUSED, DROPPED)]
    where = f"data.{table}.columns"
    for ours, theirs in settings.columns.items():
        if ours not in known:
            near = nearest(ours, list(known))
            raise ConfigError(f"{where}: {ours!r} is no column of ours{near}; known: {', '.join(known)}")
        if theirs not in have:
            raise DataError(
                f"{where}: {ours} is mapped to {theirs!r}, and {name_files(source.files)} has no such column"
                f"{nearest(theirs, have)}; its columns: {', '.join(have)}"
            )
    for ours, required in known.items():
        if required and ours not in settings.columns and ours not in have:
            near = nearest(ours, have)
            guess = near.split("'")[1] if near else "NAME_IN_FILE"
            raise DataError(
                f"{name_files(source.files)} has no column {ours!r}{near}; its columns: {', '.join(have)}; "
                f"name the one to use under data.{table}: `columns: {{{ours}: {guess}}}`"
            )
    theirs_of = {ours: settings.columns.get(ours, ours) for ours in known}
    theirs_of |= {name: name for name in have if name not in theirs_of.values() and name not in known}
    blank = {"event": pl.lit(DEFAULT_KIND)}
    cells = {
        ours: _in_calendar(theirs, types_of[theirs]) if theirs in have else blank.get(ours, pl.lit(None, pl.String))
        for ours, theirs in theirs_of.items()
    }
    frame = source.frame.select(FILE, ROW, REFUSED, DROPPED, **cells)
    for ours, dtype in frame.collect_schema().items():
        texts = ours in TEXTS and isinstance(dtype, pl.List) and not dtype.inner.is_nested()
        if ours in known and (dtype.is_nested() or isinstance(dtype, pl.Time | pl.Duration)) and not texts:
            raise DataError(
                f"{name_files(source.files)}: column {theirs_of[ours]!r} holds {dtype}, which {ours} cannot be"
            )
    types = {ours: source.types[theirs] for ours, theirs in theirs_of.items() if theirs in source.types}
    return RawTable(frame, source.files, types)


def _in_calendar(column: str, dtype: pl.DataType) -> pl.Expr:
    """A column as it is; moments outside the years 1 to 9999, at which polars panics, at the near end of these."""
    if not isinstance(dtype, pl.Date | pl.Datetime):
        return pl.col(column)
    per_day = PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1
    ends = [max(-(2**63), min((end - EPOCH).days * per_day, 2**63 - 1)) for end in CALENDAR]
    return pl.col(column).to_physical().clip(*ends).cast(dtype)


def identifier(column: str, dtype: pl.DataType) -> tuple[pl.Expr, list[Check]]:
    """Read an id: whole numbers as Int64 (3.0 is 3), anything else as text without outer spaces."""
    if dtype.is_integer():
        parsed, whole = pl.col(column).cast(pl.Int64, strict=False), pl.lit(True)
    elif dtype.is_float():
        raw = pl.col(column)
        parsed, whole = raw.cast(pl.Int64, strict=False), raw.is_null() | (raw == raw.round())
    else:
        parsed, whole = text(column, dtype), pl.lit(True)
    checks = [Check(column, "not a whole number", ~whole), Check(column, "missing", pl.col(f"_{column}").is_null())]
    return parsed.alias(f"_{column}"), checks


def text(column: str, dtype: pl.DataType, glue: str = " ") -> pl.Expr:
    """Read a text without outer spaces, a list of texts joined by `glue`; null where nothing is left."""
    raw = pl.col(column)
    if isinstance(dtype, pl.List):
        raw = raw.cast(pl.List(pl.String)).list.join(glue, ignore_nulls=True)
    clean = raw.cast(pl.String).str.strip_chars()
    return pl.when(clean != "").then(clean).alias(f"_{column}")


def number(column: str, dtype: pl.DataType) -> tuple[pl.Expr, Check]:
    """Read a number as Float64; NaN and infinities are left in."""
    parsed, filled = pl.col(column).cast(pl.Float64, strict=False), pl.col(column).is_not_null()
    if dtype == pl.String:
        clean = text(column, dtype)
        parsed, filled = clean.cast(pl.Float64, strict=False), clean.is_not_null()
    return parsed.alias(f"_{column}"), Check(column, "not a number", filled & pl.col(f"_{column}").is_null())


def category(column: str, dtype: pl.DataType, separator: str) -> pl.Expr:
    """Read a category path, and write it with our separator and without empty parts."""
    if isinstance(dtype, pl.List):
        parts = pl.col(column).cast(pl.List(pl.String))
    else:
        parts = pl.col(column).cast(pl.String).str.split(separator)
    kept = parts.list.eval(pl.element().str.strip_chars()).list.eval(pl.element().filter(pl.element() != ""))
    path = kept.list.join(CATEGORY_SEPARATOR)
    return pl.when(path != "").then(path).alias(f"_{column}")


def moment(raw: pl.LazyFrame, settings: DataConfig) -> tuple[pl.Expr, list[Check]]:
    """Read `timestamp` as Int64: microseconds since 1970 (UTC), or under `clock: order` the number itself.

    Dates and times with an offset or zone are converted to UTC, those without are taken in
    `settings.timezone`. Whole numbers, also as text, are seconds, milli-, micro- or nanoseconds since 1970:
    which, the median of the first ten thousand tells for the whole column.

    Raises `ConfigError` for an unknown time zone, `DataError` where the numbers are too small to be times.
    """
    dtype, parsed = raw.collect_schema()["timestamp"], pl.col("_timestamp")
    missing = Check("timestamp", "missing", text("timestamp", dtype).is_null())
    if settings.clock == "order":
        whole = pl.lit(not dtype.is_temporal())
        if dtype.is_float():
            whole = pl.col("timestamp") == pl.col("timestamp").round()
        order = pl.when(whole).then(pl.col("timestamp").cast(pl.Int64, strict=False))
        return order.alias("_timestamp"), [missing, Check("timestamp", "not a whole number", parsed.is_null())]
    if settings.timezone not in available_timezones():
        near = nearest(settings.timezone, sorted(available_timezones()))
        raise ConfigError(f"data.timezone: unknown time zone {settings.timezone!r}{near}")
    time = _in_utc(dtype, settings.timezone) if dtype.is_temporal() else _epoch_or_text(raw, dtype, settings.timezone)
    latest = int(datetime.now(UTC).timestamp() * 1_000_000) + DAY
    return time.alias("_timestamp"), [
        missing,
        Check("timestamp", "not a time", parsed.is_null()),
        Check("timestamp", "before 1970", parsed < 0),
        Check("timestamp", "in the future", parsed > latest),
    ]


def _in_utc(dtype: pl.DataType, timezone: str) -> pl.Expr:
    time = pl.col("timestamp")
    if not (isinstance(dtype, pl.Datetime) and dtype.time_zone):
        time = _localized(time.cast(pl.Datetime("us")), timezone)
    return time.dt.timestamp("us")


def _localized(time: pl.Expr, timezone: str) -> pl.Expr:
    """Read naive times in a zone: an hour that comes twice as the first of the two, one that is skipped as null."""
    return time.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")


def _epoch_or_text(raw: pl.LazyFrame, dtype: pl.DataType, timezone: str) -> pl.Expr:
    numbers = pl.col("timestamp").cast(pl.Float64, strict=False)
    filled = raw.filter(pl.col("timestamp").is_not_null()).select(numbers)
    head = filled.head(SNIFFED_ROWS).collect(engine="streaming").to_series()
    if dtype == pl.String and head.null_count() * 2 >= len(head):
        return _time_of_text(timezone)
    middle = float(head.fill_nan(None).abs().median() or 0)  # type: ignore[arg-type]
    if len(head) and middle < LEAST_EPOCH:
        raise DataError(
            f"timestamp: the middle one of the first {len(head)} is {middle:.0f}, too small for seconds since 1970: "
            f"write `clock: order` under data if these are positions, or give dates as 2025-01-31"
        )
    factor = next(factor for bound, factor in EPOCH_UNITS if middle < bound)
    return (numbers * factor).round().cast(pl.Int64, strict=False)


def _time_of_text(timezone: str) -> pl.Expr:
    iso = pl.col("timestamp").str.strip_chars().str.replace(" ", "T", literal=True)
    offset = iso.str.strptime(pl.Datetime("us", "UTC"), "%Y-%m-%dT%H:%M:%S%.f%#z", strict=False)
    naive = [iso.str.strptime(pl.Datetime("us"), form, strict=False) for form in NAIVE_FORMATS]
    day = iso.str.strptime(pl.Date, "%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    local = _localized(pl.coalesce(*naive, day), timezone)
    return pl.coalesce(offset.dt.timestamp("us"), local.dt.timestamp("us"))


def catalog_cells(dtypes: pl.Schema, separator: str) -> tuple[list[pl.Expr], list[Check]]:
    """Read each of our columns of the catalogue, and the checks of a row."""
    item_id, checks = identifier("item_id", dtypes["item_id"])
    price, not_a_number = number("price", dtypes["price"])
    checks += [not_a_number, Check("price", "negative", pl.col("_price") < 0)]
    texts = [text(name, dtypes[name]) for name in TEXTS if name != "category"]
    return [item_id, *texts, category("category", dtypes["category"], separator), price], checks


def interaction_cells(raw: pl.LazyFrame, data: DataConfig, item_ids: pl.Series) -> tuple[list[pl.Expr], list[Check]]:
    """Read each of our columns of the interactions, and the checks of a row. `_item` is the place in `item_ids`."""
    dtypes = raw.collect_schema()
    user_id, checks = identifier("user_id", dtypes["user_id"])
    item_id, item_checks = identifier("item_id", dtypes["item_id"])
    # An Enum finds places without a join, and item 5 is item "5".
    places = item_id.cast(pl.String).cast(pl.Enum(item_ids.cast(pl.String)), strict=False).to_physical()
    time, time_checks = moment(raw, data)
    kind = text("event", dtypes["event"])
    value, not_a_number = number("value", dtypes["value"])
    checks += [*item_checks, *time_checks, Check("event", "missing", pl.col("_event").is_null()), not_a_number]
    rank, no_rank = number("rank", dtypes["rank"])
    propensity, no_propensity = number("propensity", dtypes["propensity"])
    place, share = pl.col("_rank"), pl.col("_propensity")
    checks += [
        no_rank,
        Check("rank", "not a whole number from 1", (place < 1) | (place != place.round())),
        no_propensity,
        Check("propensity", "not above 0 and up to 1", (share <= 0) | (share > 1)),
    ]
    if data.unknown_items == "refuse":
        checks.append(Check("item_id", "not in the catalogue", pl.col("_item").is_null()))
    return [user_id, item_id, places.cast(pl.Int32).alias("_item"), time, kind, value, rank, propensity], checks


def first_reason(checks: list[Check]) -> pl.Expr:
    """The reason for which a row is refused; null for a good one."""
    told = [pl.when(check.broken).then(pl.lit(f"{check.column}: {check.reason}")) for check in checks]
    return pl.coalesce(pl.col(REFUSED), *told)


def quarantined(columns: list[str]) -> list[pl.Expr]:
    """The columns of the quarantine, from a frame with `_reason`; a reason of the whole row has no column."""
    named = pl.col("_reason").str.split(": ").list.first()
    cells = [pl.when(named == name).then(pl.col(name).cast(pl.String)) for name in dict.fromkeys(columns)]
    return [
        pl.col(FILE).alias("file"),
        pl.col(ROW).alias("row"),
        pl.when(named != "row").then(named).alias("column"),
        pl.coalesce(*cells).alias("value"),
        pl.col("_reason").alias("reason"),
    ]


def as_typed(texts: pl.Series, dtype: pl.DataType | None) -> pl.Series:
    """Turn a text column into the dtype that the head of its file showed, if no cell changes by it.

    `007` is no whole number: written back it would be `7`.
    """
    if dtype is None or texts.dtype != pl.String or not (dtype.is_numeric() or dtype == pl.Boolean):
        return texts
    typed = texts.cast(dtype, strict=False) if dtype.is_numeric() else _boolean(texts)
    same = typed.null_count() == texts.null_count()
    if dtype.is_integer():
        same = same and bool((typed.cast(pl.String) == texts).all())
    return typed if same else texts


def as_id(texts: pl.Series, types: Mapping[str, pl.DataType]) -> pl.Series:
    """Turn ids of a text file into Int64 where the head of the file showed whole numbers and nothing is lost."""
    dtype = types.get(texts.name)
    return as_typed(texts, dtype) if dtype == pl.Int64 else texts


def _boolean(texts: pl.Series) -> pl.Series:
    return texts.str.to_lowercase().replace_strict(
        {"true": True, "false": False}, default=None, return_dtype=pl.Boolean
    )
