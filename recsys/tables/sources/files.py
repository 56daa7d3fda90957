"""File formats of any shop: Parquet, CSV, JSON lines."""

from __future__ import annotations

from functools import partial

import polars as pl

from recsys.tables.sources import scanning as scan
from recsys.tables.sources.base import Source, Table
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import ROW


@SOURCES.register
def parquet(paths: list[str], table: Table) -> Source:
    """Parquet files; their dtypes are kept."""
    files = scan.find_files(paths, ".parquet")
    return Source(scan.gather(files, lambda file: pl.scan_parquet(file).with_row_index(ROW, 1)), files)


@SOURCES.register
def csv(paths: list[str], table: Table) -> Source:
    """Comma-separated UTF-8 files with a header line, gzipped or not. Blank lines are no rows."""
    files = scan.find_files(paths, ".csv", ".csv.gz")
    types = pl.scan_csv(files[0], infer_schema_length=scan.HEAD_ROWS, ignore_errors=True, encoding="utf8-lossy")
    return Source(scan.gather(files, scan.scan_csv), files, types.collect_schema())


@SOURCES.register
def jsonl(paths: list[str], table: Table) -> Source:
    """JSON lines, gzipped or not; columns are the keys of the first thousand lines. Blank lines are no rows."""
    files = scan.find_files(paths, ".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz")
    types: dict[str, pl.DataType] = {}
    for file in files:
        types |= {name: dtype for name, dtype in scan.json_types(file).items() if name not in types}
    # Scalars are read as text, so that a number where a date should be costs one row and not the run.
    schema = {name: dtype if dtype.is_nested() else pl.String() for name, dtype in types.items()}
    return Source(scan.gather(files, partial(scan.scan_json, schema=schema)), files, types)
