"""The language of `where`: a condition on the columns of the catalogue, as a string.

    price <= 20 and brand in ("A", "B") and not stock == 0
    category startswith "Home" and (country == "DE" or brand is null)

The grammar is in docs/serving.md. Nothing is evaluated as code: a string is cut into tokens, and each test compares one
column. An item whose value is missing (null or NaN) meets no test but `is null`, and `not` does not change that
(three-valued logic, as in SQL).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from recsys.config import nearest
from recsys.errors import RequestError
from recsys.parallel.forks import nullable

MAX_DEPTH = 50  # brackets and `not`s within each other
SHOWN = 60  # characters of an expression that an error shows
INT64 = 1 << 63

TOKEN = re.compile(
    r"""\s*+(?:(?P<number>[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?+(?![\w.]))
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
    """Evaluate an expression for each row of a frame.

    Returns:
        Booleans; null where a missing value leaves the answer open.

    Raises:
        RequestError: The expression cannot be read (the message names the place), the frame lacks a column (it names
            the nearest), or a value cannot be compared with its column.
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
                raise self._error(f"cannot read {text[place : place + 10]!r}{hint}", place)
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
            raise self._error("expected `and`, `or` or the end")
        return met

    def _any(self) -> pl.Series:
        met = self._all()
        while self._take("or"):
            met = met | self._all()
        return met

    def _all(self) -> pl.Series:
        met = self._one()
        while self._take("and"):
            met = met & self._one()
        return met

    def _one(self) -> pl.Series:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} brackets and `not`s within each other")
        if self._take("not"):
            met = ~self._one()
        elif self._take("("):
            met = self._any()
            self._expect(")")
        else:
            met = self._test()
        self._depth -= 1
        return met

    def _test(self) -> pl.Series:
        kind, name, place = self._peek()
        if kind not in ("word", "quoted"):
            raise self._error("expected a column")
        self._next += 1
        if name not in self._frame.columns:
            columns = self._frame.columns
            hint = nearest(name, columns)
            raise self._error(f"the catalogue has no column {name!r}{hint}; it has: {', '.join(columns)}", place)
        column = self._frame[name]
        if self._take("is"):
            wanted = not self._take("not")
            self._expect("null")
            missing = column.is_nan() | column.is_null() if column.dtype.is_float() else column.is_null()
            missing = missing.fill_null(True)
            return missing if wanted else ~missing
        column = _comparable(column)
        inverted = self._take("not")
        if self._take("in"):
            met = self._membership(column)
            return ~met if inverted else met
        for operator in PARTS:
            if self._take(operator):
                met = self._text_test(column, operator)
                return ~met if inverted else met
        if inverted:
            raise self._error("expected `in`, `startswith`, `endswith` or `contains` after `not`")
        kind, sign, _ = self._peek()
        if kind == "sign" and sign in COMPARE:
            self._next += 1
            return self._comparison(column, sign)
        if column.dtype == pl.Boolean:
            return column
        known = [*COMPARE, "in", "is", *PARTS]
        raise self._error(f"expected a comparison after {name!r}: {', '.join(known)}")

    def _comparison(self, column: pl.Series, sign: str) -> pl.Series:
        value = self._value()
        if column.dtype == pl.Boolean and sign not in ("==", "!="):
            raise self._error(f"{column.name!r} is true or false, which {sign} cannot compare", back=1)
        return COMPARE[sign](*self._comparable_pair(column, value))

    def _membership(self, column: pl.Series) -> pl.Series:
        end = ")" if self._take("(") else "]"
        if end == "]":
            self._expect("[", "expected a list such as (1, 2) after `in`")
        values = []
        while not self._take(end):
            values.append(self._comparable_pair(column, self._value())[1])
            if not self._take(","):
                self._expect(end)
                break
        if column.dtype.is_integer():
            values = [int(value) for value in values if value == value // 1 and -INT64 <= value < INT64]
        among = frozenset(pl.Series(list(dict.fromkeys(values)), dtype=column.dtype))  # rounded as the cells are
        return _each(column, among.__contains__)

    def _text_test(self, column: pl.Series, operator: str) -> pl.Series:
        if operator == "contains" and isinstance(column.dtype, pl.List):
            value = self._comparable_pair(column.explode(), self._value())[1]
            if column.dtype.inner.is_integer() and (value != value // 1 or not -INT64 <= value < INT64):
                return column.is_null() & False
            return _each(column, lambda cell: value in cell)
        value = self._value()
        if column.dtype != pl.String or not isinstance(value, str):
            problem = f"{operator} asks for a text in a column of texts, and {column.name!r} holds {column.dtype}"
            raise self._error(problem, back=1)
        if operator == "contains":
            return _each(column, lambda cell: value in cell)
        end = str.startswith if operator == "startswith" else str.endswith
        return _each(column, lambda cell: end(cell, value))

    def _comparable_pair(self, column: pl.Series, value: Value) -> tuple[pl.Series, Any]:
        """Return the column and the value in types that can be compared."""
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
        raise self._error(f"{column.name!r} holds {dtype}, which cannot be compared with {kind}", back=1)

    def _moment(self, column: pl.Series, text: str) -> date:
        """Read an ISO date or time; one without a zone is in UTC."""
        try:
            moment = datetime.fromisoformat(text)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError) as error:
            problem = f"{column.name!r} holds {column.dtype}, and {text[:SHOWN]!r} is no date such as 2025-01-31"
            raise self._error(problem, back=1) from error
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
        raise self._error(f"expected a value{hint}", back=1)

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "", len(self._text))

    def _take(self, word: str) -> bool:
        kind, found, _ = self._peek()
        if found != word or kind not in ("keyword", "sign"):
            return False
        self._next += 1
        return True

    def _expect(self, word: str, problem: str = "") -> None:
        if not self._take(word):
            raise self._error(problem or f"expected {word!r}")

    def _error(self, problem: str, place: int | None = None, back: int = 0) -> RequestError:
        """Make an error that shows a place of the expression: the next token, or `back` tokens before it."""
        if place is None:
            self._next -= back
            place = self._peek()[2]
        start = max(0, place - SHOWN // 2)
        shown = self._text[start : start + SHOWN]
        shown = f"{'…' if start else ''}{shown}{'…' if start + SHOWN < len(self._text) else ''}"
        return RequestError(f"where: {problem} (character {place + 1} of {shown!r})")


def _comparable(column: pl.Series) -> pl.Series:
    """Text for categories, Float64 for exotic numbers, Int64 for whole ones, null for NaN."""
    dtype = column.dtype
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if dtype.is_decimal() or dtype in (pl.UInt64, pl.Int128):
        return column.cast(pl.Float64)
    if dtype.is_integer():
        return column.cast(pl.Int64)
    return nullable(column) if dtype.is_float() else column


def _each(column: pl.Series, test: Callable[[Any], bool]) -> pl.Series:
    """Test each cell; null where it is missing. A plain loop: polars' own would need threads (`parallel.forks`)."""
    return pl.Series([None if cell is None else test(cell) for cell in column.to_list()], dtype=pl.Boolean)
