"""Read and check the tables of a config."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

from recsys.config import Config, RulesConfig, check_members
from recsys.engine.plan import Plan
from recsys.progress import Progress, quiet
from recsys.ranking.scorers.base import require_packages
from recsys.retrieval.variants import Variants
from recsys.storage import atomic
from recsys.tables.ingest import load_tables
from recsys.tables.split import Split, shuffle_events
from recsys.types import Catalog, Tables

log = logging.getLogger(__name__)


def ingest(config: Config, progress: Progress = quiet) -> Tables:
    """Read and check both tables. Refused rows go to `quarantine/`, the counts to `ingest.json`, in `config.folder`.

    Raises:
        ConfigError: the config names a member, a setting or a column that does not exist, or a source lacks a path.
        DataError: a file is missing or cannot be read, or too many rows are refused (see `recsys.tables`).
    """
    check_members(config)
    require_packages(Plan.of(config).scorer)
    tables = load_tables(config.data, config.folder, progress)
    _describe_variants(tables.catalog, config.rules)
    config.folder.mkdir(parents=True, exist_ok=True)
    atomic.write(config.folder / "ingest.json", json.dumps(tables.report, indent=1, default=str))
    return in_drawn_order(tables, config.split)


def in_drawn_order(tables: Tables, split: Split) -> Tables:
    """With a random holdout, put the events of each user in the order that its seed draws; otherwise change nothing."""
    if split.kind != "random":
        return tables
    return replace(tables, interactions=shuffle_events(tables.interactions, split.seed))


def _describe_variants(catalog: Catalog, rules: RulesConfig) -> None:
    """Say in one line what the column of products means for lists. Raises `ConfigError` where it is missing."""
    variants = Variants.of(catalog, rules.parent)
    if variants is not None:
        products = int(variants.product.max()) + 1
        shown = "a list holds one of each" if rules.variants == "one" else "a list may hold any number of each"
        log.info("variants: %s items are %s products by the column %r: %s (rules.variants: %s)", len(catalog), products,
                 rules.parent, shown, rules.variants)  # fmt: skip
