"""A table made from several named files by SQL: orders and their lines, ratings to likes, sessions to users."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import polars as pl

from recsys.config import construct
from recsys.errors import ConfigError, DataError
from recsys.tables.sources.base import RawTable, Source, Table
from recsys.tables.sources.files import Csv, JsonLines, Parquet, source_of
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW, join, own_columns

FORMATS: dict[str, type[Source]] = {member.name: member for member in (Csv, JsonLines, Parquet)}
LEFT_OUT = "left_out"  # a column of the query that says why a row is not kept; null keeps it
RESULT = "query"  # what stands for the file of a row that the query made
_USED = pl.col(REFUSED).is_null() & pl.col(DROPPED).is_null()


@SOURCES.register
@dataclass(frozen=True)
class Query:
    """SQL over files, as polars understands it; only `SELECT`.

    Cells of text files are text: `CAST(rating AS DOUBLE)` makes numbers, `TRY_CAST` nulls where a cell is none. Rows
    that a file's reader refuses or drops are told here too; they take no part in the query. A column `left_out` leaves
    out the rows in which it holds a text, and tells how many for each: a join with fewer partners than rows says so in
    every run.

    Attributes:
        query: The statement. Its columns are those of the table.
        tables: The tables that it names: for each a path (as of any source; its ending tells the format), or a mapping
            of `path`, `source` (csv, jsonl, parquet) and the settings of that source.
    """

    name: ClassVar[str] = "query"

    query: str
    tables: dict[str, str | list[str] | dict[str, Any]] = field(default_factory=dict)

    def read(self, paths: list[str], table: Table) -> RawTable:
        where = f"data.{table}"
        if not re.match(r"(?is)\s*(select|with)\b", self.query) or re.search(r"(?i)\b(read|scan)_\w+\s*\(", self.query):
            raise ConfigError(f"{where}.query: it must be one SELECT over the tables named under {where}.tables")
        if not self.tables:
            raise ConfigError(f"{where}.tables: name the files that the query reads, as in `orders: orders.csv`")
        opened = {name: _open(settings, f"{where}.tables.{name}", table) for name, settings in self.tables.items()}
        frames = {name: raw.frame for name, raw in opened.items()}
        _try(self.query, frames, where)
        files = [file for raw in opened.values() for file in raw.files]
        names = pl.Enum([*dict.fromkeys([RESULT, *files])])
        made = _run(self.query, frames, where).with_row_index(ROW, 1)
        blank = pl.lit(None, pl.String)
        says = LEFT_OUT in made.collect_schema()
        dropped = pl.col(LEFT_OUT).cast(pl.String) if says else blank
        made = made.with_columns(pl.lit(RESULT, names).alias(FILE), blank.alias(REFUSED), dropped.alias(DROPPED))
        parts = [made.drop(LEFT_OUT) if says else made]
        for frame in frames.values():
            bad = frame.filter(~_USED)
            parts.append(bad.select(ROW, pl.col(FILE).cast(pl.String).cast(names), REFUSED, DROPPED))
        types = {column: dtype for raw in opened.values() for column, dtype in raw.types.items()}
        return RawTable(join(parts), files, types, [note for raw in opened.values() for note in raw.notes])


def _open(settings: str | list[str] | dict[str, Any], where: str, table: Table) -> RawTable:
    given: dict[str, Any] = dict(settings) if isinstance(settings, dict) else {"path": settings}
    path = given.pop("path", "")
    paths = [path] if isinstance(path, str) else list(path)
    if not any(paths):
        raise ConfigError(f"{where}: give `path:` a file, a folder, a glob or a list of them")
    return construct(FORMATS, given.pop("source", source_of(paths[0])), given, where).read(paths, table)


def _run(query: str, frames: dict[str, pl.LazyFrame], where: str) -> pl.LazyFrame:
    sound = {name: frame.filter(_USED).select(own_columns(frame)) for name, frame in frames.items()}
    try:
        made = pl.SQLContext(sound).execute(query, eager=False)
        made.collect_schema()
        return made
    except pl.exceptions.PolarsError as error:
        raise _explained(error, frames, where) from error


def _try(query: str, frames: dict[str, pl.LazyFrame], where: str) -> None:
    """Run the query over no rows: what it compares wrongly is found before the work."""
    empty = {name: frame.collect_schema().to_frame().lazy() for name, frame in frames.items()}
    made = _run(query, empty, where)
    try:
        made.collect()
    except pl.exceptions.PolarsError as error:
        raise _explained(error, frames, where) from error


def _explained(error: Exception, frames: dict[str, pl.LazyFrame], where: str) -> DataError:
    said = str(error).strip().splitlines()[0][:300]
    columns = "; ".join(f"{name}: {', '.join(own_columns(frame)[:20])}" for name, frame in frames.items())
    if "cannot compare string" in said:
        said += " (cells of text files are text: write CAST(column AS DOUBLE))"
    return DataError(f"{where}.query: {said}; the tables and their columns: {columns}")
