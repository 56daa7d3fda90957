"""A log with bad rows: read, checked, put in quarantine and counted, beside a scan and parse of the clean file."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from benchmarks.speed.measure import MEGABYTE, Row, alternately, growth_mb, median
from recsys.config import DataConfig
from recsys.tables.ingest import load_tables

TITLE = "Reading dirty tables"
ABOUT = """
A made-up log in CSV: user, item, moment, kind, value. Of its rows 2% are bad, in ten ways: no user, no item, an item
that the catalogue lacks, no moment, no date where one should be, 1969, the year 2300, no number, a cell too many, and
bytes that are no UTF-8. *Quotes* has a note in quotes as well, and for the last kind a quote that does not end. All
that `recsys ingest` does is timed: rows are checked, refused ones written to the quarantine with file, row, column,
value and reason, users and items numbered, events sorted, repeated ones dropped, everything counted. Beside it, polars
scans and parses the clean file and checks nothing: once it finds types and dates itself, as the engine does (`scan_csv`
with `try_parse_dates`), once they are given to it. Each run must find the bad rows of each kind to the last one.
Seconds passed, and seconds of all processors together.
"""
SIZES = {"1m": 1_000_000, "10m": 10_000_000}
CASES = tuple(f"{size}{kind}" for size in SIZES for kind in ("", "_quotes"))
BAD_SHARE = 0.02
BLOCK = 500_000
EVENTS_PER_USER, EVENTS_PER_ITEM = 20, 200
KINDS = {"view": 1.0, "basket": 2.0, "purchase": 3.0}
BEGIN, DAYS = 1_600_000_000, 365
NOT_UTF8 = "\x01"  # written by polars as text, and as a byte that is no UTF-8 afterwards
REASONS = (
    "user_id: missing",
    "item_id: missing",
    "item_id: not in the catalogue",
    "timestamp: missing",
    "timestamp: not a time",
    "timestamp: before 1970",
    "timestamp: in the future",
    "value: not a number",
    "row: more cells than columns",
    "row: not UTF-8",
)
OPEN_QUOTE = "row: a quote that does not end"
ROUNDS = {"1m": 3, "10m": 1}


def reasons(quotes: bool) -> tuple[str, ...]:
    """The ten reasons for which rows of a file are refused."""
    return (*REASONS[:-1], OPEN_QUOTE) if quotes else REASONS


def write(folder: Path, n_events: int, quotes: bool = False, seed: int = 0) -> dict[str, int]:
    """Write `items.csv`, `clean.csv` and `dirty.csv`, which has other rows in the place of some of the clean ones.

    Args:
        folder: Where.
        n_events: Rows of each log.
        quotes: Whether the log has a column of notes in quotes, with commas and doubled quotes in them.
        seed: Of everything that is drawn.

    Returns:
        How many rows are bad, by reason.
    """
    n_users, n_items = max(n_events // EVENTS_PER_USER, 10), max(n_events // EVENTS_PER_ITEM, 10)
    items = pl.DataFrame({"row": np.arange(n_items)})
    items.select(item_id=_id("i", pl.col("row")), title=pl.format("Item {}", "row")).write_csv(folder / "items.csv")
    header = "user_id,item_id,timestamp,event,value" + (",note" if quotes else "")
    counts: dict[str, int] = defaultdict(int)
    rng = np.random.default_rng([seed, 7])
    with (folder / "clean.csv").open("wb") as clean, (folder / "dirty.csv").open("wb") as dirty:
        for file in (clean, dirty):
            file.write(f"{header}\n".encode())
        for start in range(0, n_events, BLOCK):
            size = min(BLOCK, n_events - start)
            cells = _cells(rng, size, n_users, n_items)
            kind = np.where(rng.random(size) < BAD_SHARE, rng.integers(len(REASONS), size=size), -1)
            clean.write(_lines(cells, quotes))
            dirty.write(_lines(_spoil(cells.with_columns(bad=kind), quotes), quotes))
            for number, reason in enumerate(reasons(quotes)):
                counts[reason] += int((kind == number).sum())
    return {reason: count for reason, count in counts.items() if count}


def _id(letter: str, row: pl.Expr) -> pl.Expr:
    return pl.format(letter + "{}", row.cast(pl.String).str.zfill(7))


def _cells(rng: np.random.Generator, size: int, n_users: int, n_items: int) -> pl.DataFrame:
    """Good rows, each cell as it is written."""
    frame = pl.DataFrame(
        {
            "user": rng.integers(n_users, size=size),
            "item": (n_items * rng.random(size) ** 2).astype(np.int64),  # some items far more often than others
            "second": BEGIN + rng.integers(DAYS * 86_400, size=size),
            "kind": rng.integers(len(KINDS), size=size),
            "cent": rng.integers(100, 100_000, size=size),
        }
    )
    return frame.select(
        user=_id("u", pl.col("user")),
        item=_id("i", pl.col("item")),
        time=pl.from_epoch("second").dt.strftime("%Y-%m-%d %H:%M:%S"),
        event=pl.col("kind").replace_strict(dict(enumerate(KINDS)), return_dtype=pl.String),
        value=pl.format("{}.{}", pl.col("cent") // 100, (pl.col("cent") % 100).cast(pl.String).str.zfill(2)),
        note=pl.format('"size {}, ""new"""', pl.col("cent") % 50),
    )


