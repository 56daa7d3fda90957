"""The small language of `where`: a condition on the columns of the catalogue, as a string.

    price <= 20 and brand in ("A", "B") and not stock == 0
    category startswith "Home" and (country == "DE" or brand is null)

The grammar is in docs/serving.md. Nothing is ever evaluated as code: a string is cut into tokens, and each test is one
comparison of a column. An item whose value is missing (null, or NaN) meets no test on it but `is null`, and a `not`
before the test does not change that (three-valued logic, as in SQL).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from recsys.config import nearest
from recsys.errors import RequestError

NESTED = 50  # brackets and `not`s within each other
SHOWN = 60  # characters of an expression that an error shows
INT64 = 1 << 63

TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |`(?P<quoted>[^`]+)`
    |(?P<word>[^\W\d]\w*)
    |(?P<sign><=|>=|==|!=|<|>|\(|\)|\[|\]|,))""",
    re.VERBOSE | re.DOTALL,
)
PARTS = ("startswith", "endswith", "contains")
KEYWORDS = {"and", "or", "not", "in", "is", "null", "true", "false", *PARTS}
COMPARE: dict[str, Callable[[pl.Series, Any], pl.Series]] = {
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
Value = str | int | float | bool


def evaluate(expression: str, frame: pl.DataFrame) -> pl.Series:
    """Return whether each row of a frame meets an expression: booleans, null where a missing value leaves it open.

    Raises `RequestError` naming the place where the expression cannot be read, a column that the frame lacks (with the
    nearest), or a value that cannot be compared with its column.
    """
    try:
        expression.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"where: character {error.start + 1} is half of a surrogate pair, which no text holds"
        ) from error
    return _Parser(expression, frame).parse()


