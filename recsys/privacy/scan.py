"""The proof that nobody is named: every file of some folders is read, and each place that names a user is told.

How a file is searched follows from its first bytes and its name:

- Parquet (in lists and structs too) and CSV: cells equal to the id, in every column but those known to hold else.
- Arrays of text: entries equal to the id. Arrays of numbers hold rows, times and weights, and name nobody.
- Shards of the vector store: the sha256 of the texts that the user's history makes.
- JSON and JSON lines: keys and texts that are the id or name it; numbers under `user_id` or `user`.
- Anything else, gzipped or not: the id between characters that no id goes on with; and the file's own name.

A number of less than six digits may be any count or rank: it is searched for where users stand, under `user_id`. An id
of fewer than four characters is not searched for inside longer text.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.artifacts.versions import MANIFEST, POINTER, VERSIONS
from recsys.embedding.store import Keys
from recsys.tables.tombstones import TOMBSTONES

USER = "user_id"
USER_KEYS = (USER, "user")
# Columns of the tables that recsys writes which hold no users.
OTHERS = frozenset(("item_id", "rank", "score", "source", "model_version", "generated_at",
                    "file", "row", "column", "reason"))  # fmt: skip
CATALOG = "catalog.parquet"
REPORTS = ("ingest.json", "evaluation.json", "tuning.json", "_PLAN.json", "_SUCCESS")
# Files whose names recsys chose, beside those of a version.
NAMES = frozenset((*REPORTS, CATALOG, "interactions.parquet", "tuned.yaml", TOMBSTONES, POINTER))
KEY = ": a key"
SHORT_TEXT, SHORT_NUMBER = 4, 6
# What an id may go on with: between these, u1 is found in neither u10 nor u1-a nor u1@x.
BEFORE, AFTER = r"(?<![\w@+\-])(?<!\w\.)", r"(?![\w@+\-])(?!\.\w)"


@dataclass(frozen=True)
class Hit:
    """One place that names a user: the file, where in it, and whom; None where the file could not be searched."""

    path: Path
    place: str
    user: str | None


@dataclass(frozen=True)
class Scan:
    """What was read, and what names a user.

    `mentions` are the same characters where they describe an item, or are a word of the bundle's config or of a
    report's keys: a user called like a brand cannot be told from it there, and neither names a person.
    """

    files: int
    bytes: int
    hits: tuple[Hit, ...]
    mentions: tuple[Hit, ...]


class Wanted:
    """The users searched for, in each form in which a file may name them."""

    def __init__(self, users: Sequence[str], keys: Keys) -> None:
        self.users = list(users)
        self.keys = keys
        # 007 is not the number 7, and no column holds more than 63 bits.
        whole = [user for user in users if _is_number(user) and len(user) <= 20 and str(int(user)) == user]
        self.numbers = {int(user): user for user in whole if abs(int(user)) < 1 << 63}

    @cached_property
    def telling(self) -> list[str]:
        """Those which as a whole cell cannot be taken for a count."""
        return [user for user in self.users if not _is_number(user) or len(user.lstrip("-")) >= SHORT_NUMBER]

    @cached_property
    def telling_numbers(self) -> dict[int, str]:
        """Those of `telling` that are whole numbers."""
        return {number: user for number, user in self.numbers.items() if user in self.telling}

    @cached_property
    def _long(self) -> list[str]:
        return sorted((user for user in self.telling if len(user) >= SHORT_TEXT), key=len, reverse=True)

    @cached_property
    def in_text(self) -> re.Pattern[str] | None:
        """Finds them inside longer text."""
        return re.compile(f"{BEFORE}(?:{'|'.join(map(re.escape, self._long))}){AFTER}") if self._long else None

    @cached_property
    def in_bytes(self) -> re.Pattern[bytes] | None:
        """Finds them inside bytes that are no text."""
        ids = b"|".join(re.escape(user.encode()) for user in self._long)
        return re.compile(BEFORE.encode() + b"(?:" + ids + b")" + AFTER.encode()) if self._long else None

    def within(self, text: str) -> Iterator[str]:
        """The users that a text is, or names."""
        if text in self._telling:
            yield text
        elif self.in_text is not None:
            yield from {match.group() for match in self.in_text.finditer(text)}

    @cached_property
    def _telling(self) -> frozenset[str]:
        return frozenset(self.telling)


def scan(places: Iterable[Path], users: Sequence[str], keys: Keys) -> Scan:
    """Search every file of some folders (or single files) for users, and shards of vectors for `keys` `(m,)`."""
    wanted = Wanted(users, keys)
    found: list[Hit] = []
    files = total = 0
    for path in files_of(places):
        try:
            total += path.stat().st_size
            found += [Hit(path, place, user) for place, user in _search(path, wanted)]
        except FileNotFoundError:
            continue  # another run has just put a newer file in its place, or tidied up
        files += 1
    words = {hit.user for hit in found if hit.path.name == MANIFEST}
    mentions = tuple(hit for hit in found if _only_mentioned(hit, words))
    return Scan(files, total, tuple(hit for hit in found if not _only_mentioned(hit, words)), mentions)


def _only_mentioned(hit: Hit, words: set[str | None]) -> bool:
    if hit.user is None:
        return False
    name = hit.path.name
    word_of_ours = name in REPORTS and hit.place.endswith(KEY) and re.fullmatch("[a-z_]+", hit.user) is not None
    return name in (CATALOG, MANIFEST) or word_of_ours or (hit.user in words and not hit.place.startswith("column"))


def files_of(places: Iterable[Path]) -> list[Path]:
    """List every file below some folders, each once however often it is named; links to folders are not followed."""
    found: dict[Path, None] = {}
    for place in places:
        if place.is_file():
            found[place.resolve()] = None
        for folder, inner, names in os.walk(place):
            inner.sort()
            found |= {(Path(folder) / name).resolve(): None for name in sorted(names)}
    return [path for path in found if path.is_file()]


def named_users(column: str, dtype: pl.DataType, wanted: Wanted) -> pl.Expr | None:
    """Whom each cell of a column names, as text; null for nobody. None where the column is not searched."""
    cell = pl.col(column)
    own = column == USER
    if column in OTHERS:
        return None
    if dtype.is_numeric() and (own or dtype.is_integer()):
        numbers = wanted.numbers if own else wanted.telling_numbers
        whole = cell.cast(pl.Int64, strict=False)
        named = whole.replace_strict(numbers, default=None, return_dtype=pl.String)
        return pl.when(whole == cell).then(named) if numbers else None
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        text = cell.cast(pl.String)
        users = wanted.users if own else wanted.telling
        return pl.when(text.is_in(users)).then(text) if users else None
    return None


def _search(path: Path, wanted: Wanted) -> Iterator[tuple[str, str | None]]:
    if path.name not in NAMES and VERSIONS not in path.parts[-5:-1]:
        yield from (("its name", user) for user in wanted.within(path.stem))
    with path.open("rb") as file:
        head = file.read(6)
    try:
        if head[:4] == b"PAR1":
            yield from _in_parquet(path, wanted)
        elif head == b"\x93NUMPY":
            yield from _in_array(path, wanted)
        elif head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                yield from _in_content(path.with_suffix(""), file.read(), wanted)
        else:
            yield from _in_content(path, path.read_bytes(), wanted)
    except FileNotFoundError:
        raise
    except Exception as error:  # a file can be broken in more ways than its readers have exceptions for
        yield f"it cannot be read ({' '.join(str(error).split())[:200]})", None


def _in_parquet(path: Path, wanted: Wanted) -> Iterator[tuple[str, str | None]]:
    table = pl.scan_parquet(path)
    for column, dtype in table.collect_schema().items():
        for cells, name, inner in _leaves(table.select(column), column, dtype):
            # A catalogue's numbers are prices, stock and the like.
            named = None if path.name == CATALOG and inner.is_numeric() else named_users(name, inner, wanted)
            if named is not None:
                counted = cells.select(user=named).drop_nulls().group_by("user").len().collect(engine="streaming")
                yield from ((f"column {column}, {rows} rows", user) for user, rows in counted.iter_rows())


def _leaves(cells: pl.LazyFrame, name: str, dtype: pl.DataType) -> Iterator[tuple[pl.LazyFrame, str, pl.DataType]]:
    """The plain columns inside a column of lists or structs; a plain one as it is."""
    if isinstance(dtype, pl.List | pl.Array):
        yield from _leaves(cells.explode(name), name, dtype.inner)  # type: ignore[arg-type]
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            inside = cells.select(pl.col(name).struct.field(field.name))
            yield from _leaves(inside, field.name, field.dtype)  # type: ignore[arg-type]
    else:
        yield cells, name, dtype


def _in_array(path: Path, wanted: Wanted) -> Iterator[tuple[str, str | None]]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        array = np.load(path, allow_pickle=False)
    if array.dtype.names and "key" in array.dtype.names:
        held = int(np.isin(array["key"], wanted.keys).sum())
        if held:
            yield f"{held} vectors of behaviour texts", None
    elif array.dtype.kind in "US":
        texts = array.ravel().astype(str)
        for user, count in Counter(texts[np.isin(texts, wanted.telling)].tolist()).items():
            yield f"{count} entries", user


def _in_content(path: Path, content: bytes, wanted: Wanted) -> Iterator[tuple[str, str | None]]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        if wanted.in_bytes is not None:
            yield from (
                (f"byte {match.start()}", match.group().decode()) for match in wanted.in_bytes.finditer(content)
            )
        return
    suffix = path.suffix
    try:
        if suffix == ".json" or path.name in REPORTS:
            yield from _in_json(json.loads(text), "", wanted)
            return
        if suffix in (".jsonl", ".ndjson"):
            for number, line in enumerate(text.splitlines(), start=1):
                if line.strip():
                    yield from _in_json(json.loads(line), f"line {number} ", wanted)
            return
    except ValueError:
        pass  # then it is searched as text
    if suffix == ".csv":
        yield from _in_csv(text, wanted)
    elif wanted.in_text is not None:
        for match in wanted.in_text.finditer(text):
            yield f"line {text.count(chr(10), 0, match.start()) + 1}", match.group()


def _in_csv(text: str, wanted: Wanted) -> Iterator[tuple[str, str]]:
    rows = csv.reader(text.splitlines(keepends=True))
    header = next(rows, [])
    own, others = set(wanted.users), set(wanted.telling)
    yield from (("header", user) for user in header if user in others)
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for name, cell in zip([*header, *[""] * len(row)], row, strict=False):
            if name not in OTHERS and cell in (own if name == USER else others):
                counted[name, cell] += 1
    yield from ((f"column {name}, {count} rows", user) for (name, user), count in counted.items())


def _in_json(value: Any, place: str, wanted: Wanted) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ((f"{place}{KEY}", user) for user in wanted.within(key))
            yield from _in_json(inner, f"{place}.{key}" if place else key, wanted)
            told = isinstance(inner, str) and inner in wanted.telling
            if key in USER_KEYS and str(inner) in wanted.users and not told:
                yield f"{place}.{key}", str(inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _in_json(inner, f"{place}[{number}]", wanted)
    elif isinstance(value, str):
        yield from ((place or "its text", user) for user in wanted.within(value))


def _is_number(user: str) -> bool:
    return re.fullmatch(r"-?\d+", user, re.ASCII) is not None
