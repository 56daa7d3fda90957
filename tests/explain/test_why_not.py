"""At which stage an item was lost, and what it would have taken."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from explaining import USER, USERS, adding
from worlds import DAY, asks, catalog_of, checkerboard, log_of, random_vectors, retrieval_of, shop_state, state_of

from recsys import Recommender
from recsys.engine.model import Model
from recsys.errors import UnknownIdError
from recsys.explain.explanation import (
    DISPLACED,
    IN_THE_LIST,
    KEPT_OUT,
    NOT_RETRIEVED,
    RANKED_BELOW,
    SEEN,
    Reach,
    WhyNot,
    why_not,
)
from recsys.ranking.feature_context import Context
from recsys.ranking.featurizer import Featurizer
from recsys.retrieval.covisitation import Covisitation
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.semantic import Semantic
from recsys.types import Candidates, Histories, Ranking


def lost(model: Model, context: Context, ranking: Ranking, item: int, k: int) -> WhyNot:
    return why_not(model, catalog_of(context.n_items), context, ranking, item, k, {SEEN: context.blocked_pairs})


def test_each_place_told_is_the_k_that_shows_the_item(recommender: Recommender) -> None:
    for user in USERS[:4]:
        candidates = [item for item in recommender.recommend(user, 344).items if item.sources]
        for item in candidates[::7]:
            why = recommender.why_not(user, item.item_id, 5)
            assert (why.rank, why.score, why.sources) == (item.rank, item.score, item.sources)
            assert why.candidates == len(candidates)
            assert why.stage == (IN_THE_LIST if item.rank <= 5 else RANKED_BELOW)
            assert recommender.why_not(user, item.item_id, why.rank).stage == IN_THE_LIST
            assert recommender.recommend(user, why.rank).items[-1].item_id == item.item_id
            if why.rank > 1:
                assert recommender.why_not(user, item.item_id, why.rank - 1).stage == RANKED_BELOW
            assert why.retrievers == {}


def test_the_gap_is_what_the_kth_has_more(recommender: Recommender) -> None:
    listed = recommender.recommend(USER, 40).items
    why = recommender.why_not(USER, listed[30].item_id, 10)
    assert why.kth is not None
    assert (why.kth.item_id, why.kth.title, why.kth.score) == (
        listed[9].item_id, listed[9].title, listed[9].score)  # fmt: skip
    assert sum(why.gap.values()) == pytest.approx(why.kth.score - why.score, abs=1e-4)
    rival, own = recommender.explain(USER, [listed[9].item_id, listed[30].item_id])
    for name, amount in why.gap.items():
        assert amount == pytest.approx(rival.contributions[name] - own.contributions[name], abs=1e-9)
    first = next(name for name, amount in why.gap.items() if amount > 0)
    assert why.text.startswith("It is a candidate (proposed by ")
    assert f"but at place 31 of {why.candidates} with score {why.score:.3f}. At place 10 stands" in why.text
    assert f"{listed[9].title} with score {listed[9].score:.3f}, ahead most by {first} +" in why.text
    inside = recommender.why_not(USER, listed[3].item_id, 10)
    assert (inside.kth, inside.gap) == (None, {})
    assert inside.text.startswith("It is in the list, at place 4: proposed by ")


def test_each_depth_told_makes_the_item_a_candidate(recommender: Recommender) -> None:
    retrieval, ids = recommender._model.retrieval, recommender.catalog.ids
    places: dict[str, list[int | None]] = {name: [] for name in retrieval.proposers}
    for user in ("u000", "u029", "nobody"):
        histories = recommender._lookup.histories(np.array([recommender._lookup.user_row(user, False)]))
        candidates = set(ids.gather(retrieval.context(histories).item))

        def found(name: str, depth: int, histories: Histories = histories) -> list[object]:
            return ids.gather(replace(retrieval, depths={name: depth}).context(histories).item).to_list()

        for item in [item for item in ids if item not in candidates][::29]:
            why = recommender.why_not(user, item)
            assert (why.stage, why.sources) == (NOT_RETRIEVED, {})
            assert why.score == pytest.approx(recommender.score(user, [item])["score"].item(), abs=1e-4)
            for name, reach in why.retrievers.items():
                assert reach.depth == retrieval.depths[name]
                places[name].append(reach.place)
                if reach.place is None:
                    assert item not in found(name, 344)
                    assert f"{name}: never, at any depth" in why.text
                else:
                    assert reach.place > reach.depth
                    assert item in found(name, reach.place)
                    assert item not in found(name, reach.place - 1) or name == "popularity"  # many items are equals
                    assert reach.edge is not None
                    assert reach.score <= reach.edge + 1e-5
                    assert f"{name}: at place {reach.place} of {reach.depth} asked for" in why.text
    assert all(any(place for place in places[name]) for name in ("semantic", "covisitation", "popularity"))
    assert all(None in places[name] for name in ("semantic", "covisitation", "repeat"))


def test_the_depth_told_is_enough_among_equal_texts() -> None:
    """FAISS puts equals in another order when it looks deeper."""
    vectors = np.repeat(random_vectors(40), 10, axis=0)
    state = state_of(checkerboard().state.interactions, 400, vectors=vectors)
    retrieval = retrieval_of(state, semantic=Semantic(depth=5))
    model = Model(retrieval, Featurizer.fit(["scores"], state), adding(1))
    histories = asks([[0, 17]])
    context = retrieval.context(histories)
    ranking = model.order(context, model.score(context), 5)
    for item in range(1, 400, 13):
        why = lost(model, context, ranking, item, 5)
        if why.stage == NOT_RETRIEVED:
            place = why.retrievers["semantic"].place
            assert place is not None
            assert place % 10 == 0, "ten items share each text"
            for depth, expected in [(place, True), (place - 10, False)]:
                deeper = replace(retrieval, depths={"semantic": depth}).context(histories)
                assert (item in deeper.item) is expected


def seen_world(drop_seen: bool) -> tuple[Model, Histories]:
    world = checkerboard()
    retrieval = retrieval_of(world.state, drop_seen=drop_seen, covisitation=Covisitation(depth=2),
                             popularity=Popularity(depth=1))  # fmt: skip
    return Model(retrieval, Featurizer.fit(["scores"], world.state), adding(2)), asks([[0, 2, 0]], as_of=9 * DAY)


def test_what_the_user_had_is_lost_to_the_rule() -> None:
    stages = {}
    for drop_seen in (True, False):
        model, histories = seen_world(drop_seen)
        context = model.retrieval.context(histories)
        ranking = model.order(context, model.score(context), 12)
        why = lost(model, context, ranking, 2, 12)
        stages[drop_seen] = why.stage
        if drop_seen:
            assert 2 not in ranking.item
            assert (why.sources, why.retrievers) == ({}, {})
            assert why.text.startswith("The user had it before, and the config says `rules: {seen: drop}`. Had it been")
            assert f"a candidate, it would stand at place {why.rank} of {len(context.item) + 1}" in why.text
    assert stages == {True: SEEN, False: IN_THE_LIST}


@pytest.mark.parametrize("stage", KEPT_OUT)
def test_what_a_rule_keeps_out_is_lost_there(stage: str) -> None:
    model, histories = seen_world(False)
    context = model.retrieval.context(histories)
    candidates = context.candidates
    kept = candidates.item != 2  # as a rule does that bars item 2
    fewer = Candidates(np.array([0, kept.sum()]), candidates.item[kept], candidates.found[kept])
    barred = replace(context, candidates=fewer)
    ranking = model.order(barred, model.score(barred), 1)
    rules = {name: np.array([0, 2] if name == stage else [4]) for name in KEPT_OUT}
    why = why_not(model, catalog_of(12), barred, ranking, 2, 1, rules)
    assert (why.stage, why.candidates) == (stage, len(candidates.item))
    assert why.score == pytest.approx(model.score(context)[candidates.item.tolist().index(2)], abs=1e-6)
    assert why.text.startswith(f"{KEPT_OUT[stage]} Had it been a candidate, it would stand at place {why.rank} of ")


def test_what_a_list_by_more_than_scores_leaves_out_is_displaced(recommender: Recommender) -> None:
    model = recommender._model
    context = model.retrieval.context(recommender._lookup.histories(np.array([29])))
    whole = model.order(context, model.score(context), 6)
    kept = np.arange(6) != 2  # as a cap does that has no room for the third
    capped = Ranking(np.array([0, 5]), whole.item[kept], whole.score[kept], whole.found[kept])
    why = why_not(model, recommender.catalog, context, capped, int(whole.item[2]), 5, {})
    assert (why.stage, why.rank, why.kth, why.retrievers) == (DISPLACED, 3, None, {})
    assert why.text.startswith(f"It is a candidate at place 3 of {len(context.item)} with score {why.score:.3f}, but")
    last = why_not(model, recommender.catalog, context, capped, int(whole.item[5]), 5, {})
    assert (last.stage, last.rank) == (IN_THE_LIST, 5)


def test_places_count_what_may_be_shown() -> None:
    """Items 0 and 2 lead the popular ones and are barred: they take no place."""
    state = state_of(log_of([(user, item, 0) for item in range(12) for user in range(20 - item)]), 12)
    retrieval = retrieval_of(state, drop_seen=True, popularity=Popularity(depth=3))
    model = Model(retrieval, Featurizer.fit(["scores"], state), adding(1))
    context = retrieval.context(asks([[0, 2]]))
    assert context.item.tolist() == [1, 3, 4]
    ranking = model.order(context, model.score(context), 2)
    why = lost(model, context, ranking, 7, 2)
    assert why.retrievers == {"popularity": Reach(depth=3, place=6, score=13, edge=16)}


def test_what_fills_a_list_is_told() -> None:
    model, histories = seen_world(True)
    context = model.retrieval.context(histories)
    ranking = model.order(context, model.score(context), 10)
    filled = int(ranking.item[-1])
    assert ranking.found[-1].tolist() == [-1, -1]
    why = lost(model, context, ranking, filled, 10)
    assert (why.stage, why.rank, why.sources) == (IN_THE_LIST, 10, {})
    assert why.text == (
        "It is in the list, at place 10: no retriever proposed it; it fills the list, or the request named it."
    )


def test_equals_are_told_apart_by_nothing() -> None:
    state = shop_state()
    retrieval = retrieval_of(state, popularity=Popularity(depth=12))
    model = Model(retrieval, Featurizer.fit(["history_length"], state), adding(1))
    context = retrieval.context(asks([[1]]))
    ranking = model.order(context, model.score(context), 3)
    why = lost(model, context, ranking, 7, 3)
    assert (why.stage, why.rank) == (RANKED_BELOW, 8)
    assert why.text.endswith("At place 3 stands item 2 with score 0.693, with the same features.")


def test_an_item_that_only_retrieval_kept_out() -> None:
    world = checkerboard()
    retrieval = retrieval_of(world.state, popularity=Popularity(depth=4), covisitation=Covisitation(depth=0))
    model = Model(retrieval, Featurizer.fit(["scores"], world.state), adding(2))
    histories = asks([[1, 3]])
    context = retrieval.context(histories)
    ranking = model.order(context, model.score(context), 2)
    why = lost(model, context, ranking, 5, 2)
    assert (why.stage, why.rank, why.kth) == (NOT_RETRIEVED, 1, None)
    assert why.retrievers.keys() == {"popularity"}, "what only scores proposes nothing"
    assert why.text.endswith("Had it been a candidate, it would stand at place 1 of 5 with score "
                              f"{why.score:.3f}. That is within 2.")  # fmt: skip
    place = why.retrievers["popularity"].place
    assert place is not None
    deeper = Model(replace(retrieval, depths={"popularity": place, "covisitation": 0}), model.featurizer, model.scorer)
    assert 5 in deeper.rank(histories, 2).item


def test_why_not_as_json(recommender: Recommender) -> None:
    listed = recommender.recommend(USER, 344).items
    for item in (listed[0], listed[20], listed[-1]):
        why = recommender.why_not(USER, item.item_id)
        read = json.loads(json.dumps(why.to_dict(), allow_nan=False))
        assert (read["stage"], read["rank"], read["text"]) == (why.stage, why.rank, why.text)
        assert read["retrievers"].keys() == why.retrievers.keys()


def test_unknown_ids(recommender: Recommender) -> None:
    with pytest.raises(UnknownIdError, match="1 of 1 items are not in the catalogue of 344: 'x'"):
        recommender.why_not(USER, "x")
    with pytest.raises(UnknownIdError, match="1 of 2 items are not in the catalogue of 344: 'x'"):
        recommender.explain(USER, ["i001", "x"])
    for ask in (lambda: recommender.why_not("nobody", "i001", strict=True),
                lambda: recommender.explain("nobody", ["i001"], strict=True)):  # fmt: skip
        with pytest.raises(UnknownIdError, match="user 'nobody' is not among the 600 users"):
            ask()
    assert recommender.why_not("nobody", "i001").stage in (NOT_RETRIEVED, RANKED_BELOW)


def test_a_request_is_told_which_of_its_own_conditions_kept_an_item_out(recommender: Recommender) -> None:
    usual = [item.item_id for item in recommender.recommend("u029", 5).items]
    price = dict(recommender.catalog.frame.select("item_id", "price").iter_rows())
    first = usual[0]
    assert recommender.why_not("u029", first, 5).stage == "in the list"
    dear = recommender.why_not("u029", first, 5, where=f"price > {price[first]}")
    assert (dear.stage, "The filter of the request keeps it out." in dear.text) == ("filtered", True)
    assert recommender.why_not("u029", first, 5, candidates=usual[1:]).stage == "filtered"
    assert recommender.why_not("u029", first, 5, exclude=[first]).stage == "excluded"
    ahead = recommender.why_not("u029", usual[4], 5, pinned=[recommender.catalog.ids[0]])
    assert (ahead.stage, ahead.rank) == ("displaced", 5)
    assert recommender.why_not("u029", usual[1], 5, boosts={first: 1.0}).stage == "in the list"
    brand = dict(recommender.catalog.frame.select("item_id", "brand").iter_rows())
    same = [item for item in usual[1:] if brand[item] == brand[first]]
    stages = {item: recommender.why_not("u029", item, 5, caps={"brand": 1}).stage for item in same}
    assert set(stages.values()) <= {"displaced"}
