"""Load the two tables: read them, check row by row, put bad rows in quarantine, count, and number users and items.

Three things can happen to a row that is not kept, and each is counted by its reason. It is *refused* where it is wrong:
it goes to quarantine, and too many of them stop the run. It is *dropped* where the source or the config does not want
it. It is a *duplicate* where the same user did the same to the same item at the same time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from recsys.config import DataConfig, InteractionsConfig, nearest
from recsys.errors import ConfigError
from recsys.formatting import plural, size
from recsys.parallel.forks import require_polars
from recsys.progress import Progress, quiet
from recsys.tables import schema
from recsys.tables.catalog import load_catalog
from recsys.tables.ids import identifier, is_word_for_missing
from recsys.tables.quarantine import count_by_reason, put_away
from recsys.tables.rules import BAD, LEFT_OUT, REASON, first_reason, is_refused, parsed, quarantined
from recsys.tables.sequence import number_users, put_in_order
from recsys.tables.settle import settle
from recsys.tables.sources.base import RawTable
from recsys.tables.sources.registry import read
from recsys.tables.sources.scanning import DROPPED, FILE, ROW, reading
from recsys.tables.summary import UNKNOWN_ITEM, WORD_FOR_MISSING, log_table
from recsys.tables.tombstones import Tombstones
from recsys.types import Interactions, Tables

log = logging.getLogger(__name__)

FORGOTTEN = "forgotten"
LARGE = 100_000_000  # bytes from which on reading takes long enough to say so first


def load_tables(data: DataConfig, folder: Path, progress: Progress = quiet) -> Tables:
    """Load the catalogue and the interactions that the config names, and log a line on each.

    Args:
        data: Where the tables are and how to read them.
        folder: Refused rows go to `folder/quarantine/catalog.parquet` and `…/interactions.parquet`, with the
            columns file, row, column, value, reason, and of interactions user_id. A table without refused rows
            leaves no such file. Rows of people whom `folder/forgotten.json` holds are dropped as `forgotten`.
        progress: Shows which table is being read.

    Returns:
        The tables. Items keep the order of the catalogue. `user_ids` is sorted, String or Int64 as in the
        data; `interactions.user` counts places in it. Of events alike in user, item, time and kind the first
        is kept. `report` holds counts of rows read, refused, dropped (by reason), duplicate and kept.

    Raises:
        ConfigError: an unknown source, column of ours or time zone; a target kind that no event has.
        DataError: a missing file, package or column, no row left, or more refused rows than tolerated.
        ArtifactError: the quarantine could not be written, or `forgotten.json` is damaged.
        ForkError: this process was forked from one that had used polars.
    """
    require_polars("reading tables")
    forgotten = Tombstones.read(folder)
    progress("read the tables", 0, 2)
    catalog, about_items = load_catalog(data, folder / "quarantine" / "catalog.parquet")
    if data.catalog is None:
        log.warning("there is no table of items: the catalogue is the %s items that the events name", len(catalog))
    log_table("catalog", about_items)
    progress("read the tables", 1, 2)
    interactions, user_ids, about_events = _load_interactions(
        data, catalog.ids, folder / "quarantine" / "interactions.parquet", forgotten
    )
    log_table("interactions", about_events, list(data.interactions.events))
    progress("read the tables", 2, 2)
    report = {"catalog": about_items, "interactions": about_events}
    return Tables(catalog, interactions, user_ids, data.clock, report)


def _say_what_is_large(files: Sequence[str]) -> None:
    """Log how much is about to be read, where that takes more than a moment."""
    bytes_in_all = sum(Path(file).stat().st_size for file in files if Path(file).is_file())
    if bytes_in_all >= LARGE:
        log.info("interactions: reading %s, %s", plural(len(files), "file"), size(bytes_in_all))


def _load_interactions(
    data: DataConfig, item_ids: pl.Series, quarantine: Path, forgotten: Tombstones
) -> tuple[Interactions, pl.Series, dict[str, Any]]:
    read = read_events(data, item_ids, quarantine, forgotten)
    events, source = read.events, read.source

    numbered, user_ids = number_users(events, source.types)
    coded = put_in_order(numbered)
    interactions = Interactions(
        user=coded["user"].cast(pl.Int32).to_numpy(),
        item=coded["item"].to_numpy(),
        time=coded["time"].to_numpy(),
        weight=coded["weight"].to_numpy(),
        target=coded["target"].to_numpy(),
        n_users=len(user_ids),
    )
    report = {
        "files": source.files,
        **({"version": source.version} if source.version is not None else {}),
        "rows": read.rows,
        "refused": read.refused,
        "dropped": read.dropped,
        "duplicates": events.height - coded.height,
        "kept": coded.height,
        "not_finite": {"value": int(events["not_finite"].sum())},
        "users": len(user_ids),
        "items": coded["item"].n_unique(),
        "kinds": count_by_reason(coded["kind"].cast(pl.String)),
        "first": _written_time(coded["time"].min(), data.clock),
        "last": _written_time(coded["time"].max(), data.clock),
    }
    return interactions, user_ids.alias("user_id"), report


@dataclass(frozen=True, eq=False)
class EventsRead:
    """The good rows of the interactions, and counts of the others.

    Attributes:
        events: FILE, ROW, `user_id`, `item`, `time`, `kind`, `weight`, `target`, `not_finite`, and what else was asked.
        source: The table that they were read from.
        rows: Rows read.
        refused: Rows refused, by reason.
        dropped: Rows left out, by reason.
    """

    events: pl.DataFrame
    source: RawTable
    rows: int
    refused: dict[str, int]
    dropped: dict[str, int]


def read_events(
    data: DataConfig,
    item_ids: pl.Series,
    quarantine: Path,
    forgotten: Tombstones,
    further: Callable[[RawTable], Sequence[pl.Expr]] = lambda table: (),
) -> EventsRead:
    """Read and check the interactions, put refused rows away, and leave forgotten people out.

    Args:
        data: Where the table is and how to read it.
        item_ids: Those of the catalogue.
        quarantine: Where refused rows go.
        forgotten: People whose rows are left out.
        further: Columns to keep of the good rows, from the table with our column names; `parsed("value")` is there.

    Raises:
        ConfigError, DataError, ArtifactError: as `load_tables`.
    """
    source = _open_interactions(data)
    _say_what_is_large(source.files)
    with reading(source.files):
        events, bad, left_out = _scan_interactions(source.frame, data, item_ids, further(source))
    dropped = dict(left_out.iter_rows())
    found = events.height + bad.height
    events, bad = (_without(forgotten, table) for table in (events, bad))
    # A cell may hold a forgotten id by mistake, such as in a row whose columns are shifted.
    bad = bad.with_columns(value=pl.when(~forgotten.hold(bad["value"])).then("value"))
    if gone := found - events.height - bad.height:
        dropped[FORGOTTEN] = gone
    rows = events.height + bad.height + sum(dropped.values())
    refused = put_away("interactions", rows, bad, data.tolerated, quarantine, source.files, dropped)
    _check_targets(data.interactions, events["kind"])
    return EventsRead(events, source, rows, refused, dropped)


def _open_interactions(data: DataConfig) -> RawTable:
    """The interactions with our column names, ids and times settled by file."""
    table = settle(read(data.interactions, "interactions"), data.interactions, data)
    order, no_catalog = data.clock == "order", data.catalog is None
    return schema.mapped(table, data.interactions, "interactions", row_order=order, describes_items=no_catalog)


def _scan_interactions(
    raw: pl.LazyFrame, data: DataConfig, item_ids: pl.Series, further: Sequence[pl.Expr]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Read every row once: the good ones, the refused ones, and how many were left out for which reason."""
    settings = data.interactions
    cells, rules = schema.interaction_cells(raw.collect_schema(), data, item_ids)
    kind, wanted, is_bad = pl.col(parsed("event")), pl.col(LEFT_OUT).is_null(), pl.col(BAD)
    unasked = "event: " + pl.when(~kind.is_in(list(settings.events))).then(kind)
    # A kind that nobody asked for may lack an item or anything else: it is left out before it is checked.
    early = [pl.col(DROPPED), *([unasked] if settings.events else []), *_without_id(raw.collect_schema(), data)]
    late = [pl.lit(None, pl.String)]
    if data.unknown_items == "drop":
        late.append(pl.when(pl.col(parsed("item")).is_null()).then(pl.lit(UNKNOWN_ITEM)))
    if settings.min_value is not None:
        late.append(
            pl.when(pl.col(parsed("value")) < settings.min_value).then(pl.lit(f"value: below {settings.min_value:g}"))
        )
    not_kept = pl.when(~is_bad).then(pl.coalesce(*late))
    rows = (
        raw.with_columns(*cells)
        .with_columns(pl.coalesce(early).alias(LEFT_OUT))
        .with_columns((wanted & is_refused(rules)).alias(BAD))
        .with_columns(pl.coalesce(LEFT_OUT, not_kept).alias(LEFT_OUT))
    )
    weight = kind.replace_strict(settings.events, return_dtype=pl.Float32) if settings.events else pl.lit(1, pl.Float32)
    good = rows.filter(wanted & ~is_bad).select(
        FILE,
        ROW,
        *further,
        user_id=parsed("user_id"),
        item=parsed("item"),
        time=parsed("timestamp"),
        kind=kind.cast(pl.Categorical),
        weight=weight,
        target=kind.is_in(settings.targets) if settings.targets else pl.lit(True),
        not_finite=~pl.col(parsed("value")).is_finite(),
    )
    named = quarantined([rule.column for rule in rules])
    # An id that was refused is no user's: 3.5 is not user 3.
    whose = pl.when(pl.col("column").ne_missing("user_id")).then(pl.col("user_id").cast(pl.String))
    refused = rows.filter(is_bad).with_columns(first_reason(rules).alias(REASON))
    bad = refused.select(*named, user_id=parsed("user_id")).with_columns(user_id=whose)
    left_out = rows.filter(~wanted).group_by(LEFT_OUT).len().sort("len", descending=True)
    found = pl.collect_all([good, bad, left_out], engine="streaming")
    return found[0], found[1], found[2]


