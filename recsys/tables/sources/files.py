"""File formats of any shop: Parquet, delimited text, JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import polars as pl

from recsys.errors import DataError
from recsys.tables.sources import delimited
from recsys.tables.sources import scanning as scan
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.folding import fill_down, one_row_per
from recsys.tables.sources.json_lines import json_types, scan_json
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import ROW

PACKED = ("", ".gz", ".zst", ".bz2", ".zip")
ENDINGS = {"jsonl": (".jsonl", ".json", ".ndjson"), "parquet": (".parquet", ".pq")}


def source_of(path: str) -> str:
    """Return which source reads a file, by the ending of its name; `csv` where that says nothing."""
    stem = path.lower()
    for packed in PACKED:
        stem = stem.removesuffix(packed)
    return next((name for name, endings in ENDINGS.items() if stem.endswith(endings)), "csv")


@SOURCES.register
@dataclass(frozen=True)
class Parquet:
    """Parquet files; their dtypes are kept."""

    name: ClassVar[str] = "parquet"

    def read(self, paths: list[str], table: Table) -> RawTable:
        files = scan.find_files(paths, [".parquet"])
        return RawTable.of_parts(
            scan.gather(files, lambda file: pl.scan_parquet(file, glob=False).with_row_index(ROW, 1))
        )


@SOURCES.register
@dataclass(frozen=True)
class Csv:
    """Delimited text, packed (gz, zst, bz2, zip) or not. Blank lines are no rows.

    What is not set is detected from the first lines of each file, and logged where it is not comma-separated UTF-8 with
    a header.

    Attributes:
        separator: What stands between two cells: `,`, `;`, `|`, a tab, or several characters such as `::`.
        encoding: Such as `utf-8`, `utf-16`, `latin-1`.
        decimal: The decimal mark of numbers.
        quote: What surrounds a cell that holds separators; empty for none.
        escape: What stands before a quote inside a cell where quotes are not doubled, such as a backslash.
        header: Whether the first line names the columns, or the names themselves where no line does.
        fill_down: Where one order or product spans rows and later ones leave blank what the first says: the column
            that names it, and those whose blank cells repeat the row above, as in `{Name: [Email, Created at]}`.
        one_row_per: A column of which each value gets one row, with the first filled cell of every other column, as
            `Handle` where a product has a row a variant.
    """

    name: ClassVar[str] = "csv"

    separator: str | None = None
    encoding: str | None = None
    decimal: Literal[".", ","] | None = None
    quote: str | None = None
    escape: str | None = None
    header: bool | list[str] | None = None
    fill_down: dict[str, list[str]] = field(default_factory=dict)
    one_row_per: str | None = None

    def read(self, paths: list[str], table: Table) -> RawTable:
        # In a folder that holds .csv files, a .txt is more likely a note than a table.
        endings = [
            [ending + packed for ending in some for packed in PACKED] for some in ((".csv", ".tsv"), (".txt", ".dat"))
        ]
        files = scan.find_files(paths, *endings)
        given = {name: getattr(self, name) for name in ("separator", "encoding", "decimal", "quote", "escape")}
        opened = [delimited.open_file(file, self.header, **given) for file in files]
        notes = [one.note for one in opened if one.note]
        by_file = {one.file: one for one in opened}
        types: dict[str, pl.DataType] = opened[0].types() if opened else {}
        return RawTable.of_parts(scan.gather(files, lambda file: self._folded(by_file[file])), types, notes)

    def _folded(self, opened: delimited.DelimitedFile) -> pl.LazyFrame:
        rows = opened.scan()
        if self.fill_down:
            rows = fill_down(rows, self.fill_down, opened.file)
        return rows if self.one_row_per is None else one_row_per(rows, self.one_row_per, opened.file)


@SOURCES.register
@dataclass(frozen=True)
class JsonLines:
    """JSON lines, packed or not; columns are the keys of all lines. Blank lines are no rows.

    Attributes:
        explode: A key whose value is a list of objects, such as the events of a session: each becomes a row, with the
            other keys of its line, and its fields are columns `key.field`.
    """

    name: ClassVar[str] = "jsonl"

    explode: str | None = None

    def read(self, paths: list[str], table: Table) -> RawTable:
        files = scan.find_files(
            paths, [ending + packed for ending in (".jsonl", ".json", ".ndjson") for packed in ("", ".gz", ".zst")]
        )
        types: dict[str, pl.DataType] = {}
        for file in files:
            types |= {name: dtype for name, dtype in json_types(file).items() if name not in types}
        # Scalars are read as text, so that a number where a date should be costs one row and not the run.
        schema = {name: dtype if dtype.is_nested() else pl.String() for name, dtype in types.items()}
        parts = scan.gather(files, partial(scan_json, schema=schema))
        if self.explode is None:
            return RawTable.of_parts(parts, types)
        fields = _fields(types, self.explode, scan.name_files(files))
        exploded = {file: _exploded(part, self.explode, fields) for file, part in parts.items()}
        return RawTable.of_parts(exploded, types | {f"{self.explode}.{name}": dtype for name, dtype in fields.items()})


def _fields(types: Mapping[str, pl.DataType], key: str, files: str) -> dict[str, pl.DataType]:
    """The fields of the objects that a key lists."""
    dtype = types.get(key)
    if not isinstance(dtype, pl.List) or not isinstance(dtype.inner, pl.Struct):
        lists = [name for name, one in types.items() if isinstance(one, pl.List) and isinstance(one.inner, pl.Struct)]
        raise DataError(f"{files}: explode: {key!r} is no list of objects; such keys: {', '.join(lists) or 'none'}")
    return dict(dtype.inner)  # type: ignore[arg-type]


def _exploded(part: pl.LazyFrame, key: str, fields: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    rows = part.filter((pl.col(key).list.len() > 0) | pl.col(scan.REFUSED).is_not_null()).explode(key)
    return rows.with_columns(pl.col(key).struct.field(name).alias(f"{key}.{name}") for name in fields).drop(key)
