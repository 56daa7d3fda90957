"""Tables in memory: any data frame as a polars one."""

from __future__ import annotations

from typing import Any

import polars as pl

from recsys.errors import DataError


def to_polars(frame: Any, name: str) -> pl.DataFrame:
    """Turn a data frame into a polars one; nothing is copied where its memory is Arrow's.

    Args:
        frame: A polars DataFrame or LazyFrame, a pandas DataFrame, a pyarrow Table, or anything with the Arrow
            PyCapsule interface (`__arrow_c_stream__`): DuckDB relations, Ibis tables and others.
        name: What the frame is, for the error message.

    Raises:
        DataError: the value is no data frame, or polars cannot read it.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect(engine="streaming")
    try:
        if hasattr(frame, "__arrow_c_stream__"):
            return pl.DataFrame(frame)
        if type(frame).__module__.partition(".")[0] == "pandas":
            return pl.from_pandas(frame)
    except Exception as error:  # whatever another library raises while it hands its columns over
        raise DataError(f"{name}: polars cannot read this {type(frame).__name__}: {error}") from error
    raise DataError(
        f"{name} must be a data frame (polars, pandas, pyarrow, or with __arrow_c_stream__), and is a "
        f"{type(frame).__name__}"
    )
