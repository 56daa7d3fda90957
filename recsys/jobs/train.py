"""Fit on everything and publish a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recsys.artifacts.persistence import save
from recsys.artifacts.versions import write_lock
from recsys.config import Config
from recsys.engine.calibration import fit_calibrated
from recsys.engine.embeddings import Embeddings, embed
from recsys.engine.index_quality import describe_indexes
from recsys.engine.model import Model
from recsys.engine.plan import Plan
from recsys.engine.training import query_moments
from recsys.extras import require
from recsys.jobs.cuts import training_cuts
from recsys.jobs.ingest import ingest
from recsys.progress import Progress, quiet
from recsys.types import Tables


def train(config: Config, progress: Progress = quiet) -> Path:
    """Fit on everything and publish a bundle under `config.folder`.

    Args:
        config: The run.
        progress: Shows progress.

    Returns:
        The folder of the new version.

    Raises:
        ArtifactError: another process writes to `config.folder`, or the disk is full.
        ConfigError: a member that the config names is unknown, or refuses its settings.
        DataError: as `ingest`; or the log is too short to learn from.
    """
    require("train", "recsys train")
    with write_lock(config.folder):
        plan = Plan.of(config)
        tables = ingest(config, progress)
        training_cuts(plan, tables.interactions, plan.end(tables.interactions))
        embeddings = embed(config.embedding, tables.catalog, config.vector_folder)
        started = time.monotonic()
        model, probability, costs = fit_calibrated(plan, tables.interactions, embeddings,
                                                   plan.end(tables.interactions), progress)  # fmt: skip
        about = {"seconds": {"fit": round(time.monotonic() - started, 1)}, "probability": probability}
        return publish(config, tables, embeddings, model, about | {"indexes": costs})


def publish(config: Config, tables: Tables, embeddings: Embeddings, model: Model, about: Mapping[str, Any]) -> Path:
    """Publish a model that was fitted on all of the tables.

    Args:
        config: The run, which the manifest stores.
        tables: The tables.
        embeddings: The item vectors.
        model: The model.
        about: What the manifest says besides; under `indexes` what approximate indexes cost, by retriever.

    Returns:
        The folder of the new version.

    Raises:
        ArtifactError: as `train`.
    """
    known = tables.interactions
    users = np.arange(known.n_users)
    moments = query_moments(known, Plan.of(config).end(known))
    histories = embeddings.with_text_vectors(known.histories(users, moments))
    window = {"first": int(known.time.min()), "last": int(known.time.max()), "clock": tables.clock}
    counts = {"users": known.n_users, "items": len(tables.catalog), "events": len(known)}
    versions = {name: report["version"] for name, report in tables.report.items()
                if isinstance(report, Mapping) and "version" in report}  # fmt: skip
    costs = about.get("indexes", {})
    indexes = {name: index | costs.get(name, {}) for name, index in describe_indexes(model.retrieval).items()}
    return save(config.folder, config, model, embeddings, tables.user_ids, histories,
                {"data_window": window, "counts": counts, "table_versions": versions, **about,
                 "indexes": indexes})  # fmt: skip
