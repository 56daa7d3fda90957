"""Ids of users and items: whole numbers or text, never merged and never split by how a file stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import polars as pl

from recsys.tables.rules import CellRule, parsed

# From here up floats do not hold every whole number: two ids may be stored as one.
EXACT, EXACT_SINGLE = 2**53, 2**24
INEXACT = "a float too large to be exact"
WHOLE_FLOAT = r"^(-?\d+)\.0+$"  # how a whole number looks after it passed through a column of floats


def identifier(column: str, dtype: pl.DataType, missing_words: Sequence[str] = ()) -> tuple[pl.Expr, list[CellRule]]:
    """Read an id: whole numbers as Int64 (3.0 is 3), larger ones and anything else as text without outer spaces.

    Args:
        column: Our name of the column.
        dtype: Its type in the file.
        missing_words: Texts, in lower case, that stand for no id.

    Returns:
        The id, as column `parsed(column)`, and the rules that it must keep.
    """
    raw, read = pl.col(column), pl.col(parsed(column))
    rules = [CellRule(column, "missing", read.is_null())]
    if dtype.is_float():
        whole = raw.is_null() | raw.is_nan() | (raw == raw.round())
        too_large = CellRule(column, INEXACT, inexact(column, dtype))
        rules = [CellRule(column, "not a whole number", ~whole), too_large, *rules]
    if dtype.is_decimal():
        rules = [CellRule(column, "not a whole number", read.str.contains(".", literal=True)), *rules]
    if dtype.is_float() or (dtype.is_integer() and not is_written_as_text(dtype)):
        return raw.cast(pl.Int64, strict=False).alias(parsed(column)), rules
    written = as_text(column, dtype)
    known = written.str.to_lowercase().is_in(list(missing_words)) if missing_words else pl.lit(False)
    return pl.when((written != "") & ~known).then(written).alias(parsed(column)), rules


def is_written_as_text(dtype: pl.DataType) -> bool:
    """Whether whole numbers of this type may not fit Int64, so that they are text at first."""
    return dtype in (pl.UInt64, pl.Int128) or dtype.is_decimal()


def as_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Write ids of any type as text that is the same for the same id: 3, 3.0 and decimal 3.000 are `3`."""
    raw = pl.col(column)
    if dtype.is_float():
        exact = raw.is_finite() & (raw == raw.round()) & ~inexact(column, dtype)
        whole = pl.when(exact).then(raw).cast(pl.Int64, strict=False).cast(pl.String)
        return pl.coalesce(whole, pl.when(~raw.is_nan()).then(raw).cast(pl.String))
    if dtype.is_decimal():
        return raw.cast(pl.String).str.replace(r"\.0*$", "")
    return raw.cast(pl.String).str.strip_chars()


def inexact(column: str, dtype: pl.DataType) -> pl.Expr:
    """Whether an id is a float so large that it may stand for two ids."""
    if not dtype.is_float():
        return pl.lit(False)
    return pl.col(column).is_finite() & (pl.col(column).abs() >= (EXACT if dtype == pl.Float64 else EXACT_SINGLE))


def is_word_for_missing(column: str, dtype: pl.DataType, missing_words: Sequence[str]) -> pl.Expr:
    """Whether a cell of an id column is a text such as `nan`, which stands for no id."""
    if dtype != pl.String or not missing_words:
        return pl.lit(False)
    find = partial(_are_words, words=list(missing_words))
    return pl.col(column).map_batches(find, return_dtype=pl.Boolean, is_elementwise=True)


def _are_words(cells: pl.Series, words: Sequence[str]) -> pl.Series:
    """Which cells are one of some words in lower case. Most ids are longer than all of them."""
    bare = cells.str.strip_chars()
    short = (bare.str.len_bytes() <= max(len(word.encode()) for word in words)).fill_null(False)
    found = pl.repeat(False, len(cells), eager=True)
    if not short.any():
        return found
    return found.scatter(short.arg_true(), bare.filter(short).str.to_lowercase().is_in(words))


def are_whole_floats(head: pl.Series) -> bool:
    """Whether a file writes its ids as whole numbers that passed through a column of floats: `17.0`."""
    filled = head.drop_nulls().str.strip_chars()
    filled = filled.filter(~filled.str.to_lowercase().is_in(["", "nan"]))
    return bool(len(filled)) and bool(filled.str.contains(WHOLE_FLOAT).all())


def as_typed(texts: pl.Series, dtype: pl.DataType | None) -> pl.Series:
    """Turn a text column into the dtype that the head of its file showed, if no cell changes by it.

    `007` is no whole number: written back it would be `7`.
    """
    if dtype is None or texts.dtype != pl.String or not (dtype.is_numeric() or dtype == pl.Boolean):
        return texts
    typed = texts.cast(dtype, strict=False) if dtype.is_numeric() else _boolean(texts)
    same = typed.null_count() == texts.null_count()
    if dtype.is_integer():
        same = same and bool((typed.cast(pl.String) == texts).all())
    return typed if same else texts


def as_id(texts: pl.Series, types: Mapping[str, pl.DataType]) -> pl.Series:
    """Turn ids written as text into Int64 where their files hold whole numbers and nothing is lost."""
    dtype = types.get(texts.name)
    return as_typed(texts, dtype) if dtype == pl.Int64 else texts


def _boolean(texts: pl.Series) -> pl.Series:
    return texts.str.to_lowercase().replace_strict(
        {"true": True, "false": False}, default=None, return_dtype=pl.Boolean
    )
