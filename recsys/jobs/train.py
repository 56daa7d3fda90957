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
from recsys.engine.index_quality import figures
from recsys.engine.model import Model
from recsys.engine.training import present
from recsys.jobs.ingest import end_of, ingest
from recsys.progress import Progress, quiet
from recsys.types import Tables


def train(config: Config, progress: Progress = quiet) -> Path:
    """Fit on everything and publish a bundle under `config.folder`; return the folder of the new version.

    Raises `ArtifactError` where another process is at it there already.
    """
    with write_lock(config.folder):
        tables = ingest(config)
        embeddings = embed(config, tables.catalog)
        as_of = end_of(tables, config)
        started = time.monotonic()
        model, probability, cost = fit_calibrated(config, tables.interactions, embeddings, as_of, progress)
        about = {"seconds": {"fit": round(time.monotonic() - started, 1)}, "probability": probability}
        about |= {"indexes": cost}
        return publish(config, tables, embeddings, model, about)


def publish(config: Config, tables: Tables, embeddings: Embeddings, model: Model, about: Mapping[str, Any]) -> Path:
    """Publish a model fitted on all of the tables; `about` may hold what its `indexes` cost."""
    known = tables.interactions
    users = np.arange(known.n_users)
    moments = present(known, end_of(tables, config))
    histories = embeddings.with_text_vectors(known.histories(users, moments))
    window = {"first": int(known.time.min()), "last": int(known.time.max()), "clock": tables.clock}
    counts = {"users": known.n_users, "items": len(tables.catalog), "events": len(known)}
    cost = about.get("indexes", {})
    indexes = {name: told | cost.get(name, {}) for name, told in figures(model.retrieval).items()}
    return save(config.folder, config, model, embeddings, tables.user_ids, histories,
                {"data_window": window, "counts": counts, **about, "indexes": indexes})  # fmt: skip
