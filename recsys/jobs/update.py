"""Publish a new bundle from an earlier one and newer tables: learned parts are kept, counts are made again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arrays import FloatArray, LongArray
from recsys.artifacts import bundle, versions
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.persistence import restore, restore_space
from recsys.config import Config, EmbeddingConfig, parse_stored_config
from recsys.embedding.store import VectorStore
from recsys.embedding.texts import item_texts
from recsys.engine.embeddings import Embeddings, TextSpace
from recsys.engine.plan import Plan
from recsys.engine.training import fit_retrieval
from recsys.errors import ConfigError
from recsys.extras import require
from recsys.jobs.ingest import ingest
from recsys.jobs.train import publish
from recsys.ranking.featurizer import Featurizer
from recsys.types import Catalog, State, Tables

log = logging.getLogger(__name__)

# Settings that may differ from the run that trained: where the tables lie, how the engine is judged, on which machine.
# Whether the encoder is the same, its fingerprint says.
FREE = {
    "name",
    "output",
    "evaluation",
    "reviews",
    "data.catalog",
    "data.reviews",
    *(f"data.{name}" for name in ("timezone", "day_first", "missing", "tolerated", "unknown_items")),
    *(f"embedding.{name}" for name in ("encoder", "model", "pooling", "prefix", "device", "precision",
                                       "max_tokens", "batch_tokens")),
}  # fmt: skip
# Of the events, what they are worth; the other settings, those of a source among them, say how files are read.
LEARNED_FROM = {f"data.interactions.{name}" for name in ("events", "targets", "min_value")}


def update(config: Config) -> Path:
    """Bring the current bundle of `config.folder` up to date with the config's tables.

    Statistics, histories and the catalogue are those of the tables, as `train` would make them. What was learned is
    kept: whitening, tower, scorer, probabilities. Only texts that the bundle lacks reach the encoder. The manifest
    says under `update` which version this one comes from, and what is new.

    Args:
        config: The run.

    Returns:
        The folder of the new version.

    Raises:
        ArtifactError: there is no bundle, another process writes to it, or the encoder here is not the one that made
            its vectors.
        ConfigError: settings differ from those that the bundle was trained with.
        DataError: as `train`.
    """
    require("train", "recsys update")
    with versions.write_lock(config.folder):
        return _update(config)


def _update(config: Config) -> Path:
    loaded = bundle.load(config.folder)
    _refuse_other_settings(config, loaded)
    plan = Plan.of(config)
    tables = ingest(config)
    space = restore_space(config, loaded, VectorStore(config.vector_folder))
    started = time.monotonic()
    before = Catalog(loaded.tables["catalog"])
    place = _places(before.ids.to_list(), tables.catalog.ids.to_list())
    vectors, encoded = _item_vectors(config.embedding, loaded, tables.catalog, space)
    known, old = place >= 0, loaded.arrays["vectors"]
    changed = int((vectors[known] != old[place[known]]).any(axis=1).sum())
    state = State(tables.catalog, tables.interactions, vectors, plan.end(tables.interactions))
    kept = {
        name: retriever.carry_over(loaded.group(f"retrievers/{name}"), old, state, place)
        for name, retriever in plan.retrievers.items()
    }
    model = replace(
        restore(config, loaded),
        retrieval=fit_retrieval(plan, state, kept=kept),
        featurizer=Featurizer.fit(plan.features, state),
    )
    changes = {"from": loaded.version, **_count_changes(loaded, tables, place), "texts": changed, "encoded": encoded}
    log.info("update of %s: %s", loaded.version, changes)
    seconds = {"update": round(time.monotonic() - started, 1)}
    about = {"update": changes, "seconds": seconds, "probability": loaded.manifest["probability"]}
    return publish(config, tables, Embeddings(vectors, tables.catalog, space, config.embedding), model, about)


def _refuse_other_settings(config: Config, loaded: Bundle) -> None:
    """Refuse settings that the learned parts do not fit."""
    trained_with = parse_stored_config(loaded.manifest["config"], str(loaded.path))
    then = dict(_settings(trained_with.model_dump(mode="json")))
    now = dict(_settings(config.model_dump(mode="json")))
    differ = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if differ:
        shown = "; ".join(f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in differ[:5])
        raise ConfigError(
            f"{len(differ)} settings differ from those that bundle {loaded.version} was trained with, and what it "
            f"learned may not fit: {shown}. Train again: recsys train CONFIG"
        )


def _settings(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings that learned parts depend on, by dotted name."""
    for key, value in section.items():
        name = f"{prefix}{key}"
        free = name in FREE or (prefix == "data.interactions." and name not in LEARNED_FROM)
        if isinstance(value, Mapping) and value and not free:
            yield from _settings(value, f"{name}.")
        elif not free:
            yield name, value


def _places(before: list[Any], now: list[Any]) -> LongArray:
    """The row where each value stood before `(n,)`, -1 for a new one."""
    place = {value: row for row, value in enumerate(before)}
    return np.fromiter((place.get(value, -1) for value in now), dtype=np.int64, count=len(now))


def _item_vectors(
    settings: EmbeddingConfig, loaded: Bundle, catalog: Catalog, space: TextSpace
) -> tuple[FloatArray, int]:
    """Return the item vectors `(I, d)`, those of known texts from the bundle, and how many texts were encoded."""
    columns, html = settings.text, settings.html
    texts = item_texts(catalog, columns, html)
    place = _places(item_texts(Catalog(loaded.tables["catalog"]), columns, html), texts)
    vectors = np.array(loaded.arrays["vectors"][place])
    new = np.flatnonzero(place < 0)
    if len(new):
        vectors[new] = space.encode([texts[row] for row in new])
    return vectors, len({texts[row] for row in new})


def _count_changes(loaded: Bundle, tables: Tables, place: LongArray) -> dict[str, int]:
    """Count what the tables hold beyond the bundle, and the users and items that they no longer hold."""
    before, now = loaded.tables["users"]["user_id"], tables.user_ids
    same = int((_places(before.to_list(), now.to_list()) >= 0).sum())
    stayed = int((place >= 0).sum())
    return {
        "events": len(tables.interactions) - loaded.manifest["counts"]["events"],
        "users": len(now) - same,
        "items": len(place) - stayed,
        "gone_users": len(before) - same,
        "gone_items": loaded.manifest["counts"]["items"] - stayed,
    }