def _spoil(cells: pl.DataFrame, quotes: bool) -> pl.DataFrame:
    """Make bad rows of those whose `bad` is not -1: the place of the reason in `reasons`."""
    broken = {
        "user": {0: ""},
        "item": {1: "", 2: "none-such"} | ({} if quotes else {9: f"i{NOT_UTF8}"}),
        "time": {3: "", 4: "last Tuesday", 5: "1969-12-31 23:59:58", 6: "2300-01-01 00:00:00"},
        "value": {7: "n. a. EUR", 8: "9.99,1"},
        "note": {9: '"no end'} if quotes else {},
    }
    spoiled = [
        pl.col("bad").replace_strict(texts, default=pl.col(name), return_dtype=pl.String).alias(name)
        for name, texts in broken.items()
        if texts
    ]
    return cells.with_columns(spoiled)


def _lines(cells: pl.DataFrame, quotes: bool) -> bytes:
    names = ["user", "item", "time", "event", "value", *(["note"] if quotes else [])]
    text = cells.select(pl.concat_str(names, separator=",")).write_csv(include_header=False, quote_style="never")
    return text.encode().replace(NOT_UTF8.encode(), b"\xff")


def settings(folder: Path, log: str) -> DataConfig:
    """How the engine is told to read one of the two logs."""
    return DataConfig.model_validate(
        {
            "catalog": {"source": "csv", "path": str(folder / "items.csv")},
            "interactions": {"source": "csv", "path": str(folder / log), "events": KINDS},
            "unknown_items": "refuse",
            "tolerated": 0.05,
        }
    )


def scan_and_parse(file: Path, quotes: bool = False) -> pl.DataFrame:
    """What polars makes of the clean file, with the type of each column given."""
    types: dict[str, Any] = dict.fromkeys(["user_id", "item_id", "timestamp", "event"], pl.String)
    types |= {"value": pl.Float64} | ({"note": pl.String} if quotes else {})
    moment = pl.col("timestamp").str.strptime(pl.Datetime("us"), "%Y-%m-%d %H:%M:%S")
    return pl.scan_csv(file, schema=types).with_columns(moment).collect(engine="streaming")


def scan_and_find_types(file: Path) -> pl.DataFrame:
    """What polars makes of the clean file by itself."""
    return pl.scan_csv(file, try_parse_dates=True).collect(engine="streaming")


def read_and_check(folder: Path, log: str, planted: dict[str, int], n_events: int) -> None:
    """Load both tables; raise `AssertionError` unless each bad row was refused for what is wrong with it."""
    report: Any = load_tables(settings(folder, log), folder).report["interactions"]
    if report["refused"] != dict(sorted(planted.items(), key=lambda pair: -pair[1])) or report["rows"] != n_events:
        raise AssertionError(f"{report['rows']} of {n_events} rows; refused {report['refused']}, planted {planted}")


def run(case: str, data: Path) -> list[Row]:
    """Measure one size of one kind of file."""
    size, _, kind = case.partition("_")
    quotes, n_events = kind == "quotes", SIZES[size]
    with TemporaryDirectory() as name:
        folder = Path(name)
        planted = write(folder, n_events, quotes)
        works: dict[str, Callable[[], object]] = {
            "dirty": lambda: read_and_check(folder, "dirty.csv", planted, n_events),
            "clean": lambda: read_and_check(folder, "clean.csv", {}, n_events),
            "found": lambda: scan_and_find_types(folder / "clean.csv"),
            "given": lambda: scan_and_parse(folder / "clean.csv", quotes),
        }
        spent: dict[str, list[float]] = defaultdict(list)
        grown: dict[str, list[float]] = defaultdict(list)
        measured = {key: _measured(work, spent[key], grown[key]) for key, work in works.items()}
        passed = alternately(measured, rounds=ROUNDS[size], warm=0)
        seconds = {key: median(values) for key, values in passed.items()}
        processor = {key: median(values) for key, values in spent.items()}
        megabytes = {key: max(values) for key, values in grown.items()}
        bytes_read = (folder / "clean.csv").stat().st_size
    note = f"{n_events:,} rows, {bytes_read / MEGABYTE:,.0f} MB" + (", notes in quotes" if quotes else "")
    found = []
    rivals = {"found": "polars, clean log, types found", "given": "polars, clean log, types given"}
    for log, rival in itertools.product(("dirty", "clean"), rivals):
        for what, taken in (("seconds", seconds), ("seconds of processors", processor)):
            wanted = "<= 1.5" if log == "dirty" else ""
            found.append(
                Row(f"{log} log, {what}", taken[log], "s", rivals[rival], taken[rival], wanted, ours_mb=megabytes[log],
                    theirs_mb=megabytes[rival], note=note)
            )  # fmt: skip
    found.append(Row("dirty log, memory", megabytes["dirty"] / 1024, "GB", wanted="<= 6 GB", note=note))
    return found


def _measured(work: Callable[[], object], spent: list[float], grown: list[float]) -> Callable[[], None]:
    """Note the seconds that all processors together spend on a work, and by how many megabytes the process grows."""

    def measured() -> None:
        begun = time.process_time()
        grown.append(growth_mb(work))
        spent.append(time.process_time() - begun)

    return measured
