"""Where raw tables come from: one reader a format, in `SOURCES` at the foot of this file.

A reader takes the configured paths and the table asked for, and yields a `Source`: a lazy frame in which
every row carries the file and the row number it came from. It judges cells as little as it can: text formats
are read as text, so that a bad cell is refused later as that one row. To add a source, write its reader here
and name it in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from recsys.config import nearest
from recsys.errors import DataError
from recsys.tables.sources import scanning as scan

Table = Literal["catalog", "interactions"]


@dataclass(frozen=True, eq=False)
class Source:
    """One raw table, lazy and not yet checked.

    `frame` holds the file's columns (ours, where the format is known) and four more: `_file`, `_row` (data
    rows from 1 in each file; lines, in JSON lines), `_refused` (why the reader refuses the row, such as
    `row: not JSON`) and `_dropped` (which dirt, expected in such exports, it is); the last two null for a
    row to be used. `types` is what the columns of a text file look like, read from its head; empty where
    the dtypes of `frame` are the file's own.
    """

    frame: pl.LazyFrame
    files: list[str]
    types: Mapping[str, pl.DataType] = field(default_factory=dict)


Reader = Callable[[list[str], Table], Source]


def _must_have(frame: pl.LazyFrame, columns: list[str], files: list[str], source: str) -> None:
    have = [name for name in frame.collect_schema() if not name.startswith("_")]
    for name in columns:
        if name not in have:
            raise DataError(
                f"{scan.tell_files(files)} has no column {name!r}, which source {source!r} needs"
                f"{nearest(name, have)}; its columns: {', '.join(have)}"
            )
