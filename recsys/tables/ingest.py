"""Load the two tables: read, check row by row, put bad rows in quarantine, count, and number users and items.

Three things can happen to a row that is not kept, and each is counted by its reason. It is *refused* where it
is wrong: it goes to quarantine, and too many of them stop the run. It is *dropped* where the source or the
config does not want it. It is a *duplicate* where the same user did the same to the same item at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from recsys.config import CatalogConfig, DataConfig, InteractionsConfig, nearest
from recsys.errors import ArtifactError, ConfigError, DataError
from recsys.storage import atomic
from recsys.tables import schema
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.registry import read
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW, name_files, reading
from recsys.tables.tombstones import Tombstones
from recsys.types import CATEGORY_SEPARATOR, Catalog, Interactions, Tables

SHOWN_ROWS = 5
FORGOTTEN = "forgotten"


def load_tables(data: DataConfig, folder: Path) -> Tables:
    """Load the catalogue and the interactions that the config names.

    Args:
        data: where the tables are and how to read them.
        folder: refused rows go to `folder/quarantine/catalog.parquet` and `…/interactions.parquet`, with the
            columns file, row, column, value, reason, and of interactions user_id. A table without refused rows
            leaves no such file. Rows of people whom `folder/forgotten.json` holds are dropped as `forgotten`.

    Returns:
        The tables. Items keep the order of the catalogue. `user_ids` is sorted, String or Int64 as in the
        data; `interactions.user` counts places in it. Of events alike in user, item, time and kind the first
        is kept. `report` holds counts of rows read, refused, dropped (by reason), duplicate and kept.

    Raises:
        ConfigError: an unknown source, column of ours or time zone; a target kind that no event has.
        DataError: a missing file, package or column, no row left, or more refused rows than tolerated.
        ArtifactError: the quarantine could not be written, or `forgotten.json` is damaged.
    """
    forgotten = Tombstones.read(folder)
    catalog, about_items = _load_catalog(data, folder / "quarantine" / "catalog.parquet")
    interactions, user_ids, about_events = _load_interactions(
        data, catalog.ids, folder / "quarantine" / "interactions.parquet", forgotten
    )
    report = {"catalog": about_items, "interactions": about_events}
    return Tables(catalog, interactions, user_ids, data.clock, report)


def _load_catalog(data: DataConfig, quarantine: Path) -> tuple[Catalog, dict[str, Any]]:
    source = schema.mapped(read(data.catalog, "catalog"), data.catalog, "catalog")
    with reading(source.files):
        raw = source.frame.collect(engine="streaming")
    rows, bad, good = _judged(raw, data.catalog.category_separator)
    dropped = _counted(rows[DROPPED])
    refused = _settle("catalog", rows.height, bad, data.tolerated, quarantine, source.files, dropped)
    extras = _extras(raw)
    items = good.select(*_ITEM, *extras)
    items = items.with_columns(
        schema.as_id(items["item_id"], source.types),
        *(schema.as_typed(items[name], source.types.get(name)) for name in extras),
    )
    price = good["_price"]
    report = {
        "files": source.files,
        "rows": rows.height,
        "refused": refused,
        "dropped": dropped,
        "kept": items.height,
        "empty": {name: items[name].null_count() for name in schema.CATALOG},
        "not_finite": {"price": len(price.drop_nulls()) - int(price.is_finite().sum())},
    }
    return Catalog(items), report


_ITEM = [
    *(pl.col(f"_{name}").alias(name) for name in schema.CATALOG if name != "price"),
    pl.when(pl.col("_price").is_finite()).then("_price").alias("price"),
]  # our columns of the catalogue, from cells as read


def _extras(raw: pl.DataFrame) -> list[str]:
    """The columns of a raw catalogue that are the shop's own."""
    return [name for name in raw.columns if name not in (FILE, ROW, REFUSED, DROPPED, *schema.CATALOG)]


