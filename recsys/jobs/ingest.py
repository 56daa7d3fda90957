"""Read and check the tables of a config."""

from __future__ import annotations

import json

from recsys.config import Config, nearest
from recsys.engine.training import build_retrievers, build_scorer
from recsys.errors import ConfigError
from recsys.evaluation.baselines import BASELINES
from recsys.ranking.featurizer import check_features
from recsys.ranking.scorers.base import require_packages
from recsys.storage import atomic
from recsys.tables.ingest import load_tables
from recsys.types import Tables


def ingest(config: Config) -> Tables:
    """Read and check both tables; what was refused lies in `quarantine/`, the counts in `ingest.json`.

    Raises `DataError` (see `recsys.tables`), and `ConfigError` as `check` does, before anything is read.
    """
    check(config)
    tables = load_tables(config.data, config.folder)
    config.folder.mkdir(parents=True, exist_ok=True)
    atomic.write(config.folder / "ingest.json", json.dumps(tables.report, indent=1, default=str))
    return tables


def check(config: Config) -> None:
    """Refuse, before any work, what would fail hours into a run: `ConfigError` for a name or setting nobody knows."""
    if config.split.kind == "time" and config.data.clock == "order":
        raise ConfigError("split.kind: time needs timestamps, and data.clock is 'order': use leave_last_out")
    for name, retriever in build_retrievers(config).items():
        if retriever.needs_user_text and not config.embedding.user_text:
            raise ConfigError(
                f"retrievers.{name}.{retriever.needs_user_text} needs encoded behaviour: "
                "set embedding.user_text to true"
            )
    require_packages(build_scorer(config))
    check_features(config.features, config.data.clock, config.embedding.user_text)
    for name in config.evaluation.baselines:
        if name not in BASELINES:
            raise ConfigError(
                f"evaluation.baselines: unknown name {name!r}{nearest(name, BASELINES)}; known: {', '.join(BASELINES)}"
            )


def end_of(tables: Tables, config: Config) -> int | None:
    """The first moment that the tables do not know; None where each user has a moment of their own."""
    return int(tables.interactions.time.max()) + 1 if config.split.kind == "time" else None
