"""Quotes that do not end where their line ends: found at the speed of the disk, and mended line by line.

polars takes a quote that does not end for the begin of a cell of a thousand lines. A file without such quotes is read
as it lies; of one with them a copy is made, in which only the records in question differ.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from recsys.arrays import BoolArray
from recsys.tables.sources.dialect import Dialect, open_bytes, reading_rules

MOST_LINES = 1_000  # that one quoted cell may span
# Lines inside a cell from which on, and the share of them that must have as many cells as the table, to be rows of it.
ROWS_INSIDE, ROWS_SHARE = 3, 0.9
BLOCK = 1 << 22
OPEN_QUOTE = "row: a quote that does not end"
NEWLINE = b"\n"


@dataclass(frozen=True)
class Survey:
    """What a pass over the bytes of a file shows.

    Attributes:
        ascii: Whether all of it is ASCII.
        open_quotes: Whether a line holds an odd number of quotes: a cell spans lines, or a quote does not end.
    """

    ascii: bool
    open_quotes: bool


def survey(file: str, dialect: Dialect) -> Survey:
    """Pass over a file, packed or not."""
    plain, open_quotes = True, False
    quote = (dialect.quote or "").encode()
    with open_bytes(file) as opened:
        for block in _blocks(opened):
            plain = plain and block.isascii()
            if quote and not open_quotes and quote in block:
                open_quotes = bool(_odd_lines(block, quote).any())
            if open_quotes and not plain:
                break
    return Survey(plain, open_quotes)


def _blocks(opened: IO[bytes]) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines."""
    rest = b""
    while read := opened.read(BLOCK):
        whole, newline, after = read.rpartition(NEWLINE)
        if newline:
            yield rest + whole + newline
            rest = after
        else:
            rest += read
    if rest:
        yield rest


def _odd_lines(block: bytes, quote: bytes) -> BoolArray:
    """Which lines of a block hold an odd number of quotes."""
    letters = np.frombuffer(block, dtype=np.uint8)
    starts = np.flatnonzero(letters == NEWLINE[0]) + 1
    starts = np.concatenate([[0], starts[:-1] if starts.size and starts[-1] == len(block) else starts])
    odd = np.bitwise_xor.reduceat((letters == quote[0]).view(np.uint8), starts)
    return odd.astype(bool)


def mend(file: str, dialect: Dialect, width: int, target: Path) -> None:
    """Copy the rows of a file, each record on one line, without the header.

    A record in which a quote does not end is given up for its first line, and followed by OPEN_QUOTE as one cell more
    than there are columns.

    Args:
        file: The file, packed or not, in UTF-8, with a separator of one character and doubled quotes.
        dialect: How it is written, and its copy.
        width: How many columns it has.
        target: Where the copy goes.
    """
    quote = (dialect.quote or "").encode()
    with open_bytes(file) as opened, target.open("wb") as out:
        for _ in range(dialect.skip):
            opened.readline()
        if dialect.header:
            _pass_header(opened, dialect)
        rest, ended, first = b"", False, True
        while not ended:
            read = opened.read(BLOCK)
            ended = not read
            whole, newline, after = read.rpartition(NEWLINE)
            if not newline and not ended:
                rest += read
                continue
            block, rest = (rest, b"") if ended else (rest + whole + newline, after)
            if first and not dialect.header:
                block = block.removeprefix(codecs.BOM_UTF8)
            first = False
            rest = _mend_block(block, ended, quote, dialect, width, out) + rest


def _mend_block(block: bytes, ended: bool, quote: bytes, dialect: Dialect, width: int, out: IO[bytes]) -> bytes:
    """Write a block of whole lines; return what must wait for the lines that follow."""
    if quote not in block:
        out.write(block)
        return b""
    lines = block.splitlines(keepends=True) if b"\r" not in block else _lines_of(block)
    place = 0
    for number in np.flatnonzero(_odd_lines(block, quote)).tolist():
        if number < place:
            continue
        out.writelines(lines[place:number])
        if not ended and len(lines) - number <= MOST_LINES:
            return b"".join(lines[number:])
        texts = [_text(line) for line in lines[number : number + 1 + MOST_LINES]]
        cells, taken, reason = record(texts, dialect, width)
        out.write(_written(cells, width, reason, dialect))
        place = number + taken
    out.writelines(lines[place:])
    return b""


def _lines_of(block: bytes) -> list[bytes]:
    return [line + NEWLINE for line in block.removesuffix(NEWLINE).split(NEWLINE)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")


def _pass_header(opened: IO[bytes], dialect: Dialect) -> None:
    """Pass the header, which may itself span lines, and blank lines before it."""
    line = _text(opened.readline())
    while ends_open(line, dialect):
        following = opened.readline()
        if not following:
            return
        line += "\n" + _text(following)


def _written(cells: Sequence[str], width: int, reason: str, dialect: Dialect) -> bytes:
    row = [cell.replace("\r\n", " ").replace("\n", " ").replace("\r", " ") for cell in cells]
    if reason:
        row = [*row[:width], *[""] * (width - len(row)), reason]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=dialect.separator, quotechar=dialect.quote or '"', lineterminator="\n").writerow(row)
    return text.getvalue().encode()


def record(lines: Sequence[str], dialect: Dialect, width: int) -> tuple[list[str], int, str]:
    """Read the record that begins with the first of some lines.

    Args:
        lines: As many as a record may span, without their ends.
        dialect: How they are written.
        width: How many columns there are.

    Returns:
        Its cells, how many lines it takes, and OPEN_QUOTE where a quote does not end: then it is the first line alone.
    """
    inside, taken = ends_open(lines[0], dialect), 1
    while inside and taken < len(lines):
        inside = ends_open(lines[taken], dialect, inside)
        taken += 1
    if taken == 1 and not inside:
        return split_record(lines[0], dialect), 1, ""
    if not inside and not _are_rows(lines[1 : taken - 1], dialect, width):
        try:
            cells = next(csv.reader(io.StringIO("\n".join(lines[:taken]), newline=""), strict=True,
                                    **reading_rules(dialect)), [])  # fmt: skip
        except csv.Error:
            cells = []
        if len(cells) == width:
            return cells, taken, ""
    return split_record(lines[0].replace(dialect.quote or '"', ""), dialect), 1, OPEN_QUOTE


def _are_rows(lines: Sequence[str], dialect: Dialect, width: int) -> bool:
    """Whether the lines inside a cell are rows of the table: then it is a later row's mistake that ends the cell."""
    rows = sum(line.count(dialect.separator) == width - 1 for line in lines)
    return width > 2 and len(lines) >= ROWS_INSIDE and rows >= ROWS_SHARE * len(lines)


def split_record(text: str, dialect: Dialect) -> list[str]:
    """The cells of one record; raises nothing."""
    return next(csv.reader(io.StringIO(text, newline=""), **reading_rules(dialect)), [])


def ends_open(text: str, dialect: Dialect, inside: bool = False) -> bool:
    """Whether a quoted cell has not ended at the end of a text; `inside`: whether one had begun before it.

    A quote inside an unquoted cell opens nothing.
    """
    quote, escape = dialect.quote, dialect.escape
    if quote is None:
        return False
    place = 0
    while (found := text.find(quote, place)) >= 0:
        escaped = text.find(escape, place, found) if escape and inside else -1
        if escaped >= 0:
            place = escaped + 2
        elif inside and text[found + 1 : found + 2] == quote:
            place = found + 2
        elif inside:
            inside, place = False, found + 1
        else:
            inside, place = found == 0 or text[found - 1] == dialect.separator, found + 1
    return inside