def _judged(
    raw: pl.DataFrame, separator: str, further: Sequence[schema.Check] = ()
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Read and check a raw catalogue: every row, the refused ones as the quarantine has them, the good ones."""
    cells, checks = schema.catalog_cells(raw.schema, separator)
    wanted = pl.col(DROPPED).is_null()
    reason = pl.when(wanted).then(schema.first_reason([*checks, *further]))
    rows = raw.with_columns(*cells).with_columns(_reason=reason)
    # Only rows that are good otherwise can be the first of their id.
    again = ~pl.struct("_item_id", wanted & pl.col("_reason").is_null()).is_first_distinct()
    rows = rows.with_columns(
        pl.when(wanted).then(pl.coalesce("_reason", pl.when(again).then(pl.lit("item_id: duplicate")))).alias("_reason")
    )
    bad = rows.filter(pl.col("_reason").is_not_null()).select(schema.quarantined([check.column for check in checks]))
    return rows, bad, rows.filter(wanted & pl.col("_reason").is_null())


def further_items(frame: pl.DataFrame, catalog: Catalog) -> pl.DataFrame:
    """Check rows that are to join a catalogue as a table's rows are checked, and give them its columns and dtypes.

    `frame` has our column names (`item_id`, `title`, …), categories as paths joined by ` > `, and any of the
    catalogue's further columns; what it lacks is null.

    Raises:
        DataError: a column that the catalogue lacks or that holds another type, or a row that is refused: one bad
            row refuses the whole frame. The message names rows (from 1), reasons and values.
    """
    blank = pl.lit(None, pl.String)
    numbered = frame.lazy().with_row_index(ROW, 1)
    marked = numbered.with_columns(pl.lit("").alias(FILE), blank.alias(REFUSED), blank.alias(DROPPED))
    source = schema.mapped(RawTable(marked, []), CatalogConfig(), "catalog")
    known = catalog.frame.schema
    for name in frame.columns:
        if name not in known:
            near = nearest(name, known.names())
            raise DataError(f"the catalogue has no column {name!r}{near}; its columns: {', '.join(known)}")
    there = pl.col("_item_id").cast(pl.String).is_in(catalog.ids.cast(pl.String).implode())
    taken = schema.Check("item_id", "already in the catalogue", there)
    raw = source.frame.collect()
    rows, bad, good = _judged(raw, CATEGORY_SEPARATOR, [taken])
    if bad.height:
        shown = [
            f"row {row}: {reason}" + ("" if value is None else f": {value[:100]!r}")
            for _, row, _, value, reason in bad.head(SHOWN_ROWS).iter_rows()
        ]
        raise DataError(f"{bad.height} of {rows.height} items were refused, so none is added: {'; '.join(shown)}")
    items = good.select(*_ITEM, *_extras(raw))
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in known.items() if name not in items.columns]
    try:
        return items.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in known.items())
    except (pl.exceptions.InvalidOperationError, pl.exceptions.ComputeError) as error:
        told_error = str(error).splitlines()[0]
        raise DataError(f"the items do not have the catalogue's types ({known}): {told_error}") from error


def _load_interactions(
    data: DataConfig, item_ids: pl.Series, quarantine: Path, forgotten: Tombstones
) -> tuple[Interactions, pl.Series, dict[str, Any]]:
    settings = data.interactions
    source = schema.mapped(read(settings, "interactions"), settings, "interactions")
    with reading(source.files):
        events, bad, left_out = _scan_interactions(source.frame, data, item_ids)
    dropped = dict(left_out.iter_rows())
    found = events.height + bad.height
    events, bad = (_without(forgotten, table) for table in (events, bad))
    # A cell may hold a forgotten id by mistake, such as in a row whose columns are shifted.
    bad = bad.with_columns(value=pl.when(~forgotten.hold(bad["value"])).then("value"))
    if gone := found - events.height - bad.height:
        dropped[FORGOTTEN] = gone
    rows = events.height + bad.height + sum(dropped.values())
    refused = _settle("interactions", rows, bad, data.tolerated, quarantine, source.files, dropped)
    _check_targets(settings, events["kind"])

    ids = events["user_id"].unique()
    users = pl.DataFrame({"user_id": ids, "typed": schema.as_id(ids, source.types)})
    users = users.sort("typed").with_row_index("user")
    coded = events.join(users.select("user_id", "user"), on="user_id").sort("user", "time", FILE, ROW)
    coded = coded.unique(["user", "item", "time", "kind"], keep="first", maintain_order=True)
    interactions = Interactions(
        user=coded["user"].cast(pl.Int32).to_numpy(),
        item=coded["item"].to_numpy(),
        time=coded["time"].to_numpy(),
        weight=coded["weight"].to_numpy(),
        target=coded["target"].to_numpy(),
        n_users=users.height,
    )
    report = {
        "files": source.files,
        "rows": rows,
        "refused": refused,
        "dropped": dropped,
        "duplicates": events.height - coded.height,
        "kept": coded.height,
        "not_finite": {"value": int(events["not_finite"].sum())},
        "users": users.height,
        "items": coded["item"].n_unique(),
        "kinds": _counted(coded["kind"].cast(pl.String)),
        "first": _tell_time(coded["time"].min(), data.clock),
        "last": _tell_time(coded["time"].max(), data.clock),
    }
    return interactions, users["typed"].alias("user_id"), report


def _scan_interactions(
    raw: pl.LazyFrame, data: DataConfig, item_ids: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Read every row once: the good ones, the refused ones, and how many were left out for which reason."""
    settings = data.interactions
    cells, checks = schema.interaction_cells(raw, data, item_ids)
    kind, wanted = pl.col("_event"), pl.col("_left_out").is_null()
    unasked = pl.when(~kind.is_in(list(settings.events))).then("event: " + kind)
    # A kind that nobody asked for may lack an item or anything else: it is left out before it is checked.
    early = pl.coalesce(DROPPED, unasked) if settings.events else pl.col(DROPPED)
    late = [pl.lit(None, pl.String)]
    if data.unknown_items == "drop":
        late.append(pl.when(pl.col("_item").is_null()).then(pl.lit("item_id: not in the catalogue")))
    if settings.min_value is not None:
        late.append(pl.when(pl.col("_value") < settings.min_value).then(pl.lit(f"value: below {settings.min_value:g}")))
    rows = (
        raw.with_columns(*cells)
        .with_columns(_left_out=early)
        .with_columns(_reason=pl.when(wanted).then(schema.first_reason(checks)))
        .with_columns(_left_out=pl.coalesce("_left_out", pl.when(pl.col("_reason").is_null()).then(pl.coalesce(*late))))
    )
    weight = kind.replace_strict(settings.events, return_dtype=pl.Float32) if settings.events else pl.lit(1, pl.Float32)
    good = rows.filter(wanted & pl.col("_reason").is_null()).select(
        FILE,
        ROW,
        user_id="_user_id",
        item="_item",
        time="_timestamp",
        kind=kind.cast(pl.Categorical),
        weight=weight,
        target=kind.is_in(settings.targets) if settings.targets else pl.lit(True),
        not_finite=~pl.col("_value").is_finite(),
    )
    named = schema.quarantined([check.column for check in checks])
    # An id that was refused is no user's: 3.5 is not user 3.
    whose = pl.when(pl.col("column").ne_missing("user_id")).then(pl.col("user_id").cast(pl.String))
    bad = rows.filter(pl.col("_reason").is_not_null()).select(*named, user_id="_user_id").with_columns(user_id=whose)
    left_out = rows.filter(~wanted).group_by("_left_out").len().sort("len", descending=True)
    found = pl.collect_all([good, bad, left_out], engine="streaming")
    return found[0], found[1], found[2]


def _without(forgotten: Tombstones, rows: pl.DataFrame) -> pl.DataFrame:
    """Leave out the rows of forgotten users."""
    ids = rows["user_id"].unique()
    gone = ids.filter(forgotten.hold(ids))
    return rows if gone.is_empty() else rows.filter(~pl.col("user_id").is_in(gone.implode()).fill_null(False))


def rows_of(data: DataConfig, ids: Sequence[str]) -> dict[str, int]:
    """Count the rows, good or not, that the interactions of a config hold of some users. Raises as `load_tables`."""
    source = schema.mapped(read(data.interactions, "interactions"), data.interactions, "interactions")
    with reading(source.files):
        user_id, _ = schema.identifier("user_id", source.frame.collect_schema()["user_id"])
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


def _settle(
    table: Table,
    rows: int,
    bad: pl.DataFrame,
    tolerated: float,
    quarantine: Path,
    files: list[str],
    dropped: dict[str, int],
) -> dict[str, int]:
    """Put the refused rows of a table away and count them; stop where they are too many, or all that there is."""
    if not rows:
        raise DataError(f"{table}: {name_files(files)} has no rows")
    bad = bad.sort("file", "row").cast({"file": pl.String})
    _write_quarantine(bad, quarantine)
    refused = _counted(bad["reason"])
    if bad.height > tolerated * rows:
        shown = [
            f"{file}:{row}: {reason}" + ("" if value is None else f": {value[:100]!r}")
            for file, row, value, reason in bad.head(SHOWN_ROWS).select("file", "row", "value", "reason").iter_rows()
        ]
        raise DataError(
            f"{table}: {bad.height} of {rows} rows were refused ({bad.height / rows:.1%}), and data.tolerated allows "
            f"{tolerated:.1%}. The first:\n  " + "\n  ".join(shown) + f"\nBy reason: {_listed(refused)}. All of them "
            f"are in {quarantine}; mend the file, or raise data.tolerated."
        )
    left = rows - bad.height - sum(dropped.values())
    if not left:
        raise DataError(
            f"{table}: none of the {rows} rows is left; refused: {_listed(refused)}; dropped: {_listed(dropped)}"
        )
    return refused


def _write_quarantine(bad: pl.DataFrame, path: Path) -> None:
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


def _counted(labels: pl.Series) -> dict[str, int]:
    counts = labels.drop_nulls().value_counts(sort=True, name="rows")
    return dict(counts.iter_rows())


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} ({rows})" for reason, rows in counts.items()) or "none"


def _tell_time(time: Any, clock: str) -> str | int:
    return int(time) if clock == "order" else datetime.fromtimestamp(time / 1_000_000, UTC).isoformat()
