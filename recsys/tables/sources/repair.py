"""Text tables that polars cannot read as they lie, written anew: one line a row, UTF-8, commas, doubled quotes.

A row that cannot be read is kept as a row, with the reason, and takes no other with it: where a quoted cell does not
end, the record is tried over the lines that follow, and given up for its first line alone.
"""

from __future__ import annotations

import atexit
import csv
import io
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

from recsys.tables.sources.dialect import Dialect, open_bytes
from recsys.tables.sources.quotes import MOST_LINES, ends_open, mend, record, split_record

REASON = "__refused__"


@cache
def _room() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="recsys-tables-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _target() -> Path:
    return _room() / f"{len(list(_room().iterdir())):06d}.csv"


def mended(file: str, dialect: Dialect, width: int) -> Path:
    """Copy a file that polars reads but for its quotes; see `quotes.mend`. The copy goes with the process."""
    target = _target()
    mend(file, dialect, width, target)
    return target


def rewrite(file: str, dialect: Dialect, columns: list[str]) -> Path:
    """Write a file's rows as plain CSV with one more column, the reason why a row cannot be read; return where.

    Args:
        file: The file, packed or not.
        dialect: How it is written.
        columns: Its columns; rows of more cells are refused, shorter ones filled with empty cells.

    Returns:
        A temporary file that goes with the process.
    """
    target = _target()
    with target.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*columns, REASON])
        for cells, reason in records(file, dialect, len(columns)):
            row = [cell.replace("\r\n", " ").replace("\n", " ").replace("\r", " ") for cell in cells[: len(columns)]]
            writer.writerow([*row, *[""] * (len(columns) - len(row)), reason])
    return target


def records(file: str, dialect: Dialect, width: int) -> Iterator[tuple[list[str], str]]:
    """Yield the cells of each record below the header, and why it is refused; a blank line has no cells."""
    with open_bytes(file) as opened:
        text = io.TextIOWrapper(opened, encoding=dialect.encoding, errors="replace", newline="")
        lines = iter(_lines(text))
        for _ in range(dialect.skip):
            next(lines, None)
        if dialect.header:
            _header_record(lines, dialect)
        ahead: deque[str] = deque()
        while (line := ahead.popleft() if ahead else next(lines, None)) is not None:
            if not line.strip():
                yield [], ""
            elif len(dialect.separator) > 1:
                yield _judged(line.split(dialect.separator), width)
            elif not ends_open(line, dialect):
                yield _judged(split_record(line, dialect), width)
            else:
                ahead.extend(islice(lines, MOST_LINES - len(ahead)))
                cells, taken, reason = record([line, *islice(ahead, MOST_LINES)], dialect, width)
                for _ in range(taken - 1):
                    ahead.popleft()
                yield cells, reason


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    for line in text:
        yield line.rstrip("\r\n")


def _header_record(lines: Iterator[str], dialect: Dialect) -> None:
    """Pass the header, which may itself span lines."""
    line = next(lines, "")
    while ends_open(line, dialect):
        following = next(lines, None)
        if following is None:
            return
        line += "\n" + following


def _judged(cells: list[str], width: int) -> tuple[list[str], str]:
    if len(cells) > width:
        return cells, "row: more cells than columns"
    if any("\N{REPLACEMENT CHARACTER}" in cell for cell in cells):
        return cells, "row: not UTF-8"
    return cells, ""
