"""Bundles of random vectors, events and columns, for tests that only send requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from worlds import DAY, catalog_of, log_of, random_vectors

from recsys import Recommender
from recsys.artifacts.persistence import save
from recsys.config import parse_config
from recsys.engine.embeddings import Embeddings
from recsys.engine.model import Model
from recsys.engine.plan import Plan
from recsys.engine.training import fit_retrieval, query_moments
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.scorers.dense import DenseScorer
from recsys.serving.recommendations import Recommendations
from recsys.types import State

RAW = {
    "name": "world",
    "data": {"catalog": {}, "interactions": {"events": {"view": 1, "buy": 4}}},
    "split": {"kind": "leave_last_out"},
    "retrievers": {"semantic": {"depth": 30}, "covisitation": {"depth": 30}, "popularity": {"depth": 10},
                   "repeat": {"depth": 5}},
    "features": ["scores", "ranks", "found_by", "log_popularity", "best_match", "category_share", "brand_last",
                 "price_gap", "history_length"],
    "scorer": {"kind": "logistic"},
}  # fmt: skip


def random_bundle(folder: Path, n_items: int, n_users: int, dims: int = 16, **changes: object) -> Recommender:
    """Publish a bundle of random vectors, events and columns, with random weights for its scorer, and load it."""
    config = parse_config(RAW | changes)
    rng = np.random.default_rng(n_items)
    # Popular items are few, and each user keeps to a part of the catalogue, so that co-visitation finds something.
    user = np.repeat(np.arange(n_users), rng.integers(1, 40, n_users))
    item = (np.minimum(rng.pareto(0.7, len(user)) * n_items / 200, n_items - 1).astype(int) * 7 + user % 5) % n_items
    rows = list(zip(user.tolist(), item.tolist(), rng.integers(0, 300 * DAY, len(user)).tolist(),
                    rng.choice([1.0, 4.0], len(user)).tolist(), strict=True))  # fmt: skip
    log = log_of(rows, n_users)
    part = rng.integers(0, 5, n_items)
    catalog = catalog_of(
        n_items,
        category=[f"Home > {p}" if p else None for p in part],
        brand=[None if b == 9 else f"b{b}" for b in rng.integers(0, 40, n_items).tolist()],
        price=np.where(rng.random(n_items) < 0.05, np.nan, rng.gamma(2, 10, n_items)).tolist(),
        u=rng.permutation(n_items) / n_items,
        stock=[None if s == 3 else s for s in rng.integers(0, 6, n_items).tolist()],
        fresh=[None if f == 2 else bool(f) for f in rng.integers(0, 3, n_items).tolist()],
    )
    vectors = random_vectors(n_items, dims)
    state = State(catalog, log, vectors)
    retrieval, featurizer = fit_retrieval(Plan.of(config), state), Featurizer.fit(config.features, state)
    histories = log.histories(np.arange(n_users), query_moments(log, None))
    some = featurizer.compute(retrieval.context(histories.select(np.arange(min(n_users, 50)))))
    weight = rng.normal(size=(1, some.shape[1], 1)).astype(np.float32)
    scale = np.where(some.std(axis=0) > 1e-6, some.std(axis=0), 1)
    scorer = DenseScorer(some.mean(axis=0), scale, [weight], [np.zeros((1, 1), np.float32)])
    users = pl.Series("user_id", [f"u{number:05d}" for number in range(n_users)])
    about = {"data_window": {"first": 0, "last": int(log.time.max()), "clock": "time"}}
    model = Model(retrieval, featurizer, scorer)
    return Recommender.load(save(folder, config, model, Embeddings(vectors, catalog), users, histories, about))


def ids_of(answer: Recommendations) -> list[object]:
    """Return the item ids of an answer, in order."""
    return [item.item_id for item in answer.items]
