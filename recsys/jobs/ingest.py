"""Read and check the tables of a config."""

from __future__ import annotations

import json
from dataclasses import replace

from recsys.config import Config, check_members
from recsys.engine.plan import Plan
from recsys.ranking.scorers.base import require_packages
from recsys.storage import atomic
from recsys.tables.ingest import load_tables
from recsys.tables.split import Split, shuffle_events
from recsys.types import Tables


def ingest(config: Config) -> Tables:
    """Read and check both tables. Refused rows go to `quarantine/`, the counts to `ingest.json`, in `config.folder`.

    Raises:
        ConfigError: the config names a member, a setting or a column that does not exist, or a source lacks a path.
        DataError: a file is missing or cannot be read, or too many rows are refused (see `recsys.tables`).
    """
    check_members(config)
    require_packages(Plan.of(config).scorer)
    tables = load_tables(config.data, config.folder)
    config.folder.mkdir(parents=True, exist_ok=True)
    atomic.write(config.folder / "ingest.json", json.dumps(tables.report, indent=1, default=str))
    return in_drawn_order(tables, config.split)


def in_drawn_order(tables: Tables, split: Split) -> Tables:
    """With a random holdout, put the events of each user in the order that its seed draws; otherwise change nothing."""
    if split.kind != "random":
        return tables
    return replace(tables, interactions=shuffle_events(tables.interactions, split.seed))
