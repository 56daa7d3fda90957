"""How a text table is written: encoding, separator, quotes, header and decimal mark, detected from its first lines."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO

from recsys.errors import DataError
from recsys.storage import remote

HEAD_BYTES = 1 << 18
HEAD_LINES = 200
SEPARATORS = (",", ";", "\t", "|", "::")
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
PACKINGS = ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zst"), (b"PK\x03\x04", "zip"))
# Lines that are not UTF-8, and their share, from which on the file is taken for Latin-1: there every byte is a letter.
LATIN, LATIN_LINES = 0.02, 3
OTHER_SCRIPT = 2.0  # mean bytes beyond ASCII that stand together, from which on they are no accents
NUMBER = re.compile(r"^\s*[-+]?(\d+([.,]\d+)?|\d{1,3}(,\d{3})+(\.\d+)?)([eE][-+]?\d+)?\s*$")
COMMA_NUMBER = re.compile(r"^\s*[-+]?\d+,\d+\s*$")
POINT_NUMBER = re.compile(r"^\s*[-+]?\d+\.\d+\s*$")


@dataclass(frozen=True)
class Dialect:
    """How one file is written.

    Attributes:
        encoding: A codec of Python's.
        separator: What stands between two cells; may be several characters, as in `::`.
        quote: What surrounds a cell that holds separators; doubled inside it. None for none.
        escape: What stands before a quote inside a cell, where quotes are not doubled: a backslash. None for none.
        decimal: The decimal mark of numbers, `.` or `,`.
        header: Whether the first line names the columns.
        skip: Lines before the header: blank ones, and Excel's `sep=;`.
    """

    encoding: str = "utf-8"
    separator: str = ","
    quote: str | None = '"'
    escape: str | None = None
    decimal: str = "."
    header: bool = True
    skip: int = 0

    @property
    def plain(self) -> bool:
        """Whether polars reads such a file as it lies."""
        return self.encoding in ("utf-8", "utf-8-sig") and len(self.separator) == 1 and self.escape is None

    def unlike(self, other: Dialect) -> list[str]:
        """Say in which ways this dialect is not the other."""
        names = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
        said = []
        if self.encoding.removesuffix("-sig") != other.encoding:
            said.append(f"encoding {self.encoding}")
        if self.separator != other.separator:
            said.append(f"separator {names.get(self.separator, repr(self.separator))}")
        if self.escape != other.escape:
            said.append("quotes escaped by a backslash")
        if self.decimal != other.decimal:
            said.append("decimal comma")
        if self.quote != other.quote:
            said.append(f"quote {self.quote or 'none'}")
        if not self.header:
            said.append("no header line")
        if self.skip != other.skip:
            said.append(f"header on line {self.skip + 1}")
        return said


def packing_of(file: str) -> str:
    """Return how a file is packed, by its first bytes: gz, bz2, zst, zip, or an empty text for not at all."""
    with _raw(file) as opened:
        head = opened.read(4)
    return next((name for mark, name in PACKINGS if head.startswith(mark)), "")


def open_bytes(file: str) -> IO[bytes]:
    """Open a file for reading, unpacked where it is gz, bz2, zst or zip (with one file in it).

    Raises:
        DataError: a zip holds no file or several.
    """
    packing = packing_of(file)
    if packing == "gz":
        return io.BufferedReader(gzip.open(_raw(file), "rb"))
    if packing == "bz2":
        return bz2.open(_raw(file), "rb")
    if packing == "zst":
        return _zstd(file)
    if packing == "zip":
        packed = zipfile.ZipFile(_raw(file))
        inside = [one for one in packed.namelist() if not one.endswith("/") and not one.startswith("__MACOSX")]
        if len(inside) != 1:
            raise DataError(f"{file} holds {len(inside)} files, and one is wanted: unpack it, and name its files")
        return packed.open(inside[0])
    return _raw(file)


def _raw(file: str) -> BinaryIO:
    return remote.open_bytes(file) if remote.is_remote(file) else Path(file).open("rb")


def _zstd(file: str) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise DataError(f"{file} is packed with zstd: pip install zstandard, or unpack it") from None
    return io.BufferedReader(zstandard.open(_raw(file), "rb"))


def detect(file: str, **given: Any) -> Dialect:
    """Detect how a file is written.

    Args:
        file: The file, packed or not.
        given: Fields of `Dialect` that the config sets; they are not detected. None stands for "detect".

    Returns:
        The dialect. Where the first lines do not tell, it is that of comma-separated UTF-8 with a header.

    Raises:
        DataError: its text is not of the given encoding, or of one that cannot be detected.
    """
    known = {name: value for name, value in given.items() if value is not None}
    with open_bytes(file) as opened:
        head = opened.read(HEAD_BYTES)
    whole = len(head) < HEAD_BYTES
    found = replace(Dialect(), encoding=known.get("encoding") or _encoding(file, head))
    try:
        text = codecs.getincrementaldecoder(found.encoding)("strict" if "encoding" in known else "replace").decode(head)
    except (LookupError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: its text is not {found.encoding}: {error}; set encoding to what it is") from error
    lines = text.splitlines()
    lines = (lines if whole else lines[:-1])[:HEAD_LINES]
    skip = next((place for place, line in enumerate(lines) if line.strip()), len(lines))
    if skip < len(lines) and (declared := re.fullmatch(r'"?sep=(.|\\t)"?', lines[skip].strip())):
        found = replace(found, separator="\t" if declared[1] == "\\t" else declared[1])
        known.setdefault("separator", found.separator)
        skip += 1
    while skip + 1 < len(lines) and lines[skip].startswith("#") and not any(mark in lines[skip] for mark in SEPARATORS):
        skip += 1  # a comment; a header that begins with this mark has several cells
    skip = known.get("skip", skip)
    rows = [line for line in lines[skip:] if line.strip()]
    if not rows:
        return replace(found, **(known | {"skip": 0}))
    separator = known.get("separator") or _separator(rows)
    escape = known["escape"] if "escape" in known else _escape(rows)
    found = replace(found, separator=separator, escape=escape, skip=skip)
    found = replace(found, quote=known.get("quote", _quote(rows, separator)) or None)
    cells = [split(row, found) for row in rows]
    decimal = known.get("decimal") or ("." if separator == "," else _decimal(cells[1:]))
    header = known["header"] if "header" in known else _header(cells)
    return replace(found, decimal=decimal, header=header)


def _encoding(file: str, head: bytes) -> str:
    for mark, name in BOMS:
        if head.startswith(mark):
            return name
    if head[1:2] == b"\0" and head[3:4] == b"\0":
        return "utf-16-le"
    if head[:1] == b"\0" and head[2:3] == b"\0":
        return "utf-16-be"
    lines = head.split(b"\n")[:-1] or [head]
    broken = sum(not _is_utf8(line) for line in lines)
    # Text of one language in UTF-8 is broken nowhere; in Latin-1 wherever it has an accent.
    if broken < max(LATIN * len(lines), LATIN_LINES) or _has_utf8_letters(lines):
        return "utf-8"
    runs = re.findall(rb"[\x80-\xff]+", head)
    # Accents stand alone between letters of ASCII; the letters of other scripts stand together.
    if sum(map(len, runs)) > OTHER_SCRIPT * len(runs):
        raise DataError(
            f"{file}: its text is neither UTF-8 nor Latin-1: set `encoding:` to what it is, such as gb18030, big5, "
            "shift_jis, euc_kr, cp1251 or cp1253"
        )
    return "cp1252"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_utf8_letters(lines: Sequence[bytes]) -> bool:
    """Whether some lines hold letters beyond ASCII and are sound UTF-8: then broken ones are damage, not Latin-1."""
    return any(not line.isascii() and _is_utf8(line) for line in lines)


def _separator(rows: Sequence[str]) -> str:
    """The separator that stands equally often in most lines and in the first, and of these that of most cells."""
    best, found = (0.0, False, 0), ","
    for separator in SEPARATORS:
        counts = Counter(len(split(row, Dialect(separator=separator))) for row in rows[:50])
        cells, lines = counts.most_common(1)[0]
        if separator == ":" or cells < 2:
            continue
        first = len(split(rows[0], Dialect(separator=separator)))
        rank = (round(lines / min(len(rows), 50), 1), first == cells, cells)
        if rank > best:
            best, found = rank, separator
    return found


def _escape(rows: Sequence[str]) -> str | None:
    """A backslash, where it stands before quotes inside quoted cells."""
    return (
        "\\" if any(re.search(r'[^"\\]\\"[^,;\t|]', row) or re.search(r'\\""?[,;\t|]', row) for row in rows) else None
    )


def _quote(rows: Sequence[str], separator: str) -> str:
    """An apostrophe, where cells stand between two of them and no double quote is used; else the double quote."""
    if any('"' in row for row in rows):
        return '"'
    whole = sum(
        bool(cell) and cell[0] == cell[-1] == "'" and len(cell) > 1 for row in rows for cell in row.split(separator)
    )
    return "'" if whole >= len(rows) / 2 else '"'


def _decimal(cells: Sequence[Sequence[str]]) -> str:
    flat = [cell for row in cells for cell in row]
    commas, points = (sum(bool(mark.match(cell)) for cell in flat) for mark in (COMMA_NUMBER, POINT_NUMBER))
    return "," if commas > points else "."


def _header(cells: Sequence[Sequence[str]]) -> bool:
    """Whether the first line can name columns: none of its cells is a number, a date or empty where others are not."""
    first, rest = cells[0], cells[1:]
    for place, name in enumerate(first):
        below = [row[place] for row in rest if place < len(row) and row[place].strip()]
        if NUMBER.match(name) and below and sum(bool(NUMBER.match(cell)) for cell in below) > 0.5 * len(below):
            return False
        if re.match(r"^\s*\d{4}-\d{2}-\d{2}", name):
            return False
    return True


def split(line: str, dialect: Dialect) -> list[str]:
    """Split one line into its cells.

    Raises nothing: a line that breaks the dialect's rules is split as far as they go.
    """
    if len(dialect.separator) > 1:
        return line.split(dialect.separator)
    reader = csv.reader([line], **reading_rules(dialect))
    try:
        return next(reader, [])
    except csv.Error:
        return line.split(dialect.separator)


def reading_rules(dialect: Dialect) -> dict[str, Any]:
    """The arguments of `csv.reader` for a dialect."""
    rules: dict[str, Any] = {"delimiter": dialect.separator, "doublequote": True}
    if dialect.quote is None:
        return rules | {"quoting": csv.QUOTE_NONE}
    rules["quotechar"] = dialect.quote
    return rules | ({"escapechar": dialect.escape, "doublequote": True} if dialect.escape else {})
