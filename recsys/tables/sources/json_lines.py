"""JSON lines, scanned lazily: one object a line, each row with its line number and why it is refused."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import partial

import polars as pl

from recsys.errors import DataError
from recsys.tables.sources.scanning import HEAD_ROWS, REFUSED, ROW

# What Python's json module writes for numbers that JSON has not.
NOT_FINITE = r"([:\[,]\s*)(?:NaN|-?Infinity)\b"


def _lines(file: str) -> pl.LazyFrame:
    lines = pl.scan_lines(file, glob=False, name="line", row_index_name=ROW, row_index_offset=1)
    line = pl.col("line").str.strip_prefix("\ufeff")
    return lines.with_columns(line).filter(pl.col("line").str.strip_chars() != "")


def json_types(file: str) -> dict[str, pl.DataType]:
    """Find the keys of a file, wherever they first appear, and their dtypes.

    Raises:
        DataError: none of the first thousand lines is a JSON object.
    """
    if _mended(_lines(file).head(HEAD_ROWS).collect()).filter(_is_json_object()).is_empty():
        raise DataError(f"{file}: none of its first {HEAD_ROWS} lines is a JSON object")
    types: dict[str, pl.DataType] = {}

    def look(lines: pl.DataFrame) -> pl.DataFrame:
        for name, dtype in _parsed(lines, None)[0].schema.items():
            types[name] = _wider(types[name], dtype) if name in types else dtype
        return lines.select(pl.lit(0).alias("seen")).head(1)

    _lines(file).map_batches(look, schema=pl.Schema({"seen": pl.Int32()}), streamable=True).collect(engine="streaming")
    return {name: pl.String() if dtype == pl.Null else dtype for name, dtype in types.items()}


def _wider(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """A type that holds the cells of both."""
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if one.is_numeric() and other.is_numeric():
        return pl.Float64()
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        return pl.List(_wider(one.inner, other.inner))  # type: ignore[arg-type]
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        fields = dict(one)
        for name, dtype in dict(other).items():
            fields[name] = _wider(fields[name], dtype) if name in fields else dtype  # type: ignore[arg-type]
        return pl.Struct(fields)
    return pl.String()


def _is_json_object() -> pl.Expr:
    line = pl.col("line")
    return line.str.json_path_match("$").is_not_null() & line.str.strip_chars_start().str.starts_with("{")


def scan_json(file: str, schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Scan these keys of one JSON-lines file, with ROW and REFUSED. Cells of another shape become null."""
    whole = {ROW: pl.get_index_type(), **schema, REFUSED: pl.String()}
    return _lines(file).map_batches(partial(_rows, schema=schema), schema=pl.Schema(whole), streamable=True)


def _rows(lines: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    cells, refused = _parsed(lines, schema)
    return lines.select(ROW).hstack(cells).with_columns(refused)


def _parsed(lines: pl.DataFrame, schema: Mapping[str, pl.DataType] | None) -> tuple[pl.DataFrame, pl.Series]:
    """Parse lines, and say which are refused; without a schema all keys are parsed, as what they look like."""
    given = None if schema is None else dict(schema)
    nothing = pl.Series(REFUSED, [None], dtype=pl.String).new_from_index(0, lines.height)
    try:
        return _read(lines["line"], given), nothing
    except pl.exceptions.ComputeError:
        # One broken line fails the batch, and telling which takes ten times as long: done only here.
        lines = _mended(lines)
        lines = lines.with_columns(pl.when(_is_json_object()).then("line").otherwise(pl.lit("{}")))
        refused = pl.when(lines["line"] == "{}").then(pl.lit("row: not JSON")).alias(REFUSED)
        return _read(lines["line"], given), lines.select(refused).to_series()


def _mended(lines: pl.DataFrame) -> pl.DataFrame:
    """Write as JSON what Python writes nearly so: `NaN`, and dicts printed as `{'id': 1, 'free': True}`."""
    finite = pl.col("line").str.replace_all(NOT_FINITE, "${1}null")
    lines = lines.with_columns(pl.when(_is_json_object()).then("line").otherwise(finite))
    printed = lines["line"].str.contains(r"^\s*\{\s*u?'") & ~lines.select(_is_json_object()).to_series()
    if not printed.any():
        return lines
    as_json = lines["line"].filter(printed).map_elements(_from_python, return_dtype=pl.String, skip_nulls=True)
    places = printed.arg_true()
    return lines.with_columns(lines["line"].scatter(places, as_json))


def _from_python(line: str) -> str:
    try:
        return json.dumps(ast.literal_eval(line.strip()), allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return line


def _read(lines: pl.Series, schema: dict[str, pl.DataType] | None) -> pl.DataFrame:
    text = str(lines.str.join("\n").item()).encode()
    if schema is None:
        return pl.read_ndjson(text, infer_schema_length=None, ignore_errors=True)
    return pl.read_ndjson(text, schema=schema, ignore_errors=True)
