"""Small logs of sales: lines of customer, item, day (of 1970), quantity, as tables in memory or as files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from recsys.tables.sales import Sales
from recsys.types import DAY, Catalog

START = datetime(1970, 1, 1)


def sales_of(lines: Sequence[tuple[Any, ...]], catalog: pl.DataFrame | None = None) -> Sales:
    """Sales of (customer, item, day, quantity) or (customer, item, day, quantity, price) lines."""
    padded = [(*line, None)[:5] for line in lines]
    frame = pl.DataFrame(padded, ["user_id", "item_id", "day", "quantity", "price"], orient="row",
                         schema_overrides={"day": pl.Float64, "quantity": pl.Float64, "price": pl.Float64},
                         infer_schema_length=None)  # fmt: skip
    users = frame["user_id"].unique().sort()
    items = frame["item_id"].unique().sort() if catalog is None else catalog["item_id"]
    if catalog is None:
        catalog = pl.DataFrame({"item_id": items, "title": items.str.to_titlecase(), "price": [None] * len(items)},
                               schema_overrides={"price": pl.Float64})  # fmt: skip
    numbered = frame.select(
        pl.col("user_id").replace_strict(users, range(len(users)), return_dtype=pl.UInt32).alias("user"),
        pl.col("item_id").replace_strict(items, range(len(items)), return_dtype=pl.Int32).alias("item"),
        (pl.col("day") * DAY).cast(pl.Int64).alias("time"), "quantity", "price", pl.col("day").cast(pl.Int32),
    )  # fmt: skip
    return Sales(numbered.sort("time", maintain_order=True), Catalog(catalog), users)


def write_sold(folder: Path, lines: Sequence[tuple[Any, ...]], further: Sequence[str] = ()) -> dict[str, Any]:
    """Write lines and their items as CSV; return a config that names them."""
    rows = [(user, item, (START + timedelta(days=day)).isoformat(), *rest) for user, item, day, *rest in lines]
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp", "value", *further], orient="row",
                         infer_schema_length=None)  # fmt: skip
    frame.write_csv(folder / "events.csv")
    items = frame["item_id"].unique().sort()
    pl.DataFrame({"item_id": items, "title": items.str.to_titlecase()}).write_csv(folder / "items.csv")
    tables = {"catalog": {"source": "csv", "path": str(folder / "items.csv")},
              "interactions": {"source": "csv", "path": str(folder / "events.csv")}}  # fmt: skip
    model = {"retrievers": {"popularity": {}}, "features": ["log_popularity"], "scorer": {"kind": "logistic"}}
    output = str(folder / "artifacts")
    return {"name": "sold", "output": output, "data": tables, "split": {"kind": "leave_last_out"}} | model
