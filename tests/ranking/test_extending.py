"""The worked examples of docs/extending.md: a scorer, a feature and a metric, each in one file, through every door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from example_feature import PRICE_LEVEL
from example_metric import average_precision
from example_scorer import Discriminant
from members import add_member
from shops import write_shop_config

from recsys import Recommender, evaluate, train
from recsys.config import load_config
from recsys.evaluation.metrics import METRICS
from recsys.explain import phrases
from recsys.ranking.features import FEATURES
from recsys.ranking.scorers.registry import SCORERS


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_member(monkeypatch, SCORERS, Discriminant.name, Discriminant)
    add_member(monkeypatch, FEATURES, PRICE_LEVEL.name, PRICE_LEVEL)
    add_member(monkeypatch, METRICS, average_precision.__name__, average_precision)
    return write_shop_config(
        tmp_path,
        tiny_model,
        features=["scores", "ranks", "log_popularity", "price_level"],
        scorer={"kind": "discriminant", "ridge": 0.01},
        probabilities=False,
    )


def test_a_bundle_with_the_examples_serves_and_explains(config: Path) -> None:
    recommender = Recommender.load(train(load_config(config)))
    item = recommender.recommend("u029", explain=True).items[0]
    found = recommender.explain("u029", [item.item_id])[0]
    assert "price_level" in found.contributions
    assert found.base + sum(found.contributions.values()) == pytest.approx(found.score, abs=1e-4)
    assert phrases.why({"price_level": 1.0}, None, recommender.config) == "price level"


def test_the_examples_rank_better_than_popularity(config: Path) -> None:
    metrics = evaluate(load_config(config))["metrics"]
    assert metrics["engine"]["average_precision@10"] > metrics["popularity"]["average_precision@10"] > 0


def test_average_precision_by_hand() -> None:
    hits = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], bool)
    assert average_precision(hits, np.array([2, 5, 1]), 3).tolist() == [(1 + 2 / 3) / 2, 0, 1 / 2]
    assert average_precision(hits, np.array([2, 5, 1]), 1).tolist() == [1, 0, 0]
