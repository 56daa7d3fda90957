"""What was sold, with quantities and prices: the lines of the log that the engine's arrays do not keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.config import DataConfig, nearest
from recsys.errors import ConfigError, DataError
from recsys.parallel.forks import require_polars
from recsys.tables import schema
from recsys.tables.catalog import load_catalog
from recsys.tables.ingest import read_events
from recsys.tables.rules import parsed
from recsys.tables.sequence import number_users
from recsys.tables.sources.base import RawTable
from recsys.tables.sources.scanning import FILE, ROW, name_files, own_columns
from recsys.tables.tombstones import Tombstones
from recsys.types import DAY, Catalog

PRICE = "price"


@dataclass(frozen=True, eq=False)
class Sales:
    """The lines of events that the engine predicts, oldest first.

    Attributes:
        frame: `user` and `item` (rows of `user_ids` and of the catalogue), `time` (microseconds since 1970, UTC),
            `day` (days since 1970, UTC), `quantity` and `price` of a unit (Float64, null where the log has none or one
            that is not above 0), and `by` (String), where a column was named.
        catalog: The items.
        user_ids: Ids of the customers.
    """

    frame: pl.DataFrame
    catalog: Catalog
    user_ids: pl.Series


def load_sales(data: DataConfig, folder: Path, by: str | None = None, price: str = PRICE) -> Sales:
    """Load the lines of the log, checked as `load_tables` checks them.

    The quantity is the log's `value`. Lines alike in customer, item, time, quantity and price count once.

    Args:
        data: Where the tables are and how to read them.
        folder: Refused rows go to `folder/quarantine`; people whom `folder/forgotten.json` holds are left out.
        by: A further column of the log to keep, such as that of the sales representative.
        price: The log's column of unit prices. A log without `price` has none; another name must be there.

    Raises:
        ConfigError: the config's `clock` is `order`; else as `load_tables`.
        DataError: the log lacks a named column; else as `load_tables`.
        ArtifactError: as `load_tables`.
    """
    require_polars("reading tables")
    if data.clock == "order":
        raise ConfigError("data.clock is `order`: sales by day and week need a column of timestamps and `clock: time`")
    forgotten = Tombstones.read(folder)
    catalog, _ = load_catalog(data, folder / "quarantine" / "catalog.parquet")

    def further(table: RawTable) -> Sequence[pl.Expr]:
        have = own_columns(table.frame)
        for name in filter(None, [by, price if price != PRICE else None]):
            if name not in have:
                raise DataError(f"{name_files(table.files)} has no column {name!r}{nearest(name, have)}; "
                                f"its columns: {', '.join(have)}")  # fmt: skip
        cost = pl.lit(None, pl.Float64)
        if price in have:
            cost = schema.price(price, table.frame.collect_schema()[price])
        named = [] if by is None else [pl.col(by).cast(pl.String).alias("by")]
        return [_above_zero(pl.col(parsed("value"))).alias("quantity"), _above_zero(cost).alias("price"), *named]

    read = read_events(data, catalog.ids, folder / "quarantine" / "interactions.parquet", forgotten, further)
    lines = read.events.filter("target").sort("time", FILE, ROW)
    lines, user_ids = number_users(lines, read.source.types)
    lines = lines.unique(["user", "item", "time", "quantity", "price"], keep="first", maintain_order=True)
    kept = ["user", "item", "time", "quantity", "price", *(["by"] if by else [])]
    frame = lines.select(kept).with_columns(day=(pl.col("time") // DAY).cast(pl.Int32))
    return Sales(frame, catalog, user_ids.alias("user_id"))


def _above_zero(number: pl.Expr) -> pl.Expr:
    return pl.when(number.is_finite() & (number > 0)).then(number)
