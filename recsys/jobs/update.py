"""A new bundle from a published one and grown tables: what was learnt is kept, what is counted is counted again."""

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
from recsys.config import Config, parse_config
from recsys.embedding.store import VectorStore
from recsys.embedding.texts import item_texts
from recsys.engine.embeddings import Embeddings, TextSpace
from recsys.engine.training import build_retrievers, fit_retrieval
from recsys.errors import ConfigError
from recsys.jobs.ingest import end_of, ingest
from recsys.jobs.train import publish
from recsys.ranking.featurizer import Featurizer
from recsys.retrieval import tower_network
from recsys.retrieval.tower import Tower
from recsys.types import Catalog, State, Tables

log = logging.getLogger(__name__)

# What may differ from the run that trained: where the tables lie, how they are judged, on which machine.
# An encoder is known by its fingerprint.
FREE = {
    "name",
    "output",
    "evaluation",
    "data.catalog",
    *(f"data.{name}" for name in ("timezone", "day_first", "missing", "tolerated", "unknown_items")),
    *(f"embedding.{name}" for name in ("encoder", "model", "pooling", "device", "precision", "max_tokens",
                                       "batch_tokens")),
}  # fmt: skip
# Of the events, what they are worth; the other settings, those of a source among them, say how files are read.
LEARNT_FROM = {f"data.interactions.{name}" for name in ("events", "targets", "min_value")}


def update(config: Config) -> Path:
    """Bring the current bundle of `config.folder` up to date with the config's tables; return the new version's folder.

    Statistics, histories and the catalogue are those of the tables, as `train` would make them. Kept is what was
    learnt: whitening, tower, scorer, probabilities. Only texts that the bundle does not know reach the encoder. The
    manifest tells under `update` from which version, and what is new.

    Raises:
        ArtifactError: there is no bundle, another process is at it, or the encoder here is not the one that made its
            vectors.
        ConfigError: settings differ from those that the bundle was trained with.
        DataError: as `train`.
    """
    with versions.locked(config.folder):
        return _update(config)


def _update(config: Config) -> Path:
    loaded = bundle.load(config.folder)
    _check(config, loaded)
    space = restore_space(config, loaded, VectorStore(Path(config.output) / "vectors"))
    tables = ingest(config)
    started = time.monotonic()
    before = Catalog(loaded.tables["catalog"])
    place = _places(before.ids.to_list(), tables.catalog.ids.to_list())
    vectors, encoded = _vectors(config, loaded, tables.catalog, space)
    known, old = place >= 0, loaded.arrays["vectors"]
    changed = int((vectors[known] != old[place[known]]).any(axis=1).sum())
    state = State(tables.catalog, tables.interactions, vectors, end_of(tables, config))
    kept = {
        name: retriever.over(tower_network.moved(loaded.group(f"retrievers/{name}"), old, vectors, place), state)
        for name, retriever in build_retrievers(config).items()
        if isinstance(retriever, Tower)
    }
    model = replace(
        restore(config, loaded),
        retrieval=fit_retrieval(config, state, kept=kept),
        featurizer=Featurizer.fit(config.features, state),
    )
    told = {"from": loaded.version, **_news(loaded, tables, place), "texts": changed, "encoded": encoded}
    log.info("update of %s: %s", loaded.version, told)
    seconds = {"update": round(time.monotonic() - started, 1)}
    about = {"update": told, "seconds": seconds, "probability": loaded.manifest["probability"]}
    return publish(config, tables, Embeddings(vectors, tables.catalog, space, config.embedding), model, about)


def _check(config: Config, loaded: Bundle) -> None:
    """Refuse settings that the learnt parts do not fit."""
    trained = dict(_settings(parse_config(loaded.manifest["config"], str(loaded.path)).model_dump(mode="json")))
    told = dict(_settings(config.model_dump(mode="json")))
    differ = [name for name in {**trained, **told} if trained.get(name) != told.get(name)]
    if differ:
        shown = "; ".join(f"{name} was {trained.get(name)!r} and is {told.get(name)!r}" for name in differ[:5])
        raise ConfigError(
            f"{len(differ)} settings differ from those that bundle {loaded.version} was trained with, and what it "
            f"learnt may not fit: {shown}. Train again: recsys train CONFIG"
        )


def _settings(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings that what is learnt hangs on, by dotted name."""
    for key, value in section.items():
        name = f"{prefix}{key}"
        free = name in FREE or (prefix == "data.interactions." and name not in LEARNT_FROM)
        if isinstance(value, Mapping) and value and not free:
            yield from _settings(value, f"{name}.")
        elif not free:
            yield name, value


def _places(before: list[Any], now: list[Any]) -> LongArray:
    """Where each of the values was, -1 for a new one `(n,)`."""
    place = {value: row for row, value in enumerate(before)}
    return np.fromiter((place.get(value, -1) for value in now), dtype=np.int64, count=len(now))


def _vectors(config: Config, loaded: Bundle, catalog: Catalog, space: TextSpace) -> tuple[FloatArray, int]:
    """The item vectors `(I, d)`, those of known texts from the bundle, and how many texts were encoded."""
    columns, html = config.embedding.text, config.embedding.html
    texts = item_texts(catalog, columns, html)
    place = _places(item_texts(Catalog(loaded.tables["catalog"]), columns, html), texts)
    vectors = np.array(loaded.arrays["vectors"][place])
    new = np.flatnonzero(place < 0)
    if len(new):
        vectors[new] = space.encode([texts[row] for row in new])
    return vectors, len({texts[row] for row in new})


def _news(loaded: Bundle, tables: Tables, place: LongArray) -> dict[str, int]:
    """How many events, users and items are more than the bundle had, and how many of these are gone."""
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
