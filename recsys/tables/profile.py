"""What a table looks like: for each column its type, what is missing, how many values differ, and examples."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from recsys.config_models import MISSING

SAMPLE_ROWS = 1_000_000
EXAMPLES = 3
EMPTY_MARKS = ("", "-", "nil")  # how exports write an empty cell, beside the words of `data.missing`
BINS, MOST_COMMON = 10, 5
# Whole numbers from here up, read as seconds since 1970, fall after 1973; up to here, read as nanoseconds, before 2100.
LEAST_EPOCH, GREATEST_EPOCH = 1e8, 4.1e18
DATE = re.compile(
    r"^\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{4}-\d{2}-\d{2}T)(\D.*|\d{2}:.*)?$"
)


@dataclass(frozen=True, eq=False)
class ColumnProfile:
    """One column of a table.

    Attributes:
        name: As the file writes it.
        values: The sampled cells, nulls and empty texts left out; numbers where all of them are.
        rows: Sampled rows, nulls included.
    """

    name: str
    values: pl.Series
    rows: int

    @property
    def missing(self) -> float:
        """Share of the rows without a value."""
        return 1 - len(self.values) / max(self.rows, 1)

    @cached_property
    def distinct(self) -> int:
        """How many values differ."""
        if not self.values.dtype.is_nested():
            return int(self.values.n_unique())
        return self.values.to_frame("cells").unique().height

    @property
    def unique(self) -> bool:
        """Whether no value comes twice."""
        return self.distinct == len(self.values) > 0

    @property
    def is_number(self) -> bool:
        """Whether every value is a number."""
        return self.values.dtype.is_numeric()

    @cached_property
    def is_time(self) -> bool:
        """Whether the values are dates, times, or numbers that can be seconds to nanoseconds since 1970."""
        if not len(self.values):
            return False
        if isinstance(self.values.dtype, pl.Date | pl.Datetime):
            return True
        if self.is_number:
            middle = float(self.values.cast(pl.Float64).median() or 0)  # type: ignore[arg-type]
            return LEAST_EPOCH <= middle <= GREATEST_EPOCH
        if self.values.dtype != pl.String:
            return False
        head = self.values.head(1_000)
        return sum(bool(DATE.match(cell)) for cell in head) >= 0.9 * len(head)

    @cached_property
    def words(self) -> float:
        """Mean number of words in a text; 0 for numbers and times."""
        if self.values.dtype != pl.String or not len(self.values) or self.is_time:
            return 0.0
        return float(self.values.head(10_000).str.count_matches(r"[^\s/|,;>_-]+").mean() or 0)  # type: ignore[arg-type]

    @cached_property
    def histogram(self) -> dict[str, Any]:
        """How the values spread: `of` what (values, seconds, letters or entries), `edges` `(b + 1)`, `counts` `(b)`.

        The outer hundredths are counted in the outer bins, so that one price of a million does not hide the others.
        Empty where no number says it.
        """
        of, numbers = self._numbers()
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return {}
        low, high = np.quantile(numbers, [0.01, 0.99])
        if low == high:
            low, high = float(numbers.min()), float(numbers.max())
        if low == high:
            return {"of": of, "edges": [float(low), float(high)], "counts": [len(numbers)]}
        edges = np.linspace(low, high, BINS + 1)
        counts = np.histogram(np.clip(numbers, low, high), edges)[0]
        return {"of": of, "edges": edges.tolist(), "counts": counts.tolist()}

    def _numbers(self) -> tuple[str, Any]:
        values, dtype = self.values, self.values.dtype
        if isinstance(dtype, pl.Date | pl.Datetime):
            return "seconds", values.cast(pl.Datetime("us")).dt.epoch("s").to_numpy()
        if self.is_time and self.is_number:
            numbers = values.cast(pl.Float64).to_numpy()
            return "seconds", numbers / 1_000.0 ** max(round((np.log10(np.median(numbers)) - 9.3) / 3), 0)
        if self.is_time:
            with contextlib.suppress(pl.exceptions.PolarsError):
                read = values.str.to_datetime(strict=False, time_zone="UTC").drop_nulls()
                return "seconds", read.dt.epoch("s").to_numpy()
        if isinstance(dtype, pl.List):
            return "entries", values.list.len().to_numpy()
        if self.is_number:
            return "values", values.cast(pl.Float64).to_numpy()
        if dtype == pl.String and not self.is_time:
            return "letters", values.str.len_chars().to_numpy()
        return "", np.zeros(0)

    @cached_property
    def most_common(self) -> list[tuple[str, int]]:
        """The most common values, or entries of lists, with how often each comes; none where all come once."""
        values = self.values
        if isinstance(values.dtype, pl.List) and not values.dtype.inner.is_nested():
            values = values.explode().drop_nulls()
        if values.dtype.is_nested() or not len(values):
            return []
        counted = values.alias("value").value_counts(name="count").sort("count", "value", descending=[True, False])
        found = [(str(value)[:60], count) for value, count in counted.head(MOST_COMMON).iter_rows()]
        return found if found[0][1] > 1 else []

    @property
    def examples(self) -> list[str]:
        """The first few distinct values."""
        return [str(value)[:60] for value in self.values.head(1_000).unique(maintain_order=True).head(EXAMPLES)]


@dataclass(frozen=True, eq=False)
class TableProfile:
    """One table: how it is called, a sample of its rows, which texts are empty cells, and its columns by name."""

    name: str
    frame: pl.DataFrame
    empty: tuple[str, ...] = EMPTY_MARKS

    @classmethod
    def of(cls, name: str, frame: pl.DataFrame, missing: Sequence[str] = MISSING) -> TableProfile:
        """Profile a frame; text columns whose every cell is a number count as numbers.

        Args:
            name: As it is called.
            frame: The sample.
            missing: Words for a missing id, as `data.missing` has them; in any column they are empty cells.
        """
        empty = (*EMPTY_MARKS, *(word.lower() for word in missing))
        return cls(name, frame.select(_as_numbers(frame[column], empty) for column in frame.columns), empty)

    @cached_property
    def columns(self) -> Mapping[str, ColumnProfile]:
        """A profile of each column, in the order of the table."""
        return {
            name: ColumnProfile(name, _filled(self.frame[name], self.empty), self.rows) for name in self.frame.columns
        }

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return self.frame.height

    @property
    def sampled(self) -> bool:
        """Whether the table may have more rows than were looked at."""
        return self.rows >= SAMPLE_ROWS


def _filled(cells: pl.Series, empty: Sequence[str]) -> pl.Series:
    filled = cells.drop_nulls()
    if filled.dtype != pl.String:
        return filled
    return filled.filter(~filled.str.strip_chars().str.to_lowercase().is_in(list(empty)))


def _as_numbers(cells: pl.Series, empty: Sequence[str]) -> pl.Series:
    """Turn a text column into numbers where every filled cell is one and none is written with leading zeros."""
    if cells.dtype != pl.String:
        return cells
    filled = _filled(cells, empty)
    if not len(filled) or filled.str.contains(r"^\s*-?0\d").any():
        return cells
    bare = cells.str.strip_chars()
    clean = pl.when(~bare.str.to_lowercase().is_in(list(empty))).then(bare)
    for dtype in (pl.Int64, pl.Float64):
        numbers = pl.select(clean.cast(dtype, strict=False)).to_series()
        if int(numbers.null_count()) == len(cells) - len(filled):
            return numbers.alias(cells.name)
    return cells


def overlap(one: pl.Series, other: pl.Series) -> float:
    """Share of the distinct values of `one` that `other` holds too, compared as text."""
    left, right = (set(map(_as_text, values.unique().to_list())) for values in (one, other))
    return len(left & right) / max(len(left), 1)


def _as_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def script_shares(texts: Sequence[str]) -> Mapping[str, float]:
    """Share of the letters that belong to each script: latin, han, kana, hangul, cyrillic, other."""
    joined = "".join(texts)
    counts = {
        "latin": len(re.findall(r"[A-Za-z\u00c0-\u024f]", joined)),
        "han": len(re.findall(r"[\u3400-\u9fff]", joined)),
        "kana": len(re.findall(r"[\u3040-\u30ff]", joined)),
        "hangul": len(re.findall(r"[\uac00-\ud7af]", joined)),
        "cyrillic": len(re.findall(r"[\u0400-\u04ff]", joined)),
    }
    letters = len(re.findall(r"[^\W\d_]", joined))
    counts["other"] = max(letters - sum(counts.values()), 0)
    return {script: count / max(letters, 1) for script, count in counts.items()}
