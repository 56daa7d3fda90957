"""Explanations: sums that hold, history items that are the reason, and what an item that was lost would have taken."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import DAY, asks, catalog_of, checkerboard, log_of, random_vectors, retrieval_of, shop_state, state_of

from recsys import Recommender
from recsys.engine.model import Model
from recsys.errors import UnknownIdError
from recsys.explain.explanation import (
    DISPLACED,
    IN_THE_LIST,
    KEPT_OUT,
    NEWEST,
    NOT_RETRIEVED,
    RANKED_BELOW,
    SEEN,
    Explanation,
    Reach,
    WhyNot,
    explanations,
    why_not,
)
from recsys.ranking.feature_context import Context
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.scorers.dense import DenseScorer
from recsys.retrieval.covisitation import Covisitation
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic
from recsys.types import Candidates, Histories, Ranking

USER = "u029"
USERS = ["u000", "u029", "u123", "u599", "nobody"]


def network(rng: np.random.Generator, hidden: list[int], members: int, width: int) -> DenseScorer:
    """A scorer with random weights, members and layers."""
    shapes = list(itertools.pairwise([width, *hidden, 1]))
    return DenseScorer(
        rng.normal(size=width).astype(np.float32),
        rng.uniform(0.2, 3, width).astype(np.float32),
        [(rng.normal(size=(members, a, b)) / np.sqrt(a)).astype(np.float32) for a, b in shapes],
        [rng.normal(size=(members, b)).astype(np.float32) for _, b in shapes],
    )


def adding(width: int) -> DenseScorer:
    """A scorer that adds the features."""
    one = np.ones((1, width, 1), np.float32)
    return DenseScorer(np.zeros(width, np.float32), np.ones(width, np.float32), [one], [np.zeros((1, 1), np.float32)])


def explain(model: Model, histories: Histories, items: list[int]) -> list[Explanation]:
    context = model.retrieval.context(histories)
    return explanations(model, catalog_of(context.n_items), histories, context, np.array(items))


def lost(model: Model, context: Context, ranking: Ranking, item: int, k: int) -> WhyNot:
    return why_not(model, catalog_of(context.n_items), context, ranking, item, k, {SEEN: context.blocked_pairs})


# Contributions


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 12), max_size=3),
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from([0.1, 1.0, 100.0]),
)
def test_contributions_of_any_network_sum_to_the_score(
    seed: int, hidden: list[int], members: int, width: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    scorer = network(rng, hidden, members, width)
    x = (size * rng.normal(size=(5, width))).astype(np.float32)
    parts = scorer.contributions(x)
    base = scorer.score(scorer.mean[None])
    sizes = np.abs(parts).sum(axis=1) + np.abs(base)
    assert (np.abs(parts.sum(axis=1) + base - scorer.score(x)) <= 1e-5 * (1 + sizes)).all()
    np.testing.assert_allclose(scorer.contributions(x[3:4]), parts[3:4], atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 6), max_size=2), st.integers(1, 2))
def test_contributions_are_the_integral_of_the_gradient(seed: int, hidden: list[int], members: int) -> None:
    """The oracle walks the path in many small steps and takes the gradient of each by finite differences."""
    rng = np.random.default_rng(seed)
    scorer = network(rng, hidden, members, 3)
    x = rng.normal(size=3).astype(np.float32)
    z = np.clip((x - scorer.mean) / scorer.scale, -10, 10).astype(np.float64)

    def score(z: np.ndarray) -> np.ndarray:
        total = np.zeros(len(z))
        for member in range(members):
            layer = z
            for depth, (weight, bias) in enumerate(zip(scorer.weights, scorer.biases, strict=True)):
                layer = (np.maximum(layer, 0) if depth else layer) @ weight[member].astype(float) + bias[member]
            total += layer[:, 0] / members
        return total

    path = z * ((np.arange(4000) + 0.5) / 4000)[:, None]
    step = 1e-6 * np.eye(3)
    expected = [z[j] * np.mean((score(path + step[j]) - score(path - step[j])) / 2e-6) for j in range(3)]
    np.testing.assert_allclose(scorer.contributions(x[None])[0], expected, atol=0.01)


def test_contributions_of_a_linear_scorer_are_its_terms_and_far_values_are_cut() -> None:
    scorer = network(np.random.default_rng(0), [], 1, 4)
    x = np.array([[1, -2, 3, 1e6]], np.float32)
    z = np.clip((x - scorer.mean) / scorer.scale, -10, 10)
    assert z[0, 3] == 10
    np.testing.assert_allclose(scorer.contributions(x), z * scorer.weights[0][0, :, 0], rtol=1e-6)


@pytest.mark.parametrize("user", USERS)
def test_an_explanation_sums_to_the_score_of_the_list(recommender: Recommender, user: str) -> None:
    listed = recommender.recommend(user, 12, explain=True).items
    outside = [i for i in recommender.catalog.ids if i not in {item.item_id for item in listed}][:4]
    asked = [item.item_id for item in listed] + outside
    told = recommender.explain(user, asked)
    scored = recommender.score(user, asked)["score"]
    assert [one.item_id for one in told] == asked
    for one, score in zip(told, scored, strict=True):
        assert one.score == pytest.approx(score, abs=1e-4)
        parts = list(one.contributions.values())
        assert one.base + sum(parts) == pytest.approx(one.score, abs=1e-5 * (1 + np.abs(parts).sum()))
        assert np.abs(parts).tolist() == sorted(np.abs(parts), reverse=True)
    model = recommender._model
    names = model.featurizer.names(model.retrieval.context(recommender._known.histories(np.array([29]))))
    assert {frozenset(one.contributions) for one in told} == {frozenset(names)}
    for one, item in zip(told, listed, strict=False):
        if item.sources:
            assert (one.score, one.sources) == (item.score, item.sources)
            assert list(one.contributions)[:3] == list(item.reasons)
            np.testing.assert_allclose(list(one.contributions.values())[:3], list(item.reasons.values()))


def test_explanations_come_in_the_order_asked(recommender: Recommender) -> None:
    listed = [item.item_id for item in recommender.recommend(USER, 3).items]
    outside = recommender.recommend(USER, 344).items[-1].item_id
    asked = [listed[1], outside, listed[0], listed[1]]
    told = recommender.explain(USER, asked)
    assert [one.item_id for one in told] == asked
    assert told[0] == told[3]
    for one in told:
        (alone,) = recommender.explain(USER, [one.item_id])
        assert replace(alone, because=[], history_effect=0) == replace(one, because=[], history_effect=0)
        effects = [{i.item_id: i.effect for i in told.because} for told in (alone, one)]
        assert effects[0] == pytest.approx(effects[1], abs=1e-4)
        assert alone.history_effect == pytest.approx(one.history_effect, abs=1e-4)
    assert recommender.explain(USER, []) == []


def test_an_explanation_as_json(recommender: Recommender) -> None:
    (told,) = recommender.explain(USER, ["i001"])
    read = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert read["because"][0] == {
        "item_id": told.because[0].item_id,
        "title": told.because[0].title,
        "effect": told.because[0].effect,
    }
    assert read["contributions"] == told.contributions


# The history


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 5), st.integers(0, 3))
def test_the_only_history_item_of_a_taste_is_the_reason(ring: list[int], black: int, at: int) -> None:
    """No statistic joins the colours: a black candidate of a white history that holds one black item is due to that."""
    world = checkerboard()
    history = [2 * i for i in ring[:3]]
    history.insert(at, 2 * black + 1)
    retrieval = retrieval_of(world.state, semantic=Semantic(depth=12), covisitation=Covisitation(depth=12))
    model = Model(retrieval, Featurizer.fit(["scores"], world.state), adding(2))
    context = retrieval.context(asks([history]))
    blacks = [int(i) for i in context.item if i % 2]
    assert len(blacks) >= 4
    for one in explain(model, asks([history]), blacks):
        assert one.because[0].item_id == f"i{2 * black + 1}"
        assert one.because[0].effect > 0
        assert all(influence.effect <= 1e-5 for influence in one.because[1:])
        assert {influence.item_id for influence in one.because} == {f"i{item}" for item in history}


def test_a_history_item_that_is_the_very_item_is_the_reason_to_buy_again() -> None:
    state = shop_state()
    retrieval = retrieval_of(state, repeat=Repeat(depth=9), popularity=Popularity(depth=9))
    model = Model(retrieval, Featurizer.fit(["own_count"], state), adding(1))
    for item, one in zip([3, 5], explain(model, asks([[5, 3, 5, 7]]), [3, 5]), strict=True):
        assert one.because[0].item_id == f"i{item}"
        # Its own count falls from log(1 + n) to 0, and with it the log odds against the others, which stay.
        assert one.because[0].effect == pytest.approx(np.log(3 if item == 5 else 2), abs=1e-5)


FEATURES = ["scores", "ranks", "found_by", "best_match", "history_length", "own_count", "own_recency", "category_share"]


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 5)), min_size=1, max_size=9),
    st.booleans(),
    st.sampled_from([4, 200]),
    st.booleans(),
)
def test_effects_are_those_of_asking_again_without_the_item(
    seed: int, events: list[tuple[int, int]], drop_seen: bool, newest: int, text: bool
) -> None:
    """Against a plain loop that forgets one item after the other and looks at the same candidates."""
    state = shop_state()
    rng = np.random.default_rng(seed)
    retrieval = replace(
        retrieval_of(state, drop_seen=drop_seen, semantic=Semantic(depth=4, query="text"),
                     covisitation=Covisitation(depth=4), popularity=Popularity(depth=3), repeat=Repeat(depth=2)),
        history=newest,
    )  # fmt: skip
    featurizer = Featurizer.fit(FEATURES, state)
    vector = random_vectors(1, seed=seed % 100) if text else None
    events = sorted(events, key=lambda event: event[1])
    histories = asks([events], as_of=7, text=vector)
    context = retrieval.context(histories)
    model = Model(retrieval, featurizer, network(rng, [6, 4], 2, featurizer.compute(context).shape[1]))

    def log_odds(events: list[tuple[int, int]]) -> np.ndarray:
        other = asks([events], as_of=7, text=vector if events else None if vector is None else 0 * vector)
        other = other.newest(newest)
        answers = retrieval.ask(other)
        found = context.candidates.found.copy()
        for column, hits in enumerate(retrieval.hits(answers, context.blocked_pairs)):
            places = {int(item): place for place, item in enumerate(hits.item)}
            found[:, column] = [places.get(int(item), -1) for item in context.item]
        candidates = replace(context.candidates, found=found)
        score = model.score(replace(context, histories=other, answers=answers, candidates=candidates)).astype(float)
        share = np.exp(score - score.max())
        return np.array([np.log(s) - np.log(share.sum() - s) for s in share])

    whole = log_odds(events)
    told = explain(model, histories, context.item.tolist())
    had = {item for item, _ in events[-newest:]}
    assert {i.item_id for i in told[0].because} == {f"i{item}" for item in had}
    for item in had:
        effect = whole - log_odds([event for event in events if event[0] != item])
        got = [next(i.effect for i in one.because if i.item_id == f"i{item}") for one in told]
        np.testing.assert_allclose(got, effect, atol=1e-3)
    np.testing.assert_allclose([one.history_effect for one in told], whole - log_odds([]), atol=1e-3)
    for one in told:
        effects = [influence.effect for influence in one.because]
        assert effects == sorted(effects, reverse=True)


def test_the_newest_history_items_are_told() -> None:
    state = state_of(checkerboard().state.interactions, 60)
    model = Model(retrieval_of(state, popularity=Popularity()), Featurizer.fit(["history_length"], state), adding(1))
    history = [*range(20, 50), 45]
    (told,) = explain(model, asks([history]), [0])
    assert {i.item_id for i in told.because} == {f"i{item}" for item in range(50 - NEWEST, 50)}
    # Every candidate has the same history length, so nothing moves one against the rest.
    assert [i.effect for i in told.because] == pytest.approx([0] * NEWEST, abs=1e-5)
    assert told.because[0].item_id == "i45", "equal effects: the newest first"


def test_the_very_item_is_told_however_old() -> None:
    state = state_of(checkerboard().state.interactions, 60)
    retrieval = retrieval_of(state, repeat=Repeat(depth=60), popularity=Popularity())
    model = Model(retrieval, Featurizer.fit(["own_count"], state), adding(1))
    for item, one in zip([3, 1, 39], explain(model, asks([[*range(40)]]), [3, 1, 39]), strict=True):
        newest = {f"i{other}" for other in range(40 - NEWEST, 40)}
        assert {i.item_id for i in one.because} == newest | {f"i{item}"}
        assert one.because[0].item_id == f"i{item}"
        assert one.because[0].effect == pytest.approx(np.log(2), abs=1e-5)


def test_without_history_nothing_is_because_of_it(recommender: Recommender) -> None:
    listed = [item.item_id for item in recommender.recommend("nobody", 3).items]
    for told in recommender.explain("nobody", listed):
        assert (told.because, told.history_effect) == ([], 0)


def test_a_lone_candidate_has_no_rest_to_stand_against() -> None:
    state = shop_state()
    model = Model(retrieval_of(state, repeat=Repeat(depth=1)), Featurizer.fit(["own_count"], state), adding(1))
    (told,) = explain(model, asks([[4]]), [4])
    assert told.because[0].effect == told.history_effect == pytest.approx(np.log(2), abs=1e-6)


# Why not


def test_each_place_told_is_the_k_that_shows_the_item(recommender: Recommender) -> None:
    for user in USERS[:4]:
        candidates = [item for item in recommender.recommend(user, 344).items if item.sources]
        for item in candidates[::7]:
            told = recommender.why_not(user, item.item_id, 5)
            assert (told.rank, told.score, told.sources) == (item.rank, item.score, item.sources)
            assert told.candidates == len(candidates)
            assert told.stage == (IN_THE_LIST if item.rank <= 5 else RANKED_BELOW)
            assert recommender.why_not(user, item.item_id, told.rank).stage == IN_THE_LIST
            assert recommender.recommend(user, told.rank).items[-1].item_id == item.item_id
            if told.rank > 1:
                assert recommender.why_not(user, item.item_id, told.rank - 1).stage == RANKED_BELOW
            assert told.retrievers == {}


def test_the_gap_is_what_the_kth_has_more(recommender: Recommender) -> None:
    listed = recommender.recommend(USER, 40).items
    told = recommender.why_not(USER, listed[30].item_id, 10)
    assert told.kth is not None
    assert (told.kth.item_id, told.kth.title, told.kth.score) == (
        listed[9].item_id, listed[9].title, listed[9].score)  # fmt: skip
    assert sum(told.gap.values()) == pytest.approx(told.kth.score - told.score, abs=1e-4)
    rival, own = recommender.explain(USER, [listed[9].item_id, listed[30].item_id])
    for name, amount in told.gap.items():
        assert amount == pytest.approx(rival.contributions[name] - own.contributions[name], abs=1e-9)
    first = next(name for name, amount in told.gap.items() if amount > 0)
    assert told.text.startswith("It is a candidate (proposed by ")
    assert f"but at place 31 of {told.candidates} with score {told.score:.3f}. At place 10 stands" in told.text
    assert f"{listed[9].title} with score {listed[9].score:.3f}, ahead most by {first} +" in told.text
    inside = recommender.why_not(USER, listed[3].item_id, 10)
    assert (inside.kth, inside.gap) == (None, {})
    assert inside.text.startswith("It is in the list, at place 4: proposed by ")


def test_each_depth_told_makes_the_item_a_candidate(recommender: Recommender) -> None:
    retrieval, ids = recommender._model.retrieval, recommender.catalog.ids
    places: dict[str, list[int | None]] = {name: [] for name in retrieval.proposers}
    for user in ("u000", "u029", "nobody"):
        histories = recommender._known.histories(np.array([recommender._known.user(user, False)]))
        candidates = set(ids.gather(retrieval.context(histories).item))

        def found(name: str, depth: int, histories: Histories = histories) -> list[object]:
            return ids.gather(replace(retrieval, depths={name: depth}).context(histories).item).to_list()

        for item in [item for item in ids if item not in candidates][::29]:
            told = recommender.why_not(user, item)
            assert (told.stage, told.sources) == (NOT_RETRIEVED, {})
            assert told.score == pytest.approx(recommender.score(user, [item])["score"].item(), abs=1e-4)
            for name, reach in told.retrievers.items():
                assert reach.depth == retrieval.depths[name]
                places[name].append(reach.place)
                if reach.place is None:
                    assert item not in found(name, 344)
                    assert f"{name}: never, at any depth" in told.text
                else:
                    assert reach.place > reach.depth
                    assert item in found(name, reach.place)
                    assert item not in found(name, reach.place - 1) or name == "popularity"  # many items are equals
                    assert reach.edge is not None
                    assert reach.score <= reach.edge + 1e-5
                    assert f"{name}: at place {reach.place} of {reach.depth} asked for" in told.text
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
        told = lost(model, context, ranking, item, 5)
        if told.stage == NOT_RETRIEVED:
            place = told.retrievers["semantic"].place
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
        told = lost(model, context, ranking, 2, 12)
        stages[drop_seen] = told.stage
        if drop_seen:
            assert 2 not in ranking.item
            assert (told.sources, told.retrievers) == ({}, {})
            assert told.text.startswith(
                "The user had it before, and the config says `rules: {seen: drop}`. Had it been"
            )
            assert f"a candidate, it would stand at place {told.rank} of {len(context.item) + 1}" in told.text
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
    told = why_not(model, catalog_of(12), barred, ranking, 2, 1, rules)
    assert (told.stage, told.candidates) == (stage, len(candidates.item))
    assert told.score == pytest.approx(model.score(context)[candidates.item.tolist().index(2)], abs=1e-6)
    assert told.text.startswith(f"{KEPT_OUT[stage]} Had it been a candidate, it would stand at place {told.rank} of ")


def test_what_a_list_by_more_than_scores_leaves_out_is_displaced(recommender: Recommender) -> None:
    model = recommender._model
    context = model.retrieval.context(recommender._known.histories(np.array([29])))
    whole = model.order(context, model.score(context), 6)
    kept = np.arange(6) != 2  # as a cap does that has no room for the third
    capped = Ranking(np.array([0, 5]), whole.item[kept], whole.score[kept], whole.found[kept])
    told = why_not(model, recommender.catalog, context, capped, int(whole.item[2]), 5, {})
    assert (told.stage, told.rank, told.kth, told.retrievers) == (DISPLACED, 3, None, {})
    assert told.text.startswith(f"It is a candidate at place 3 of {len(context.item)} with score {told.score:.3f}, but")
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
    told = lost(model, context, ranking, 7, 2)
    assert told.retrievers == {"popularity": Reach(depth=3, place=6, score=13, edge=16)}


def test_what_fills_a_list_is_told() -> None:
    model, histories = seen_world(True)
    context = model.retrieval.context(histories)
    ranking = model.order(context, model.score(context), 10)
    filled = int(ranking.item[-1])
    assert ranking.found[-1].tolist() == [-1, -1]
    told = lost(model, context, ranking, filled, 10)
    assert (told.stage, told.rank, told.sources) == (IN_THE_LIST, 10, {})
    assert told.text == (
        "It is in the list, at place 10: no retriever proposed it; it fills the list, or the request named it."
    )


def test_equals_are_told_apart_by_nothing() -> None:
    state = shop_state()
    retrieval = retrieval_of(state, popularity=Popularity(depth=12))
    model = Model(retrieval, Featurizer.fit(["history_length"], state), adding(1))
    context = retrieval.context(asks([[1]]))
    ranking = model.order(context, model.score(context), 3)
    told = lost(model, context, ranking, 7, 3)
    assert (told.stage, told.rank) == (RANKED_BELOW, 8)
    assert told.text.endswith("At place 3 stands item 2 with score 0.693, with the same features.")


def test_an_item_that_only_retrieval_kept_out() -> None:
    world = checkerboard()
    retrieval = retrieval_of(world.state, popularity=Popularity(depth=4), covisitation=Covisitation(depth=0))
    model = Model(retrieval, Featurizer.fit(["scores"], world.state), adding(2))
    histories = asks([[1, 3]])
    context = retrieval.context(histories)
    ranking = model.order(context, model.score(context), 2)
    told = lost(model, context, ranking, 5, 2)
    assert (told.stage, told.rank, told.kth) == (NOT_RETRIEVED, 1, None)
    assert told.retrievers.keys() == {"popularity"}, "what only scores proposes nothing"
    assert told.text.endswith("Had it been a candidate, it would stand at place 1 of 5 with score "
                              f"{told.score:.3f}. That is within 2.")  # fmt: skip
    place = told.retrievers["popularity"].place
    assert place is not None
    deeper = Model(replace(retrieval, depths={"popularity": place, "covisitation": 0}), model.featurizer, model.scorer)
    assert 5 in deeper.rank(histories, 2).item


def test_why_not_as_json(recommender: Recommender) -> None:
    listed = recommender.recommend(USER, 344).items
    for item in (listed[0], listed[20], listed[-1]):
        told = recommender.why_not(USER, item.item_id)
        read = json.loads(json.dumps(told.to_dict(), allow_nan=False))
        assert (read["stage"], read["rank"], read["text"]) == (told.stage, told.rank, told.text)
        assert read["retrievers"].keys() == told.retrievers.keys()


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
