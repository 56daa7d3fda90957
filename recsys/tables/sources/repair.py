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
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from recsys.tables.sources.dialect import Dialect, open_bytes, reading_rules

MOST_LINES = 1_000  # that one quoted cell may span
REASON = "__refused__"


@cache
def _room() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="recsys-tables-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def rewrite(file: str, dialect: Dialect, columns: list[str]) -> Path:
    """Write a file's rows as plain CSV with one more column, the reason why a row cannot be read; return where.

    Args:
        file: The file, packed or not.
        dialect: How it is written.
        columns: Its columns; rows of more cells are refused, shorter ones filled with empty cells.

    Returns:
        A temporary file that goes with the process.
    """
    target = _room() / f"{len(list(_room().iterdir())):06d}.csv"
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
        pending: list[str] = []
        if dialect.header:
            _header_record(lines, dialect)
        while True:
            line = pending.pop(0) if pending else next(lines, None)
            if line is None:
                return
            if not line.strip():
                yield [], ""
                continue
            if len(dialect.separator) > 1:
                yield _judged(line.split(dialect.separator), width)
                continue
            cells, reason, pending = _record(line, pending, lines, dialect, width)
            yield cells, reason


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    for line in text:
        yield line.rstrip("\r\n")


def _header_record(lines: Iterator[str], dialect: Dialect) -> None:
    """Pass the header, which may itself span lines."""
    line = next(lines, "")
    while _open_quote(line, dialect):
        following = next(lines, None)
        if following is None:
            return
        line += "\n" + following


def _record(line: str, pending: list[str], lines: Iterator[str], dialect: Dialect,
            width: int) -> tuple[list[str], str, list[str]]:  # fmt: skip
    """Read the record that begins with a line: its cells, why it is refused, and the lines to read again."""
    if not _open_quote(line, dialect):
        cells, reason = _judged(_split(line, dialect), width)
        return cells, reason, pending
    taken: list[str] = []
    record = line
    while len(taken) < MOST_LINES:
        following = pending.pop(0) if pending else next(lines, None)
        if following is None:
            break
        taken.append(following)
        record += "\n" + following
        if not _open_quote(record, dialect):
            cells = _split(record, dialect)
            if len(cells) == width:
                return cells, "", pending
            break
    return _split(line.replace(dialect.quote or '"', ""), dialect), "row: a quote that does not end", taken + pending


def _judged(cells: list[str], width: int) -> tuple[list[str], str]:
    if len(cells) > width:
        return cells, "row: more cells than columns"
    if any("\N{REPLACEMENT CHARACTER}" in cell for cell in cells):
        return cells, "row: not UTF-8"
    return cells, ""


def _split(text: str, dialect: Dialect) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline=""), **reading_rules(dialect)), [])


def _open_quote(text: str, dialect: Dialect) -> bool:
    """Whether a quoted cell of this text has not ended yet. A quote inside an unquoted cell opens nothing."""
    quote = dialect.quote
    if quote is None or quote not in text:
        return False
    inside, start, place = False, True, 0
    while place < len(text):
        mark = text[place]
        if inside:
            if dialect.escape and mark == dialect.escape:
                place += 2
                continue
            if mark == quote:
                if text[place + 1 : place + 2] == quote:
                    place += 2
                    continue
                inside = False
        elif mark == quote and start:
            inside = True
        start = not inside and mark == dialect.separator
        place += 1
    return inside
