"""Exports in which one order or product spans rows, and later rows leave blank what the first one says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from recsys.errors import DataError
from recsys.tables.sources.scanning import DROPPED, REFUSED, own_columns

FURTHER_ROW = "a further row of the same"


def filled(column: str, dtype: pl.DataType | None) -> pl.Expr:
    """The cells of a column; null where they are blank."""
    cell = pl.col(column)
    return pl.when(cell.str.strip_chars() != "").then(cell).alias(column) if dtype == pl.String else cell


def fill_down(rows: pl.LazyFrame, columns: Mapping[str, Sequence[str]], file: str) -> pl.LazyFrame:
    """Give blank cells what the rows above say of the same order, product or the like.

    Args:
        rows: A table as it stands in its file.
        columns: For each column that names the entity (a blank cell of it means the one above), the columns whose
            blank cells repeat those above. Nothing passes from one entity to the next.
        file: Named in errors.

    Raises:
        DataError: there is no such column.
    """
    types = rows.collect_schema()
    for key, others in columns.items():
        _must_have(rows, [key, *others], file, "fill_down")
        rows = rows.with_columns(filled(key, types[key]).forward_fill())
        rows = rows.with_columns(filled(name, types[name]).forward_fill().over(key) for name in others)
    return rows


def one_row_per(rows: pl.LazyFrame, key: str, file: str) -> pl.LazyFrame:
    """Keep one row for each value of a column, with the first filled cell of every other; the others are DROPPED.

    Raises:
        DataError: there is no such column.
    """
    _must_have(rows, [key], file, "one_row_per")
    types = rows.collect_schema()
    rows = rows.with_columns(filled(key, types[key]))
    cells = [filled(name, types[name]).drop_nulls().first().over(key) for name in own_columns(rows) if name != key]
    sound = pl.col(REFUSED).is_null()
    note = (
        pl.when(sound & pl.col(key).is_null())
        .then(pl.lit(f"{key}: missing"))
        .when(sound & ~pl.col(key).is_first_distinct())
        .then(pl.lit(f"{key}: {FURTHER_ROW}"))
    )
    return rows.with_columns(*cells, note.alias(DROPPED))


def _must_have(rows: pl.LazyFrame, wanted: Sequence[str], file: str, setting: str) -> None:
    have = own_columns(rows)
    for name in wanted:
        if name not in have:
            raise DataError(f"{setting}: {file} has no column {name!r}; its columns: {', '.join(have[:30])}")