def _without_id(dtypes: pl.Schema, data: DataConfig) -> list[pl.Expr]:
    """Reasons to leave out rows in which a word such as `nan` stands for an id."""
    words = [word.lower() for word in data.missing]
    return [
        pl.when(is_word_for_missing(name, dtypes[name], words)).then(pl.lit(f"{name}: {WORD_FOR_MISSING}"))
        for name in ("user_id", "item_id")
        if dtypes[name] == pl.String
    ]


def _without(forgotten: Tombstones, rows: pl.DataFrame) -> pl.DataFrame:
    """Leave out the rows of forgotten users."""
    if not forgotten.users:
        return rows
    ids = rows["user_id"].unique()
    gone = ids.filter(forgotten.hold(ids))
    return rows if gone.is_empty() else rows.filter(~pl.col("user_id").is_in(gone.implode()).fill_null(False))


def rows_of(data: DataConfig, ids: Sequence[str]) -> dict[str, int]:
    """Count the rows, good or not, that the interactions of a config hold of some users. Raises as `load_tables`."""
    source = _open_interactions(data)
    with reading(source.files):
        user_id, _ = identifier("user_id", source.frame.collect_schema()["user_id"])
        rows = source.frame.select(user=user_id.cast(pl.String))
        counts = rows.filter(pl.col("user").is_in(list(ids))).group_by("user").len().collect(engine="streaming")
    return dict(counts.iter_rows())


def _check_targets(settings: InteractionsConfig, kinds: pl.Series) -> None:
    known = kinds.cast(pl.String).unique().sort().to_list()
    for target in settings.targets:
        if target not in known:
            raise ConfigError(
                f"data.interactions.targets: no event kept is of kind {target!r}{nearest(target, known)}; "
                f"kinds kept: {', '.join(known)}"
            )


def _written_time(time: Any, clock: str) -> str | int:
    return int(time) if clock == "order" else datetime.fromtimestamp(time / 1_000_000, UTC).isoformat()