class _Parser:
    """Recursive descent over the tokens; each rule returns the rows that meet its part."""

    def __init__(self, text: str, frame: pl.DataFrame) -> None:
        self._text, self._frame = text, frame
        self._tokens: list[tuple[str, str, int]] = []  # kind, text, place in the expression
        place, stop = 0, len(text.rstrip())
        while place < stop:
            found = TOKEN.match(text, place)
            if found is None:
                place += len(text[place:]) - len(text[place:].lstrip())
                hint = "; equality is written ==" if text[place] == "=" else ""
                raise self._wrong(f"cannot read {text[place : place + 10]!r}{hint}", place)
            kind = str(found.lastgroup)
            word, start = found[kind], found.start(kind)
            if kind == "word" and word.lower() in KEYWORDS:
                kind, word = "keyword", word.lower()
            self._tokens.append((kind, word, start))
            place = found.end()
        self._next, self._depth = 0, 0

    def parse(self) -> pl.Series:
        met = self._any()
        if self._next < len(self._tokens):
            raise self._wrong("expected `and`, `or` or the end")
        return met

    def _any(self) -> pl.Series:
        met = self._all()
        while self._took("or"):
            met = met | self._all()
        return met

    def _all(self) -> pl.Series:
        met = self._one()
        while self._took("and"):
            met = met & self._one()
        return met

    def _one(self) -> pl.Series:
        self._depth += 1
        if self._depth > NESTED:
            raise self._wrong(f"more than {NESTED} brackets and `not`s within each other")
        if self._took("not"):
            met = ~self._one()
        elif self._took("("):
            met = self._any()
            self._must(")")
        else:
            met = self._test()
        self._depth -= 1
        return met

    def _test(self) -> pl.Series:
        kind, name, place = self._peek()
        if kind not in ("word", "quoted"):
            raise self._wrong("expected a column")
        self._next += 1
        if name not in self._frame.columns:
            columns = self._frame.columns
            near = nearest(name, columns)
            raise self._wrong(f"the catalogue has no column {name!r}{near}; it has: {', '.join(columns)}", place)
        column = self._frame[name]
        if self._took("is"):
            wanted = not self._took("not")
            self._must("null")
            missing = column.is_nan() | column.is_null() if column.dtype.is_float() else column.is_null()
            missing = missing.fill_null(True)
            return missing if wanted else ~missing
        column = _comparable(column)
        inverted = self._took("not")
        if self._took("in"):
            met = self._member(column)
            return ~met if inverted else met
        for operator in PARTS:
            if self._took(operator):
                met = self._part(column, operator)
                return ~met if inverted else met
        if inverted:
            raise self._wrong("expected `in`, `startswith`, `endswith` or `contains` after `not`")
        kind, sign, _ = self._peek()
        if kind == "sign" and sign in COMPARE:
            self._next += 1
            return self._compared(column, sign)
        if column.dtype == pl.Boolean:
            return column
        known = [*COMPARE, "in", "is", *PARTS]
        raise self._wrong(f"expected a comparison after {name!r}: {', '.join(known)}")

    def _compared(self, column: pl.Series, sign: str) -> pl.Series:
        value = self._value()
        if column.dtype == pl.Boolean and sign not in ("==", "!="):
            raise self._wrong(f"{column.name!r} is true or false, which {sign} cannot compare", back=1)
        return COMPARE[sign](*self._matched(column, value))

    def _member(self, column: pl.Series) -> pl.Series:
        end = ")" if self._took("(") else "]"
        if end == "]":
            self._must("[", "expected a list such as (1, 2) after `in`")
        values = []
        while not self._took(end):
            values.append(self._matched(column, self._value())[1])
            if not self._took(","):
                self._must(end)
                break
        if column.dtype.is_integer():
            values = [int(value) for value in values if value == value // 1 and -INT64 <= value < INT64]
        among = pl.Series(list(dict.fromkeys(values)), dtype=column.dtype)
        return pl.select(pl.lit(column).is_in(among.implode())).to_series()

    def _part(self, column: pl.Series, operator: str) -> pl.Series:
        if operator == "contains" and isinstance(column.dtype, pl.List):
            value = self._matched(column.explode(), self._value())[1]
            if column.dtype.inner.is_integer() and (value != value // 1 or not -INT64 <= value < INT64):
                return column.is_null() & False
            return column.list.contains(value)
        value = self._value()
        if column.dtype != pl.String or not isinstance(value, str):
            told = f"{operator} asks for a text in a column of texts, and {column.name!r} holds {column.dtype}"
            raise self._wrong(told, back=1)
        if operator == "contains":
            return column.str.contains(value, literal=True)
        return column.str.starts_with(value) if operator == "startswith" else column.str.ends_with(value)

    def _matched(self, column: pl.Series, value: Value) -> tuple[pl.Series, Any]:
        """A column and a value that can be compared with each other."""
        dtype = column.dtype
        if isinstance(value, bool):
            if dtype == pl.Boolean:
                return column, value
        elif isinstance(value, str):
            if dtype == pl.String:
                return column, value
            if dtype in (pl.Date, pl.Datetime):
                return column, self._moment(column, value)
        elif dtype.is_integer():
            exact = isinstance(value, int) and -INT64 <= value < INT64
            return (column, value) if exact else (column.cast(pl.Float64), float(value))
        elif dtype.is_float():
            return column, float(value)
        kind = "true or false" if isinstance(value, bool) else "a text" if isinstance(value, str) else "a number"
        raise self._wrong(f"{column.name!r} holds {dtype}, which cannot be compared with {kind}", back=1)

    def _moment(self, column: pl.Series, text: str) -> date:
        """Read an ISO date or time; one without a zone is in UTC."""
        try:
            moment = datetime.fromisoformat(text)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError) as error:
            told = f"{column.name!r} holds {column.dtype}, and {text[:SHOWN]!r} is no date such as 2025-01-31"
            raise self._wrong(told, back=1) from error
        if isinstance(column.dtype, pl.Datetime):
            return moment if column.dtype.time_zone else moment.replace(tzinfo=None)
        return moment.date()

    def _value(self) -> Value:
        kind, word, _ = self._peek()
        self._next += 1
        if kind == "string":
            return re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)
        if kind == "number":
            return int(word) if re.fullmatch(r"[-+]?\d{1,19}", word) else float(word)
        if kind == "keyword" and word in ("true", "false"):
            return word == "true"
        hint = "; ask for missing values with `is null`" if word == "null" else "; texts stand in quotes"
        raise self._wrong(f"expected a value{hint}", back=1)

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "", len(self._text))

    def _took(self, word: str) -> bool:
        kind, found, _ = self._peek()
        if found != word or kind not in ("keyword", "sign"):
            return False
        self._next += 1
        return True

    def _must(self, word: str, told: str = "") -> None:
        if not self._took(word):
            raise self._wrong(told or f"expected {word!r}")

    def _wrong(self, told: str, place: int | None = None, back: int = 0) -> RequestError:
        """What cannot be read, at a place of the expression: by default the next token, or some tokens `back`."""
        if place is None:
            self._next -= back
            place = self._peek()[2]
        start = max(0, place - SHOWN // 2)
        shown = self._text[start : start + SHOWN]
        shown = f"{'…' if start else ''}{shown}{'…' if start + SHOWN < len(self._text) else ''}"
        return RequestError(f"where: {told} (character {place + 1} of {shown!r})")


def _comparable(column: pl.Series) -> pl.Series:
    """Text for categories, Float64 for exotic numbers, Int64 for whole ones, null for NaN."""
    dtype = column.dtype
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if dtype.is_decimal() or dtype in (pl.UInt64, pl.Int128):
        return column.cast(pl.Float64)
    if dtype.is_integer():
        return column.cast(pl.Int64)
    return column.fill_nan(None) if dtype.is_float() else column
