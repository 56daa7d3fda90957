"""The catalogue: read and checked from its files, made from the events where there is none, or given further items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recsys.config import CatalogConfig, DataConfig, nearest
from recsys.errors import DataError
from recsys.tables import schema
from recsys.tables.ids import as_id, as_typed, identifier
from recsys.tables.quarantine import SHOWN_ROWS, count_by_reason, put_away
from recsys.tables.rules import REASON, CellRule, first_reason, parsed, quarantined
from recsys.tables.settle import settle
from recsys.tables.sources.base import RawTable
from recsys.tables.sources.registry import read
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW, reading
from recsys.types import CATEGORY_SEPARATOR, Catalog

# Our columns of the catalogue, from cells as read.
_ITEM = [
    *(pl.col(parsed(name)).alias(name) for name in schema.CATALOG if name != "price"),
    pl.when(pl.col(parsed("price")).is_finite()).then(parsed("price")).alias("price"),
]
_MARKS = (FILE, ROW, REFUSED, DROPPED)


def load_catalog(data: DataConfig, quarantine: Path) -> tuple[Catalog, dict[str, Any]]:
    """Load the items that the config names, or those of the events where it names none.

    Args:
        data: Where the tables are and how to read them.
        quarantine: Where refused rows go.

    Returns:
        The catalogue, and counts of rows.

    Raises:
        ConfigError, DataError, ArtifactError: as `ingest.load_tables`.
    """
    settings = data.catalog or CatalogConfig()
    table = settle(read(settings, "catalog"), settings, data) if data.catalog else _items_of_events(data)
    source = schema.mapped(table, settings, "catalog")
    with reading(source.files):
        raw = source.frame.collect(engine="streaming")
    rows, bad, good = _judged(raw, settings.category_separator, data.missing)
    dropped = count_by_reason(rows[DROPPED])
    refused = put_away("catalog", rows.height, bad, data.tolerated, quarantine, source.files, dropped)
    extras = _extras(raw)
    items = good.select(*_ITEM, *extras)
    items = items.with_columns(
        as_id(items["item_id"], source.types), *(as_typed(items[name], source.types.get(name)) for name in extras)
    )
    price = good[parsed("price")]
    report = {
        "files": source.files,
        **({"version": source.version} if source.version is not None else {}),
        "rows": rows.height,
        "refused": refused,
        "dropped": dropped,
        "kept": items.height,
        "empty": {name: items[name].null_count() for name in schema.CATALOG},
        "not_finite": {"price": len(price.drop_nulls()) - int(price.is_finite().sum())},
        "unreadable": {"price": unread} if (unread := _unread_prices(good)) else {},
    }
    return Catalog(items), report


def _items_of_events(data: DataConfig) -> RawTable:
    """A table of the items that the events name, each with what its first event says of it."""
    settings = data.interactions
    events = schema.mapped(
        settle(read(settings, "interactions"), settings, data),
        settings,
        "interactions",
        row_order=data.clock == "order",
        describes_items=True,
    )
    dtypes = events.frame.collect_schema()
    item_id, _ = identifier("item_id", dtypes["item_id"], [word.lower() for word in data.missing])
    about = [name for name in schema.CATALOG if name in dtypes and name != "item_id"]
    used = events.frame.filter(pl.col(REFUSED).is_null() & pl.col(DROPPED).is_null())
    found = used.select(*_MARKS, *about, item_id.alias("item_id")).filter(pl.col("item_id").is_not_null())
    first = pl.col(*_MARKS).first()
    described = [pl.col(name).drop_nulls().first() for name in about]
    items = found.group_by("item_id", maintain_order=True).agg(first, *described)
    return RawTable(items.sort("item_id"), events.files, events.types, version=events.version)


def _extras(raw: pl.DataFrame) -> list[str]:
    """The columns of a raw catalogue that are the shop's own."""
    return [name for name in raw.columns if name not in (*_MARKS, *schema.CATALOG)]


def _judged(
    raw: pl.DataFrame, separator: str, missing: Sequence[str], further: Sequence[CellRule] = ()
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Read and check a raw catalogue: every row, the refused ones as the quarantine has them, the good ones."""
    cells, rules = schema.catalog_cells(raw.schema, separator, missing)
    wanted, good = pl.col(DROPPED).is_null(), pl.col(REASON).is_null()
    rows = raw.with_columns(*cells)
    rows = rows.with_columns(pl.when(wanted).then(first_reason([*rules, *further])).alias(REASON))
    # Only rows that are good otherwise can be the first of their id.
    again = ~pl.struct(parsed("item_id"), wanted & good).is_first_distinct()
    duplicate = pl.when(again).then(pl.lit("item_id: duplicate"))
    rows = rows.with_columns(pl.when(wanted).then(pl.coalesce(REASON, duplicate)).alias(REASON))
    bad = rows.filter(~good).select(quarantined([rule.column for rule in rules]))
    return rows, bad, rows.filter(wanted & good)


def _unread_prices(good: pl.DataFrame) -> int:
    filled = pl.col("price").cast(pl.String).str.strip_chars().fill_null("") != ""
    return int(good.select((filled & pl.col(parsed("price")).is_null()).sum()).item())


def further_items(frame: pl.DataFrame, catalog: Catalog) -> pl.DataFrame:
    """Check rows that are to join a catalogue as a table's rows are checked, and give them its columns and dtypes.

    Args:
        frame: Has our column names (`item_id`, `title`, …), categories as paths joined by ` > `, and any of the
            catalogue's further columns; what it lacks is null.
        catalog: The catalogue that the rows are to join.

    Raises:
        DataError: a column that the catalogue lacks or that holds another type, or a row that is refused: one bad
            row refuses the whole frame. The message names rows (from 1), reasons and values.
    """
    blank = pl.lit(None, pl.String)
    numbered = frame.lazy().with_row_index(ROW, 1)
    marked = numbered.with_columns(pl.lit("").alias(FILE), blank.alias(REFUSED), blank.alias(DROPPED))
    source = schema.mapped(RawTable(marked, []), CatalogConfig(), "catalog")
    known = catalog.frame.schema
    for name in frame.columns:
        if name not in known:
            near = nearest(name, known.names())
            raise DataError(f"the catalogue has no column {name!r}{near}; its columns: {', '.join(known)}")
    there = pl.col(parsed("item_id")).cast(pl.String).is_in(catalog.ids.cast(pl.String).implode())
    raw = source.frame.collect()
    _, not_a_number = schema.number("price", raw.schema["price"])
    further = [CellRule("item_id", "already in the catalogue", there), not_a_number]
    rows, bad, good = _judged(raw, CATEGORY_SEPARATOR, (), further)
    if bad.height:
        shown = [
            f"row {row}: {reason}" + ("" if value is None else f": {value[:100]!r}")
            for _, row, _, value, reason in bad.head(SHOWN_ROWS).iter_rows()
        ]
        raise DataError(f"{bad.height} of {rows.height} items were refused, so none is added: {'; '.join(shown)}")
    items = good.select(*_ITEM, *_extras(raw))
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in known.items() if name not in items.columns]
    try:
        return items.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in known.items())
    except (pl.exceptions.InvalidOperationError, pl.exceptions.ComputeError) as error:
        problem = str(error).splitlines()[0]
        raise DataError(f"the items do not have the catalogue's types ({known}): {problem}") from error
