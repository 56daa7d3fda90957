"""Where raw tables come from: a source is a dataclass of settings that reads files into one raw table.

To add a source, write a module beside this one with a class that has a `name` and the method `read`, and list it in
`registry.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import polars as pl

from recsys.config import nearest
from recsys.errors import DataError
from recsys.tables.sources.scanning import join, name_files

Table = Literal["catalog", "interactions", "reviews"]


@dataclass(frozen=True, eq=False)
class RawTable:
    """One raw table, lazy and not yet checked.

    Attributes:
        frame: The file's columns (ours, where the format is known) and four more, named in `scanning`: FILE,
            ROW (data rows from 1 in each file; lines, in JSON lines), REFUSED (why the reader refuses the row, such as
            `row: not JSON`) and DROPPED (which dirt, expected in such exports, it is); the last two are null for a row
            to be used.
        files: What was read.
        types: What the columns of a text file look like, read from its head; empty where the dtypes of `frame` are the
            file's own.
        notes: What was detected and differs from the usual, a line each.
        parts: The rows of each file, with the dtypes of that file; empty where a source made its rows from several.
    """

    frame: pl.LazyFrame
    files: list[str]
    types: Mapping[str, pl.DataType] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: Mapping[str, pl.LazyFrame] = field(default_factory=dict)

    @classmethod
    def of_parts(
        cls,
        parts: Mapping[str, pl.LazyFrame],
        types: Mapping[str, pl.DataType] | None = None,
        notes: Sequence[str] = (),
    ) -> RawTable:
        """Join the files of one table; see the attributes."""
        return cls(join(list(parts.values())), list(parts), types or {}, list(notes), parts)


class Source(Protocol):
    """Settings of one format or data set. Reading judges no cells: a bad one is refused later, as that one row."""

    name: ClassVar[str]

    def read(self, paths: list[str], table: Table) -> RawTable:
        """Open one raw table.

        Args:
            paths: Files, folders or globs; empty where the source knows its own.
            table: Which table is wanted.

        Raises:
            DataError: a file or package is missing, or cannot be read.
        """


def must_have(frame: pl.LazyFrame, columns: list[str], files: list[str], source: str) -> None:
    """Refuse files that lack a column which a source needs. Raises `DataError`."""
    have = [name for name in frame.collect_schema() if not name.startswith("_")]
    for name in columns:
        if name not in have:
            raise DataError(
                f"{name_files(files)} has no column {name!r}, which source {source!r} needs"
                f"{nearest(name, have)}; its columns: {', '.join(have)}"
            )
