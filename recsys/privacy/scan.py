"""The proof that nobody is named: reads every file of some folders and lists each place that names a user.

How a file is searched depends on its first bytes and its name:

- Parquet (also inside lists and structs) and CSV: cells equal to the id, except in columns known to hold no users.
- Arrays of text: entries equal to the id. Arrays of numbers hold rows, times and weights, and name nobody.
- Shards of the vector store: the sha256 of the texts that the user's history makes.
- JSON and JSON lines: keys and texts that are the id or name it; numbers under `user_id` or `user`.
- Anything else, gzipped or not: the id between characters that cannot continue an id; and the name of the file.

A number of fewer than six digits may be a count or a rank: it is searched for only under `user_id`. An id of fewer than
four characters is not searched for inside longer text.
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
# Characters that continue an id: u1 is not found in u10, u1-a or u1@x.
BEFORE, AFTER = r"(?<![\w@+\-])(?<!\w\.)", r"(?![\w@+\-])(?!\.\w)"


@dataclass(frozen=True)
class Hit:
    """One place that names a user: the file, where in it, and which user; None where the file cannot be searched."""

    path: Path
    place: str
    user: str | None


@dataclass(frozen=True)
class Scan:
    """What was read, and what names a user.

    Attributes:
        files: How many files were read.
        bytes: How many bytes.
        hits: The places that name a user.
        mentions: The same characters where they describe an item, or are a word of the bundle's config or of the keys
            of a report. A user called like a brand cannot be distinguished from it there, and neither names a person.
    """

    files: int
    bytes: int
    hits: tuple[Hit, ...]
    mentions: tuple[Hit, ...]


class SearchTerms:
    """The users to search for, in each form in which a file may name them."""

    def __init__(self, users: Sequence[str], keys: Keys) -> None:
        self.users = list(users)
        self.keys = keys
        # 007 is not the number 7, and no column holds more than 63 bits.
        whole = [user for user in users if _is_number(user) and len(user) <= 20 and str(int(user)) == user]
        self.numbers = {int(user): user for user in whole if abs(int(user)) < 1 << 63}

    @cached_property
    def distinctive(self) -> list[str]:
        """The users whose id, as a whole cell, cannot be mistaken for a count."""
        return [user for user in self.users if not _is_number(user) or len(user.lstrip("-")) >= SHORT_NUMBER]

    @cached_property
    def distinctive_numbers(self) -> dict[int, str]:
        """Those of `distinctive` that are whole numbers."""
        return {number: user for number, user in self.numbers.items() if user in self.distinctive}

    @cached_property
    def _long(self) -> list[str]:
        return sorted((user for user in self.distinctive if len(user) >= SHORT_TEXT), key=len, reverse=True)

    @cached_property
    def in_text(self) -> re.Pattern[str] | None:
        """The pattern that finds them inside longer text; None where none is long enough."""
        return re.compile(f"{BEFORE}(?:{'|'.join(map(re.escape, self._long))}){AFTER}") if self._long else None

    @cached_property
    def in_bytes(self) -> re.Pattern[bytes] | None:
        """The pattern that finds them inside bytes that are not text; None where none is long enough."""
        ids = b"|".join(re.escape(user.encode()) for user in self._long)
        return re.compile(BEFORE.encode() + b"(?:" + ids + b")" + AFTER.encode()) if self._long else None

    def within(self, text: str) -> Iterator[str]:
        """Yield the users that a text equals or names."""
        if text in self._distinctive_set:
            yield text
        elif self.in_text is not None:
            yield from {match.group() for match in self.in_text.finditer(text)}

    @cached_property
    def _distinctive_set(self) -> frozenset[str]:
        return frozenset(self.distinctive)


def scan(places: Iterable[Path], users: Sequence[str], keys: Keys) -> Scan:
    """Search files for users.

    Args:
        places: Folders, searched with all folders below them, or single files.
        users: Ids of the users, as text.
        keys: Keys `(m,)` of vectors whose texts the users' histories make; shards of the vector store are searched.
    """
    terms = SearchTerms(users, keys)
    found: list[Hit] = []
    files = total = 0
    for path in files_of(places):
        try:
            total += path.stat().st_size
            found += [Hit(path, place, user) for place, user in _search(path, terms)]
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
    own_word = name in REPORTS and hit.place.endswith(KEY) and re.fullmatch("[a-z_]+", hit.user) is not None
    return name in (CATALOG, MANIFEST) or own_word or (hit.user in words and not hit.place.startswith("column"))


def files_of(places: Iterable[Path]) -> list[Path]:
    """List every file below some folders, each once; links to folders are not followed."""
    found: dict[Path, None] = {}
    for place in places:
        if place.is_file():
            found[place.resolve()] = None
        for folder, inner, names in os.walk(place):
            inner.sort()
            found |= {(Path(folder) / name).resolve(): None for name in sorted(names)}
    return [path for path in found if path.is_file()]


def named_users(column: str, dtype: pl.DataType, terms: SearchTerms) -> pl.Expr | None:
    """Return which user each cell of a column names, null for none; None where the column is not searched."""
    cell = pl.col(column)
    own = column == USER
    if column in OTHERS:
        return None
    if dtype.is_numeric() and (own or dtype.is_integer()):
        numbers = terms.numbers if own else terms.distinctive_numbers
        whole = cell.cast(pl.Int64, strict=False)
        named = whole.replace_strict(numbers, default=None, return_dtype=pl.String)
        return pl.when(whole == cell).then(named) if numbers else None
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        text = cell.cast(pl.String)
        users = terms.users if own else terms.distinctive
        return pl.when(text.is_in(users)).then(text) if users else None
    return None


def _search(path: Path, terms: SearchTerms) -> Iterator[tuple[str, str | None]]:
    if path.name not in NAMES and VERSIONS not in path.parts[-5:-1]:
        yield from (("its name", user) for user in terms.within(path.stem))
    with path.open("rb") as file:
        head = file.read(6)
    try:
        if head[:4] == b"PAR1":
            yield from _in_parquet(path, terms)
        elif head == b"\x93NUMPY":
            yield from _in_array(path, terms)
        elif head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                yield from _in_content(path.with_suffix(""), file.read(), terms)
        else:
            yield from _in_content(path, path.read_bytes(), terms)
    except FileNotFoundError:
        raise
    except Exception as error:  # a file can be broken in more ways than its readers have exceptions for
        yield f"it cannot be read ({' '.join(str(error).split())[:200]})", None


def _in_parquet(path: Path, terms: SearchTerms) -> Iterator[tuple[str, str | None]]:
    table = pl.scan_parquet(path)
    for column, dtype in table.collect_schema().items():
        for cells, name, inner in _leaves(table.select(column), column, dtype):
            # A catalogue's numbers are prices, stock and the like.
            named = None if path.name == CATALOG and inner.is_numeric() else named_users(name, inner, terms)
            if named is not None:
                counted = cells.select(user=named).drop_nulls().group_by("user").len().collect(engine="streaming")
                yield from ((f"column {column}, {rows} rows", user) for user, rows in counted.iter_rows())


def _leaves(cells: pl.LazyFrame, name: str, dtype: pl.DataType) -> Iterator[tuple[pl.LazyFrame, str, pl.DataType]]:
    """Yield the plain columns inside a column of lists or structs; a plain one as it is."""
    if isinstance(dtype, pl.List | pl.Array):
        yield from _leaves(cells.explode(name), name, dtype.inner)  # type: ignore[arg-type]
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            inside = cells.select(pl.col(name).struct.field(field.name))
            yield from _leaves(inside, field.name, field.dtype)  # type: ignore[arg-type]
    else:
        yield cells, name, dtype


def _in_array(path: Path, terms: SearchTerms) -> Iterator[tuple[str, str | None]]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        array = np.load(path, allow_pickle=False)
    if array.dtype.names and "key" in array.dtype.names:
        held = int(np.isin(array["key"], terms.keys).sum())
        if held:
            yield f"{held} vectors of behaviour texts", None
    elif array.dtype.kind in "US":
        texts = array.ravel().astype(str)
        for user, count in Counter(texts[np.isin(texts, terms.distinctive)].tolist()).items():
            yield f"{count} entries", user


def _in_content(path: Path, content: bytes, terms: SearchTerms) -> Iterator[tuple[str, str | None]]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        if terms.in_bytes is not None:
            yield from ((f"byte {match.start()}", match.group().decode()) for match in terms.in_bytes.finditer(content))
        return
    suffix = path.suffix
    try:
        if suffix == ".json" or path.name in REPORTS:
            yield from _in_json(json.loads(text), "", terms)
            return
        if suffix in (".jsonl", ".ndjson"):
            for number, line in enumerate(text.splitlines(), start=1):
                if line.strip():
                    yield from _in_json(json.loads(line), f"line {number} ", terms)
            return
    except ValueError:
        pass  # then it is searched as text
    if suffix == ".csv":
        yield from _in_csv(text, terms)
    elif terms.in_text is not None:
        for match in terms.in_text.finditer(text):
            yield f"line {text.count(chr(10), 0, match.start()) + 1}", match.group()


def _in_csv(text: str, terms: SearchTerms) -> Iterator[tuple[str, str]]:
    rows = csv.reader(text.splitlines(keepends=True))
    header = next(rows, [])
    own, others = set(terms.users), set(terms.distinctive)
    yield from (("header", user) for user in header if user in others)
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for name, cell in zip([*header, *[""] * len(row)], row, strict=False):
            if name not in OTHERS and cell in (own if name == USER else others):
                counted[name, cell] += 1
    yield from ((f"column {name}, {count} rows", user) for (name, user), count in counted.items())


def _in_json(value: Any, place: str, terms: SearchTerms) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ((f"{place}{KEY}", user) for user in terms.within(key))
            yield from _in_json(inner, f"{place}.{key}" if place else key, terms)
            reported = isinstance(inner, str) and inner in terms.distinctive
            if key in USER_KEYS and str(inner) in terms.users and not reported:
                yield f"{place}.{key}", str(inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _in_json(inner, f"{place}[{number}]", terms)
    elif isinstance(value, str):
        yield from ((place or "its text", user) for user in terms.within(value))


def _is_number(user: str) -> bool:
    return re.fullmatch(r"-?\d+", user, re.ASCII) is not None
