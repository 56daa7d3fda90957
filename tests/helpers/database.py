"""The made-up shop as tables of a database."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

SHOP = Path(__file__).parents[2] / "data" / "shop"


def fill(url: str, tables: Mapping[str, pl.DataFrame]) -> None:
    """Write frames as new tables of a PostgreSQL database."""
    from adbc_driver_postgresql import dbapi

    with closing(dbapi.connect(url)) as session, session.cursor() as cursor:
        for name, frame in tables.items():
            cursor.adbc_ingest(name, frame.to_arrow(compat_level=pl.CompatLevel.oldest()), mode="replace")
        session.commit()


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    """The rows that a reader gets."""
    from adbc_driver_postgresql import dbapi

    with closing(dbapi.connect(url, autocommit=True)) as session, session.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def shop_tables() -> dict[str, pl.DataFrame]:
    """The made-up shop: products and orders, with types as a database has them."""
    orders = pl.read_csv(SHOP / "events.csv", try_parse_dates=True)
    return {"products": pl.read_csv(SHOP / "items.csv"), "orders": orders}
