"""Delimited text files, scanned lazily: every cell as text, each row with its number and why it is refused."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from recsys.errors import DataError
from recsys.tables.sources.dialect import Dialect, detect, open_bytes, packing_of, reading_rules
from recsys.tables.sources.quotes import OPEN_QUOTE, Survey, survey
from recsys.tables.sources.repair import REASON, mended, rewrite
from recsys.tables.sources.scanning import HEAD_ROWS, REFUSED, ROW

OVERFLOW = "__recsys_overflow"


@dataclass(frozen=True)
class DelimitedFile:
    """One file, how it is written, and its columns."""

    file: str
    dialect: Dialect
    columns: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was detected, where it is not comma-separated UTF-8 with a header; empty where it is."""
        unlike = self.dialect.unlike(Dialect())
        return f"{self.file}: {', '.join(unlike)}" if unlike else ""

    @cached_property
    def _survey(self) -> Survey:
        return survey(self.file, self.dialect)

    def scan(self) -> pl.LazyFrame:
        """Scan the file, with ROW and REFUSED."""
        if not self.dialect.plain:
            return self._scan_rewritten()
        if self._survey.open_quotes or packing_of(self.file) in ("bz2", "zip"):  # polars unpacks the others itself
            return self._scan_plain(str(self._mended), first_row=0, first_line=0)
        dialect = self.dialect
        # polars skips either lines or records, of which a header may span several lines.
        lines = dialect.skip + int(dialect.header) if dialect.skip else 0
        return self._scan_plain(self.file, first_row=0 if dialect.skip else int(dialect.header), first_line=lines)

    @cached_property
    def _mended(self) -> Path:
        return mended(self.file, self.dialect, len(self.columns))

    @cached_property
    def _rewritten(self) -> Path:
        return rewrite(self.file, self.dialect, list(self.columns))

    def _scan_rewritten(self) -> pl.LazyFrame:
        cells = pl.scan_csv(self._rewritten, glob=False, infer_schema=False, row_index_name=ROW, row_index_offset=1)
        reason = pl.when(pl.col(REASON) != "").then(REASON)
        return self._clean(cells.with_columns(reason.alias(REFUSED)).drop(REASON))

    def _scan_plain(self, file: str, first_row: int, first_line: int) -> pl.LazyFrame:
        dialect = self.dialect
        cells = pl.scan_csv(
            file,
            glob=False,
            separator=dialect.separator,
            quote_char=dialect.quote or None,
            has_header=False,
            skip_lines=first_line,
            skip_rows=first_row,
            # polars cuts a long row without a word; one column too many shows where it did.
            schema=dict.fromkeys([*self.columns, OVERFLOW], pl.String),
            truncate_ragged_lines=True,
            missing_columns="insert",
            extra_columns="ignore",
            raise_if_empty=False,
            encoding="utf8" if self._survey.ascii else "utf8-lossy",
            row_index_name=ROW,
            row_index_offset=1,
        )
        refused = (
            pl.when(pl.col(OVERFLOW) == OPEN_QUOTE)
            .then(pl.lit(OPEN_QUOTE))
            .when(pl.col(OVERFLOW).is_not_null())
            .then(pl.lit("row: more cells than columns"))
        )
        if not self._survey.ascii:
            own = pl.col(list(self.columns))
            garbled = pl.any_horizontal(own.str.contains("\N{REPLACEMENT CHARACTER}", literal=True))
            refused = refused.when(garbled).then(pl.lit("row: not UTF-8"))
        return self._clean(cells.with_columns(refused.alias(REFUSED)).drop(OVERFLOW))

    def _clean(self, cells: pl.LazyFrame) -> pl.LazyFrame:
        """Leave out blank lines, and write decimal commas as points."""
        own = pl.col(list(self.columns))
        rows = cells.filter(~pl.all_horizontal(own.is_null()) | pl.col(REFUSED).is_not_null())
        if self.dialect.decimal != ",":
            return rows
        number = own.str.contains(r"^\s*[-+]?[\d.]*\d,\d+\s*$")
        pointed = own.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        return rows.with_columns(pl.when(number).then(pointed).otherwise(own).name.keep())

    def types(self) -> dict[str, pl.DataType]:
        """What the columns look like, from the head of the file."""
        head = self.scan().head(HEAD_ROWS).select(self.columns).collect()
        text = io.BytesIO()
        head.write_csv(text)
        text.seek(0)
        read = pl.read_csv(text, infer_schema_length=HEAD_ROWS, ignore_errors=True) if head.height else head
        return dict(read.schema)


def open_file(file: str, header: bool | list[str] | None = None, **given: Any) -> DelimitedFile:
    """Detect how a file is written, and read its header.

    Args:
        file: The file, packed or not.
        header: Whether the first line names the columns, or the names themselves; None detects it.
        given: Further fields of `Dialect` that the config sets; None detects them.

    Raises:
        DataError: the file is empty.
    """
    dialect = detect(file, header=False if isinstance(header, list) else header, **given)
    first = _first_record(file, dialect)
    if first is None:
        raise DataError(f"{file}: cannot be read: it is empty")
    if other := _other_format(file):
        raise DataError(f"{file} is no delimited text, it looks like {other}")
    if isinstance(header, list):
        names = header
    elif dialect.header:
        names = [name.strip() for name in first]
    else:
        names = [f"column_{place + 1}" for place in range(len(first))]
    return DelimitedFile(file, dialect, tuple(_distinct(names)))


def _other_format(file: str) -> str:
    """What a file is that is no delimited text, and the setting that reads it; empty for delimited text."""
    with open_bytes(file) as opened:
        head = opened.read(4_096).lstrip(codecs.BOM_UTF8).lstrip()
    if head.startswith(b"PAR1"):
        return "Parquet: write `source: parquet`"
    if head.startswith(b"[{"):
        return "one JSON array: write it as JSON lines, one object a line"
    return "JSON lines: write `source: jsonl`" if re.match(rb'\{\s*"', head) else ""


def _first_record(file: str, dialect: Dialect) -> list[str] | None:
    """The cells of the first line that is not blank, after those to be skipped."""
    with open_bytes(file) as opened:
        text = io.TextIOWrapper(opened, encoding=dialect.encoding, errors="replace", newline="")
        for _ in range(dialect.skip):
            text.readline()
        if len(dialect.separator) > 1:
            line = text.readline()
            return line.rstrip("\r\n").split(dialect.separator) if line else None
        try:
            return next(csv.reader(text, **reading_rules(dialect)), None)
        except csv.Error as error:
            raise DataError(f"{file}: cannot be read: its first line: {error}") from error


def _distinct(names: list[str]) -> list[str]:
    """Name what has no name by its place, and what comes twice by how often it came before."""
    taken: dict[str, int] = {}
    found: list[str] = []
    for place, name in enumerate(names, start=1):
        plain = name or f"column_{place}"
        again = taken.get(plain, 0)
        taken[plain] = again + 1
        found.append(f"{plain}_duplicated_{again - 1}" if again else plain)
    return found
