"""Why a row is refused: rules over its cells, and the reason that counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from recsys.tables.sources.scanning import FILE, REFUSED, ROW

REASON, LEFT_OUT, BAD = "__recsys_reason", "__recsys_left_out", "__recsys_bad"


def parsed(column: str) -> str:
    """Name the column that holds the cells of one of our columns as read; no file has such a name."""
    return f"__recsys_{column}"


@dataclass(frozen=True, eq=False)
class CellRule:
    """One way in which a cell is wrong.

    Attributes:
        column: Our name of the column.
        reason: What is wrong, in a few words.
        broken: True for the rows to refuse; the cell as read stands in column `parsed(column)`.
    """

    column: str
    reason: str
    broken: pl.Expr


def is_refused(rules: Sequence[CellRule]) -> pl.Expr:
    """Whether a row is refused: several times as fast as to say why, which few rows need."""
    return pl.any_horizontal(pl.col(REFUSED).is_not_null(), *(rule.broken.fill_null(False) for rule in rules))


def first_reason(rules: Sequence[CellRule]) -> pl.Expr:
    """The reason for which a row is refused, as `column: what is wrong`; null for a good row."""
    reasons = [pl.when(rule.broken).then(pl.lit(f"{rule.column}: {rule.reason}")) for rule in rules]
    return pl.coalesce(pl.col(REFUSED), *reasons)


def quarantined(columns: Sequence[str]) -> list[pl.Expr]:
    """The columns of the quarantine, from a frame with REASON; a reason of the whole row has no column."""
    named = pl.col(REASON).str.split(": ").list.first()
    cells = [pl.when(named == name).then(pl.col(name).cast(pl.String)) for name in dict.fromkeys(columns)]
    return [
        pl.col(FILE).alias("file"),
        pl.col(ROW).alias("row"),
        pl.when(named != "row").then(named).alias("column"),
        pl.coalesce(*cells).alias("value"),
        pl.col(REASON).alias("reason"),
    ]
