"""The engine, and other scorers on its very candidates and features, by the library's own path.

The candidates of a query get the scorer's score; all other items score -inf, and nothing fills a short list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from benchmarks.quality.protocols import Task
from recsys.arrays import FloatArray, LongArray
from recsys.config import Config, construct, parse_config
from recsys.engine.embeddings import Embeddings, embed
from recsys.engine.model import Model, Retrieval
from recsys.engine.plan import Plan
from recsys.engine.training import fit_retrieval, scorer_lists
from recsys.progress import quiet
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.scorers.base import Scorer
from recsys.ranking.scorers.mlp import MLP
from recsys.ranking.scorers.registry import SCORERS
from recsys.tables.split import Fold
from recsys.types import Histories

SEED_RECIPE = Path(__file__).parents[2] / "configs" / "seed.yaml"


@dataclass(frozen=True)
class FittedEngine:
    """A fitted model, and the encoder of query texts if it uses them."""

    model: Model
    embeddings: Embeddings

    def score(self, histories: Histories) -> FloatArray:
        context = self.model.retrieval.context(self.embeddings.with_text_vectors(histories))
        dense = np.full((len(histories), context.n_items), -np.inf, dtype=np.float32)
        dense[context.owner, context.item] = self.model.score(context)
        return dense


@dataclass(frozen=True)
class Engine:
    """The engine of the task's config; `scorer` are settings of its scorer that differ."""

    random: ClassVar[bool] = True
    grid: ClassVar[list[dict[str, Any]]] = [
        {},
        {"scorer": {"learning_rate": 0.003}},
        {"scorer": {"hidden": [128, 64]}},
        {"scorer": {"hidden": [32]}},
        {"scorer": {"weight_decay": 0.01}},
        {"scorer": {"members": 6}},
        {"scorer": {"learning_rate": 0.0003}},
    ]

    scorer: Mapping[str, Any] = field(default_factory=dict)

    def fit(self, task: Task, known: Fold, seed: int) -> FittedEngine:
        own = replace(task, config=self.config(task))
        own = replace(own, embeddings=self.embeddings(own))
        scorer = self.built(own.config)
        stage = _stage(own, known, scorer.negatives)
        fitted = scorer.fit(*stage.lists, seed, quiet)
        return FittedEngine(Model(stage.retrieval, stage.featurizer, fitted), own.embeddings)

    def config(self, task: Task) -> Config:
        """Return the config to fit, without the changed settings."""
        return task.config

    def embeddings(self, task: Task) -> Embeddings:
        """Return the vectors that the config needs."""
        return task.embeddings

    def built(self, config: Config) -> Scorer:
        """Return the config's scorer with the settings changed. Raises `ConfigError`."""
        settings = {**config.scorer, **self.scorer}
        return construct(SCORERS, settings.pop("kind"), settings, "scorer")


@dataclass(frozen=True)
class Logistic(Engine):
    """The engine with the listwise logistic regression as scorer, with as many negatives as the MLP."""

    random: ClassVar[bool] = False
    grid: ClassVar[list[dict[str, Any]]] = [{}, *({"scorer": {"c": c}} for c in (0.1, 10, 0.01, 100))]

    def config(self, task: Task) -> Config:
        return task.config.model_copy(update={"scorer": {"kind": "logistic", "negatives": MLP().negatives}})


@dataclass(frozen=True)
class LightGBM(Engine):
    """The engine with the scorer `gbdt`: LightGBM's LambdaRank."""

    grid: ClassVar[list[dict[str, Any]]] = [
        {},
        {"scorer": {"num_leaves": 63}},
        {"scorer": {"num_leaves": 15}},
        {"scorer": {"min_data": 200}},
        {"scorer": {"learning_rate": 0.03}},
        {"scorer": {"l2": 10}},
        {"scorer": {"learning_rate": 0.1}},
        {"scorer": {"num_leaves": 63, "min_data": 200, "l2": 10}},
    ]

    def config(self, task: Task) -> Config:
        return task.config.model_copy(update={"scorer": {"kind": "gbdt"}})


@dataclass(frozen=True)
class Seed(Engine):
    """The recipe of configs/seed.yaml on the data, the cut and the rules of the task."""

    grid: ClassVar[list[dict[str, Any]]] = [
        {},
        {"scorer": {"c": 0.01}},
        {"scorer": {"c": 100}},
        {"scorer": {"negatives": 5}},
        {"scorer": {"negatives": 50}},
    ]

    def config(self, task: Task) -> Config:
        recipe = yaml.safe_load(SEED_RECIPE.read_text(encoding="utf-8"))
        parts = ("embedding", "cold_share", "new_share", "retrievers", "features", "scorer")
        changed = {part: recipe[part] for part in parts}
        changed["embedding"] |= {"model": task.config.embedding.model, "device": task.config.embedding.device}
        return parse_config(task.config.model_dump() | changed, str(SEED_RECIPE))

    def embeddings(self, task: Task) -> Embeddings:
        return embed(task.config.embedding, task.tables.catalog, task.config.vector_folder)


@dataclass(frozen=True)
class _Stage:
    """Everything but the scorer, and what the scorer learns from: features, offsets, labels."""

    lists: tuple[FloatArray, LongArray, FloatArray]
    retrieval: Retrieval
    featurizer: Featurizer


_kept: dict[tuple[object, ...], _Stage] = {}
STAGES = 2  # the validation cut and the test cut


def _stage(task: Task, known: Fold, negatives: int) -> _Stage:
    """Fit everything but the scorer, or return it from an earlier call that differed only in the scorer.

    The seed is that of the config; the benchmark's seeds are the scorer's.
    """
    # Cuts nest, each with fewer events than the one after it: the count names the cut.
    key = (task.name, task.config.model_dump_json(exclude={"scorer"}), len(known.known), negatives)
    if key not in _kept:
        if len(_kept) == STAGES:
            _kept.pop(next(iter(_kept)))
        state, plan = task.state(known), Plan.of(task.config)
        _kept[key] = _Stage(
            scorer_lists(plan, known.known, task.embeddings, negatives, known.as_of),
            fit_retrieval(plan, state),
            Featurizer.fit(plan.features, state),
        )
    return _kept[key]
