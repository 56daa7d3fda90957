"""What a shop's tables look like before anything is learned: columns, activity, time, duplicates, conclusions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import LongArray
from recsys.config import CatalogConfig, Config, InteractionsConfig
from recsys.formatting import instant
from recsys.jobs.defaults import Facts, choose_settings
from recsys.tables.ingest import load_tables
from recsys.tables.profile import SAMPLE_ROWS, ColumnProfile, TableProfile
from recsys.tables.sources.base import Table
from recsys.tables.sources.registry import read
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW, reading
from recsys.types import DAY, Interactions, Tables

# Upper ends of the bands of users and items by number of events; the last band is open.
BANDS = (0, 1, 4, 9, 19, 49, 199)
LONGEST_GAPS = 3
HOUR = DAY // 24
BOT_MOMENTS = 300  # different moments with an event within one hour: one every twelve seconds, for an hour
TOP_SHARE = 0.01  # of the items: how much of the log falls on them


def profile(config: Config, tables: Tables | None = None) -> dict[str, Any]:
    """Profile the tables of a config.

    Args:
        config: The run. As in every run, refused rows go to `quarantine/` in its folder.
        tables: The tables, where the caller has read them.

    Returns:
        Plain data. `tables` by name: `rows`, `sampled`, and `columns`: for each its `name`, `type`, share `missing`,
        number of `distinct` values, `examples`, `most_common` values with their counts, and a `histogram` (of values,
        seconds since 1970, letters or entries). `users` and `items`: `bands` of numbers of events, `most` events of
        one; of items also the share of the events on the most frequent hundredth, `top`. `time`: `first`, `last`,
        `days` and the longest `gaps` without an event; `bots`: the number of `users` with events at so many
        different `moments` within an hour, and their `share` of the events; both empty where only order is known.
        `duplicates`: rows left out as such, and the share of events that repeat an earlier one's user and item,
        `again`. `facts` and `conclusions`: what `recsys init` measures, and the reasons of the settings that it would
        choose, by section.

    Raises:
        ConfigError: as `recsys.jobs.ingest.ingest`.
        DataError: as `recsys.jobs.ingest.ingest`.
    """
    raw = {name: _describe_table(table) for name, table in _open_tables(config)}
    tables = tables or load_tables(config.data, config.folder)
    log, facts = tables.interactions, Facts.of(tables)
    per_user = np.bincount(log.user, minlength=log.n_users)
    per_item = np.sort(np.bincount(log.item, minlength=len(tables.catalog)))[::-1]
    top = max(round(TOP_SHARE * len(per_item)), 1)
    about: Any = tables.report["interactions"]
    return {
        "name": config.name,
        "tables": raw,
        "users": {"bands": _bands(per_user), "most": int(per_user.max())},
        "items": {"bands": _bands(per_item), "most": int(per_item[0]), "top": float(per_item[:top].sum() / len(log))},
        "time": _describe_time(log) if tables.clock == "time" else {},
        "bots": _count_bots(log) if tables.clock == "time" else {},
        "duplicates": {"rows": about["duplicates"], "again": facts.again},
        "facts": dataclasses.asdict(facts) | {"columns": sorted(facts.columns)},
        "conclusions": {name: choice.reason for name, choice in choose_settings(facts).items()},
    }


def _open_tables(config: Config) -> Iterator[tuple[str, TableProfile]]:
    """The head of each table, with its own column names."""
    names: tuple[Table, ...] = ("catalog", "interactions")
    for name in names:
        settings: CatalogConfig | InteractionsConfig | None = getattr(config.data, name)
        if settings is None:
            continue
        source = read(settings, name)
        own = [column for column in source.frame.collect_schema() if column not in (FILE, ROW, REFUSED, DROPPED)]
        with reading(source.files):
            yield (
                name,
                TableProfile.of(
                    name, source.frame.select(own).head(SAMPLE_ROWS).collect(engine="streaming"), config.data.missing
                ),
            )


def _describe_table(table: TableProfile) -> dict[str, Any]:
    columns = [
        {"name": column.name, "type": _type_of(column), "missing": column.missing, "distinct": column.distinct,
         "examples": column.examples, "histogram": column.histogram,
         "most_common": [{"value": value, "count": count} for value, count in column.most_common]}
        for column in table.columns.values()
    ]  # fmt: skip
    return {"rows": table.rows, "sampled": table.sampled, "columns": columns}


def _type_of(column: ColumnProfile) -> str:
    dtype = column.values.dtype
    if not len(column.values):
        return "empty"
    if dtype.is_nested():
        return "list"
    if column.is_time:
        return "time"
    if dtype == pl.Boolean:
        return "true or false"
    if column.is_number:
        return "whole number" if dtype.is_integer() else "number"
    return "text"


def _bands(counts: LongArray) -> dict[str, int]:
    """How many of the counts lie in each band, by its name such as `2-4`."""
    ends = np.searchsorted(BANDS, counts)
    names = [str(high) if high <= 1 else f"{low + 1}-{high}" for low, high in zip((-1, *BANDS), BANDS, strict=False)]
    found = np.bincount(ends, minlength=len(BANDS) + 1)
    return dict(zip([*names, f"{BANDS[-1] + 1}+"], found.tolist(), strict=True))


def _count_bots(log: Interactions) -> dict[str, Any]:
    """Count the users whose pace no person keeps up. What is ordered at one moment is one moment."""
    fresh = np.ones(len(log), dtype=bool)  # the log is sorted by user and time
    fresh[1:] = (np.diff(log.user) != 0) | (np.diff(log.time) != 0)
    user, time = log.user[fresh], log.time[fresh]
    last = np.arange(BOT_MOMENTS - 1, len(user))
    first = last - (BOT_MOMENTS - 1)
    quick = (user[last] == user[first]) & (time[last] - time[first] <= HOUR)
    bots = np.unique(user[last[quick]])
    return {"users": len(bots), "share": float(np.isin(log.user, bots).mean()), "moments": BOT_MOMENTS}


def _describe_time(log: Interactions) -> dict[str, Any]:
    moments = np.sort(log.time)
    steps = np.diff(moments)
    longest = [int(place) for place in np.argsort(-steps, kind="stable")[:LONGEST_GAPS] if steps[place] >= DAY]
    gaps = [
        {"days": float(steps[place] / DAY), "after": instant(int(moments[place]), "time"),
         "before": instant(int(moments[place + 1]), "time")}
        for place in longest
    ]  # fmt: skip
    first, last = int(moments[0]), int(moments[-1])
    return {"first": instant(first, "time"), "last": instant(last, "time"), "days": (last - first) / DAY, "gaps": gaps}
