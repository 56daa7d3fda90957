"""What the tables must look like: their columns, how each cell is read, and why a row is refused.

Everything is a polars expression over the frame of a `RawTable`. A reason reads `column: what is wrong`; the first one
that applies to a row counts.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any

import polars as pl

from recsys.config import CatalogConfig, DataConfig, InteractionsConfig, ReviewTableConfig, nearest
from recsys.errors import ConfigError, DataError
from recsys.tables.ids import identifier
from recsys.tables.rules import CellRule, parsed
from recsys.tables.settle import OTHER_UNIT, TIME
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW, name_files, own_columns
from recsys.tables.times import in_calendar, latest_moment
from recsys.types import CATEGORY_SEPARATOR

log = logging.getLogger(__name__)

# Our columns, and whether a table must have them.
CATALOG = {"item_id": True, "title": False, "description": False, "category": False, "brand": False, "price": False}
INTERACTIONS = {
    "user_id": True, "item_id": True, "timestamp": True, "event": False, "value": False, "review_text": False,
    "request_id": False, "rank": False, "propensity": False,
}  # fmt: skip
REVIEWS = {"item_id": True, "text": True, "stars": False, "user_id": False, "timestamp": False, "review_id": False}
COLUMNS: dict[Table, dict[str, bool]] = {"catalog": CATALOG, "interactions": INTERACTIONS, "reviews": REVIEWS}
TEXTS = ("title", "description", "category", "brand")  # may be lists of texts
DEFAULT_KIND = "interaction"
MOST_NAMES = 30  # in a message
# A number with a currency or marks between thousands: $1,234.50, 1.234,50 €, 12,50.
CURRENCY = r"^[\p{Sc}A-Za-z.\s]*?(-?\d[\d.,]*)[\p{Sc}A-Za-z\s]*$"
COMMA_THOUSANDS, POINT_THOUSANDS = r"^-?\d{1,3}(,\d{3})+(\.\d+)?$", r"^-?\d{1,3}(\.\d{3})+,\d+$"


def mapped(
    source: RawTable,
    settings: CatalogConfig | InteractionsConfig | ReviewTableConfig,
    table: Table,
    row_order: bool = False,
    describes_items: bool = False,
) -> RawTable:
    """Give a raw table our column names, and null columns for those it lacks; further ones stay, behind ours.

    Where the log has no `event`, every event is of kind `interaction`.

    Args:
        source: A table with the column names of its files.
        settings: Those of the table. A column may be mapped to a field inside another, as `product.id`, or to null,
            which leaves it out.
        table: Which it is.
        row_order: Whether a log without timestamps is in order, so that row numbers serve as times.
        describes_items: Whether columns of a log may be mapped to those of a catalogue, since there is none.

    Raises:
        ConfigError: a column is mapped that is none of ours.
        DataError: a required or mapped column is not in the files, or one holds structs, durations and the like.
    """
    known = COLUMNS[table]
    if describes_items:
        known = known | {ours: False for ours in CATALOG if ours in settings.columns and ours not in known}
    frame, types_of = source.frame, source.frame.collect_schema()
    have = own_columns(frame)
    where = f"data.{table}.columns"
    for ours, theirs in settings.columns.items():
        if ours not in known:
            near = nearest(ours, list(known))
            raise ConfigError(f"{where}: {ours!r} is no column of ours{near}; known: {', '.join(known)}")
        if theirs is not None and theirs not in have and _field(theirs, types_of) is None:
            raise DataError(
                f"{where}: {ours} is mapped to {theirs!r}, and {name_files(source.files)} has no such column"
                f"{nearest(theirs, have)}; its columns: {_listed(have)}{_hint(theirs, source, types_of, table)}"
            )
    theirs_of = {ours: settings.columns.get(ours, ours) for ours in known}
    for ours, required in known.items():
        theirs = theirs_of[ours]
        if ours == "timestamp" and row_order and theirs not in have and settings.columns.get(ours) is None:
            frame = frame.with_row_index(parsed("place_in_log"), 1)
            theirs_of[ours], types_of = parsed("place_in_log"), frame.collect_schema()
            log.warning("interactions: no column is a timestamp: the order of the rows is taken for the order of time")
        elif required and ours not in have and settings.columns.get(ours) is None:
            near = nearest(ours, have)
            guess = _quoted(near.split("did you mean '")[1].removesuffix("'?")) if near else "NAME_IN_FILE"
            raise DataError(
                f"{name_files(source.files)} has no column {ours!r}{near}; its columns: {_listed(have)}; "
                f"name the one to use under data.{table}: `columns: {{{ours}: {guess}}}`"
                f"{_hint(ours, source, types_of, table)}"
            )
    cells = {ours: _cell(ours, theirs, types_of) for ours, theirs in theirs_of.items()}
    cells |= {name: pl.col(name) for name in have if name not in theirs_of.values() and name not in known}
    added = [name for name in (TIME, OTHER_UNIT) if name in types_of]
    frame = frame.select(FILE, ROW, REFUSED, DROPPED, *added, **cells)
    for ours, dtype in frame.collect_schema().items():
        texts = ours in TEXTS and isinstance(dtype, pl.List) and not dtype.inner.is_nested()
        if ours in known and (dtype.is_nested() or isinstance(dtype, pl.Time | pl.Duration)) and not texts:
            raise DataError(
                f"{name_files(source.files)}: column {theirs_of[ours]!r} holds {dtype}, which {ours} cannot be"
            )
    types = {ours: source.types[theirs] for ours, theirs in theirs_of.items() if theirs and theirs in source.types}
    types |= {name: dtype for name, dtype in source.types.items() if name in cells and name not in known}
    return RawTable(frame, source.files, types)


def _cell(ours: str, theirs: str | None, types_of: pl.Schema) -> pl.Expr:
    if theirs is not None and theirs in types_of:
        return in_calendar(theirs, types_of[theirs])
    field = None if theirs is None else _field(theirs, types_of)
    if field is not None:
        return field
    return pl.lit(DEFAULT_KIND) if ours == "event" else pl.lit(None, pl.String)


def _field(path: str, types_of: pl.Schema) -> pl.Expr | None:
    """The value at a path such as `product.id` inside a column of structs; None where there is none."""
    root, *names = path.split(".")
    dtype: Any = types_of.get(root)
    cell = pl.col(root)
    for name in names:
        if not isinstance(dtype, pl.Struct) or name not in (fields := dict(dtype)):
            return None
        dtype, cell = fields[name], cell.struct.field(name)
    return cell if names and dtype is not None else None


def _hint(name: str, source: RawTable, types_of: pl.Schema, table: Table) -> str:
    """What to set where a column may be missing for the way in which the file is read; empty otherwise."""
    dtype: Any = types_of.get(name.split(".")[0])
    if "." in name and isinstance(dtype, pl.List):
        return f"; for a row an entry of that list, set `explode: {name.split('.')[0]}` under data.{table}"
    if any("no header line" in note for note in source.notes):
        return f"; its first line names no columns: name them by `header: [user_id, …]` under data.{table}"
    return ""


def _quoted(name: str) -> str:
    """Write a name as a YAML value."""
    plain = re.fullmatch(r"[A-Za-z_][\w.-]*", name) and name.lower() not in ("null", "true", "false", "yes", "no")
    return name if plain else json.dumps(name, ensure_ascii=False)


def _listed(names: list[str]) -> str:
    shown = ", ".join(name[:60] for name in names[:MOST_NAMES])
    return shown + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def text(column: str, dtype: pl.DataType, glue: str = " ") -> pl.Expr:
    """Read a text without outer spaces, a list of texts joined by `glue`; null where nothing is left."""
    raw = pl.col(column)
    if isinstance(dtype, pl.List):
        raw = raw.cast(pl.List(pl.String)).list.join(glue, ignore_nulls=True)
    clean = raw.cast(pl.String).str.strip_chars()
    return pl.when(clean != "").then(clean).alias(parsed(column))


def number(column: str, dtype: pl.DataType) -> tuple[pl.Expr, CellRule]:
    """Read a number as Float64; NaN and infinities are left in."""
    value, filled = pl.col(column).cast(pl.Float64, strict=False), pl.col(column).is_not_null()
    if dtype == pl.String:
        clean = text(column, dtype)
        value, filled = clean.cast(pl.Float64, strict=False), clean.is_not_null()
    return value.alias(parsed(column)), CellRule(column, "not a number", filled & pl.col(parsed(column)).is_null())


def price(column: str, dtype: pl.DataType) -> pl.Expr:
    """Read a price as Float64, with or without a currency and marks between thousands; null where it is none."""
    value, _ = number(column, dtype)
    if dtype != pl.String:
        return value
    bare = pl.col(column).str.strip_chars().str.extract(CURRENCY)
    written = (
        pl.when(bare.str.contains(COMMA_THOUSANDS))
        .then(bare.str.replace_all(",", "", literal=True))
        .when(bare.str.contains(POINT_THOUSANDS) | bare.str.contains(r"^-?\d+,\d{1,2}$"))
        .then(bare.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True))
        .otherwise(bare)
    )
    return pl.coalesce(value, written.cast(pl.Float64, strict=False)).alias(parsed(column))


def category(column: str, dtype: pl.DataType, separator: str) -> pl.Expr:
    """Read a category path, and write it with our separator and without empty parts."""
    if isinstance(dtype, pl.List):
        parts = pl.col(column).cast(pl.List(pl.String))
    else:
        written = pl.col(column).cast(pl.String)
        # A list that a program printed: ['Drama', 'Comedy'] or ["Drama", "Comedy"].
        printed = written.str.contains(r"^\s*\[.*\]\s*$")
        quoted = written.str.extract_all(r"'[^']*'|\x22[^\x22]*\x22").list.eval(pl.element().str.slice(1).str.head(-1))
        parts = pl.when(printed & (quoted.list.len() > 0)).then(quoted).otherwise(written.str.split(separator))
    kept = parts.list.eval(pl.element().str.strip_chars()).list.eval(pl.element().filter(pl.element() != ""))
    path = kept.list.join(CATEGORY_SEPARATOR)
    return pl.when(path != "").then(path).alias(parsed(column))


def moment(dtypes: pl.Schema, settings: DataConfig) -> tuple[pl.Expr, list[CellRule]]:
    """Read `timestamp` as Int64: microseconds since 1970 (UTC), or under `clock: order` the number itself.

    Args:
        dtypes: Of a mapped table; its TIME holds the moments (see `settle`).
        settings: `clock` is used.

    Returns:
        The moment, as column `parsed("timestamp")`, and the rules that it must keep.
    """
    dtype, read = dtypes["timestamp"], pl.col(parsed("timestamp"))
    missing = CellRule("timestamp", "missing", text("timestamp", dtype).is_null())
    if settings.clock == "order":
        whole = pl.lit(not dtype.is_temporal())
        if dtype.is_float():
            whole = pl.col("timestamp") == pl.col("timestamp").round()
        order = pl.when(whole).then(pl.col("timestamp").cast(pl.Int64, strict=False))
        return order.alias(parsed("timestamp")), [missing, CellRule("timestamp", "not a whole number", read.is_null())]
    return pl.col(TIME).alias(parsed("timestamp")), [
        missing,
        CellRule("timestamp", "not a time", read.is_null()),
        CellRule("timestamp", "before 1970", read < 0),
        CellRule("timestamp", "decades before the rest", pl.col(OTHER_UNIT)),
        CellRule("timestamp", "in the future", read > latest_moment()),
    ]


def catalog_cells(
    dtypes: pl.Schema, separator: str, missing: Iterable[str] = ()
) -> tuple[list[pl.Expr], list[CellRule]]:
    """Read each of our columns of the catalogue; return the cells, as `parsed(name)`, and the rules of a row."""
    item_id, rules = identifier("item_id", dtypes["item_id"], [word.lower() for word in missing])
    rules.append(CellRule("price", "negative", pl.col(parsed("price")) < 0))
    texts = [text(name, dtypes[name]) for name in TEXTS if name != "category"]
    cells = [item_id, *texts, category("category", dtypes["category"], separator), price("price", dtypes["price"])]
    return cells, rules


def interaction_cells(dtypes: pl.Schema, data: DataConfig, item_ids: pl.Series) -> tuple[list[pl.Expr], list[CellRule]]:
    """Read each of our columns of the interactions.

    Args:
        dtypes: Of the mapped table.
        data: How to read it.
        item_ids: Those of the catalogue.

    Returns:
        The cells, as `parsed(name)`, with the place in `item_ids` as `parsed("item")`; and the rules of a row.
    """
    user_id, rules = identifier("user_id", dtypes["user_id"])
    item_id, item_rules = identifier("item_id", dtypes["item_id"])
    # An Enum finds places without a join, and item 5 is item "5".
    places = item_id.cast(pl.String).cast(pl.Enum(item_ids.cast(pl.String)), strict=False).to_physical()
    time, time_rules = moment(dtypes, data)
    kind = text("event", dtypes["event"])
    value, not_a_number = number("value", dtypes["value"])
    rank, no_rank = number("rank", dtypes["rank"])
    propensity, no_propensity = number("propensity", dtypes["propensity"])
    place, share = pl.col(parsed("rank")), pl.col(parsed("propensity"))
    rules += [
        *item_rules,
        *time_rules,
        CellRule("event", "missing", pl.col(parsed("event")).is_null()),
        not_a_number,
        no_rank,
        CellRule("rank", "not a whole number from 1", (place < 1) | (place != place.round())),
        no_propensity,
        CellRule("propensity", "not above 0 and up to 1", (share <= 0) | (share > 1)),
    ]
    if data.unknown_items == "refuse":
        rules.append(CellRule("item_id", "not in the catalogue", pl.col(parsed("item")).is_null()))
    return [user_id, item_id, places.cast(pl.Int32).alias(parsed("item")), time, kind, value, rank, propensity], rules
