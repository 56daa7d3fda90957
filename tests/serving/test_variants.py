"""One product in several colours takes one place of a list, unless somebody asks for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from random_bundles import ids_of, random_bundle

from recsys import Recommender
from recsys.artifacts import bundle
from recsys.errors import ArtifactError

N = 300
USERS = range(0, 40, 5)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """300 items of 40 products and some that name none; what a user had of a product keeps all of it out."""
    return random_bundle(tmp_path_factory.mktemp("many"), N, 40, rules={"parent": "brand", "seen": "drop"})


def products(recommender: Recommender, ids: list[object]) -> list[object]:
    brands = dict(zip(recommender.catalog.ids, recommender.catalog.frame["brand"], strict=True))
    return [brands[one] or one for one in ids]


def test_a_list_holds_the_best_variant_of_each_product(many: Recommender) -> None:
    for user in USERS:
        answer = many.recommend(many.user_ids[user], 12)
        own = products(many, ids_of(answer))
        assert len(set(own)) == len(own) == 12
        everything = many.recommend(many.user_ids[user], N, variants="all", candidates=many.catalog.ids)
        best: dict[object, float] = {}
        for item, product in zip(everything, products(many, ids_of(everything)), strict=True):
            best.setdefault(product, item.score)
        for item, product in zip(answer, own, strict=True):
            if len(item.sources) == 4:  # every retriever proposed this very variant; no other is better
                np.testing.assert_allclose(item.score, best[product], atol=0.2)
    flooded = products(many, ids_of(many.recommend(many.user_ids[0], 60, variants="all")))
    assert len(set(flooded)) < len(flooded)


@pytest.mark.parametrize("conditions", [
    {"where": "u < 0.5"}, {"diversity": 0.6}, {"caps": {"stock": 5}}, {"boosts": {}},
    {"where": "u < 0.5", "diversity": 1.0},
])  # fmt: skip
def test_it_holds_under_every_condition_with_exactly_k(many: Recommender, conditions: dict) -> None:
    for user in USERS:
        own = products(many, ids_of(many.recommend(many.user_ids[user], 10, **conditions)))
        assert len(set(own)) == len(own) == 10


def test_candidates_and_pins_of_one_product_are_one_item(many: Recommender) -> None:
    user = many.user_ids[0]
    had = set(products(many, many.history(user)["item_id"].to_list()))
    brand = next(b for b in many.catalog.frame["brand"].drop_nulls().unique(maintain_order=True) if b not in had)
    same = many.catalog.frame.filter(pl.col("brand") == brand)["item_id"].to_list()
    assert len(same) > 1
    answer = many.recommend(user, 5, candidates=same)
    assert len(answer) == 1
    assert answer.shortage is not None
    assert answer.shortage.reason == (
        f"1 of 5 items could be given: the catalogue holds {N} items, {len(same)} of them are candidates, "
        f"{len(same) - 1} have no room beside another variant or under the caps"
    )
    scores = many.score(user, same)
    assert len(scores) == len(same), "who asks for the score of each variant gets it"
    assert answer[0].item_id == scores.sort("score", descending=True)["item_id"][0]
    assert len(many.recommend(user, 5, candidates=same, variants="all")) == min(5, len(same))
    pinned = many.recommend(user, 5, pinned=[same[1], same[0]])
    assert (pinned[0].item_id, len(pinned)) == (same[1], 5)
    assert same[0] not in ids_of(pinned)


def test_who_had_one_variant_is_not_shown_another(many: Recommender, tmp_path: Path) -> None:
    keeping = random_bundle(tmp_path, N, 40, rules={"parent": "brand", "seen": "drop", "seen_variants": "keep"})
    again = 0
    for user in many.user_ids:
        had = many.history(user)["item_id"].to_list()
        own = set(products(many, had))
        assert not own & set(products(many, ids_of(many.recommend(user, N))))
        shown = ids_of(keeping.recommend(user, N))
        assert not set(had) & set(shown)
        again += len(own & set(products(many, shown)))
    assert again > 0
    batch = many.recommend_batch(k=3)
    assert batch.height == 3 * 40


def test_similar_items_and_searches_list_one_of_each(many: Recommender) -> None:
    item = many.catalog.frame.filter(pl.col("brand").is_not_null())["item_id"][0]
    one = products(many, many.similar_items(item, 20)["item_id"].to_list())
    assert len(set(one)) == len(one) == 20
    assert products(many, [item])[0] not in one
    every = many.similar_items(item, N, variants="all")
    assert (len(every), item in every["item_id"].to_list()) == (N - 1, False)
    best: dict[object, str] = {}
    for found, product in zip(every["item_id"], products(many, every["item_id"].to_list()), strict=True):
        best.setdefault(product, found)
    best.pop(products(many, [item])[0], None)
    assert many.similar_items(item, 20)["item_id"].to_list() == list(best.values())[:20]


def test_the_config_says_what_is_the_default(tmp_path: Path) -> None:
    recommender = random_bundle(tmp_path, N, 40, rules={"parent": "brand", "seen": "drop", "variants": "all"})
    own = products(recommender, ids_of(recommender.recommend(recommender.user_ids[0], 60)))
    assert len(set(own)) < len(own)
    one = products(recommender, ids_of(recommender.recommend(recommender.user_ids[0], 20, variants="one")))
    assert len(set(one)) == len(one) == 20


def test_a_bundle_of_a_release_that_knew_no_variants_answers_as_it_did(many: Recommender, tmp_path: Path) -> None:
    loaded = many._bundle
    rules = {"seen": "drop"}
    about = loaded.about | {"config": loaded.about["config"] | {"rules": rules}}
    frame = loaded.tables["catalog"].with_columns(parent=pl.col("brand"))
    old = Recommender.load(bundle.publish(tmp_path, loaded.arrays, {**loaded.tables, "catalog": frame}, about))
    own = products(many, ids_of(old.recommend(old.user_ids[0], 60)))
    assert len(set(own)) < len(own)


def test_a_product_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="names the column 'sku', which the catalogue lacks; it has: item_id"):
        random_bundle(tmp_path, 60, 5, rules={"parent": "sku"})
