"""File formats of any shop: Parquet, delimited text, JSON lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import polars as pl

from recsys.tables.sources import delimited
from recsys.tables.sources import scanning as scan
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.scanning import ROW

PACKED = ("", ".gz", ".zst", ".bz2", ".zip")


@dataclass(frozen=True)
class Parquet:
    """Parquet files; their dtypes are kept."""

    name: ClassVar[str] = "parquet"

    def read(self, paths: list[str], table: Table) -> RawTable:
        files = scan.find_files(paths, [".parquet"])
        return RawTable(scan.gather(files, lambda file: pl.scan_parquet(file).with_row_index(ROW, 1)), files)


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
    """

    name: ClassVar[str] = "csv"

    separator: str | None = None
    encoding: str | None = None
    decimal: Literal[".", ","] | None = None
    quote: str | None = None
    escape: str | None = None
    header: bool | list[str] | None = None

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
        return RawTable(scan.gather(files, lambda file: by_file[file].scan()), files, types, notes)


@dataclass(frozen=True)
class JsonLines:
    """JSON lines, packed or not; columns are the keys of the first thousand lines. Blank lines are no rows."""

    name: ClassVar[str] = "jsonl"

    def read(self, paths: list[str], table: Table) -> RawTable:
        files = scan.find_files(
            paths, [ending + packed for ending in (".jsonl", ".json", ".ndjson") for packed in ("", ".gz", ".zst")]
        )
        types: dict[str, pl.DataType] = {}
        for file in files:
            types |= {name: dtype for name, dtype in scan.json_types(file).items() if name not in types}
        # Scalars are read as text, so that a number where a date should be costs one row and not the run.
        schema = {name: dtype if dtype.is_nested() else pl.String() for name, dtype in types.items()}
        return RawTable(scan.gather(files, partial(scan.scan_json, schema=schema)), files, types)
