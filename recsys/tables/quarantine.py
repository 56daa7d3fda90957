"""Refused rows: put away with file, row, column, value and reason, counted, and too many of them stop the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys.errors import ArtifactError, DataError
from recsys.storage import atomic
from recsys.tables.sources.scanning import name_files

SHOWN_ROWS = 5
MOST_REASONS = 10  # in a message


def put_away(
    table: str,
    rows: int,
    bad: pl.DataFrame,
    tolerated: float,
    path: Path,
    files: list[str],
    dropped: Mapping[str, int],
) -> dict[str, int]:
    """Write the refused rows of a table, and count them by reason.

    Args:
        table: `catalog` or `interactions`, for messages.
        rows: How many rows were read.
        bad: The refused ones, see `rules.quarantined`.
        tolerated: The share of refused rows above which a run stops.
        path: Where they go; without refused rows the file is removed.
        files: The files of the table.
        dropped: Rows left out, by reason.

    Raises:
        DataError: the table has no rows, none is left, or more are refused than tolerated.
        ArtifactError: the rows cannot be written.
    """
    if not rows:
        raise DataError(f"{table}: {name_files(files)} has no rows")
    bad = bad.sort("file", "row").cast({"file": pl.String})
    _write(bad, path)
    refused = count_by_reason(bad["reason"])
    left = rows - bad.height - sum(dropped.values())
    if bad.height > tolerated * rows and (left or not dropped):
        advice = "mend the file, or raise data.tolerated" if bad.height < rows else "mend the file or the config"
        raise DataError(
            f"{table}: {bad.height} of {rows} rows were refused ({bad.height / rows:.1%}), and data.tolerated allows "
            f"{tolerated:.1%}. The first:\n  " + "\n  ".join(_shown(bad)) + f"\nBy reason: {_listed(refused)}. All of "
            f"them are in {path}; {advice}."
        )
    if not left:
        raise DataError(
            f"{table}: none of the {rows} rows is left; refused: {_listed(refused)}; dropped: {_listed(dropped)}"
        )
    return refused


def _shown(bad: pl.DataFrame) -> list[str]:
    return [
        f"{file}:{row}: {reason}" + ("" if value is None else f": {value[:100]!r}")
        for file, row, value, reason in bad.head(SHOWN_ROWS).select("file", "row", "value", "reason").iter_rows()
    ]


def _write(bad: pl.DataFrame, path: Path) -> None:
    try:
        if bad.is_empty():
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.whole(path) as aside:
            bad.write_parquet(aside)
    except (OSError, pl.exceptions.PolarsError) as error:
        why = atomic.why_not_written(error, path.parent)
        raise ArtifactError(f"{path}: {bad.height} refused rows could not be written: {why}") from error


def count_by_reason(labels: pl.Series) -> dict[str, int]:
    """Count the rows of each label, the most frequent first; nulls are not counted."""
    counts = labels.drop_nulls().value_counts(sort=True, name="rows")
    return dict(counts.iter_rows())


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{reason} ({rows})" for reason, rows in list(counts.items())[:MOST_REASONS]]
    more = len(counts) - MOST_REASONS
    return (", ".join(shown) or "none") + (f" and {more} more" if more > 0 else "")
