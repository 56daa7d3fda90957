"""A batch under conditions: the lists of `recommend`, user by user, with their probabilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from random_bundles import random_bundle

from recsys import Recommender

CONDITIONS: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "nothing": lambda ids: {},
    "where": lambda ids: {"where": "u < 0.3"},
    "candidates": lambda ids: {"candidates": ids[10:50:2]},
    "exclude": lambda ids: {"exclude": ids[:20], "where": "stock > 0"},
    "caps": lambda ids: {"caps": {"brand": 1, "stock": 4}},
    "diversity": lambda ids: {"diversity": 0.7},
    "boosts": lambda ids: {"boosts": {ids[30]: 5.0, ids[31]: -5.0, ids[2]: 1.0}},
    "pins": lambda ids: {"pinned": [ids[7], ids[3], ids[55]], "where": "u > 0.1"},
    "everything": lambda ids: {
        "where": "u < 0.9", "exclude": ids[:3], "caps": {"brand": 2}, "pinned": [ids[20], ids[21], ids[1]],
        "boosts": {ids[25]: 3.0}, "diversity": 0.4, "candidates": ids[:55],
    },
    "gone": lambda ids: {"exclude": ["gone"], "pinned": ["gone", ids[5]], "boosts": {"gone": 1.0}, "unknown": "ignore"},
    "all variants": lambda ids: {"variants": "all", "where": "u < 0.8"},
}  # fmt: skip


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Brands are products here, so that a list holds one item of each."""
    return random_bundle(tmp_path_factory.mktemp("variants"), 61, 30, rules={"parent": "brand", "seen": "drop"})


def compare(recommender: Recommender, k: int, conditions: dict[str, Any]) -> None:
    batch = recommender.recommend_batch(k=k, **conditions)
    for user, rows in batch.partition_by("user_id", as_dict=True, include_key=False).items():
        alone = recommender.recommend(user[0], k, **conditions)
        assert rows["item_id"].to_list() == [item.item_id for item in alone], user
        assert rows["rank"].to_list() == list(range(1, len(alone) + 1))
        np.testing.assert_allclose(rows["score"], [item.score for item in alone], rtol=2e-4, atol=2e-4)
        own = [np.nan if item.probability is None else item.probability for item in alone]
        np.testing.assert_allclose(rows["probability"].cast(pl.Float64).fill_null(np.nan), own, rtol=1e-3, atol=1e-6)
        sources = ["" if item.pinned and not item.sources else "+".join(item.sources) for item in alone]
        shown = [source if source != "popularity_fill" else "" for source in rows["source"].to_list()]
        assert shown == [source if source != "popularity_fill" else "" for source in sources]


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("k", [4, 30])
def test_a_batch_is_recommend_for_each_user(small: Recommender, variants: Recommender, name: str, k: int) -> None:
    for recommender in (small, variants):
        compare(recommender, k, CONDITIONS[name](recommender.catalog.ids.to_list()))


def test_probabilities_under_a_filter_are_those_of_recommend(recommender: Recommender) -> None:
    """A share among what a filter left would be too high."""
    users = recommender.user_ids.to_list()[:40]
    batch = recommender.recommend_batch(users, 5, where="price <= 15")
    assert batch["probability"].null_count() < len(batch)
    for user in users[::8]:
        alone = recommender.recommend(user, 5, where="price <= 15")
        np.testing.assert_allclose(
            batch.filter(pl.col("user_id") == user)["probability"].cast(pl.Float64).fill_null(np.nan),
            [np.nan if item.probability is None else item.probability for item in alone], rtol=1e-3,
        )  # fmt: skip
    free = recommender.recommend_batch(users, 344).select("user_id", "item_id", "probability")
    both = batch.join(free, on=["user_id", "item_id"], suffix="_free").drop_nulls()
    np.testing.assert_allclose(both["probability"], both["probability_free"], rtol=1e-3)


def test_the_path_of_a_batch_holds_exactly_k(recommender: Recommender, tmp_path: Path) -> None:
    batch = recommender.recommend_batch(k=20, where="price <= 30", caps={"brand": 3}, exclude=["i001"], diversity=0.2)
    assert batch.group_by("user_id").len()["len"].to_list() == [20] * 600
    price = dict(zip(recommender.catalog.ids, recommender.catalog.frame["price"], strict=True))
    assert all(price[item] <= 30 for item in batch["item_id"].unique())
    assert "i001" not in batch["item_id"].to_list()
