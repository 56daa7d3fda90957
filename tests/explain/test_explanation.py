"""Explanations: sums that hold, and history items that are the reason."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from explaining import USER, USERS, adding, network
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import asks, catalog_of, checkerboard, random_vectors, retrieval_of, shop_state, state_of

from recsys import Recommender
from recsys.engine.model import Model
from recsys.explain.explanation import (
    NEWEST,
    Explanation,
    explanations,
)
from recsys.ranking.featurizer import Featurizer
from recsys.retrieval.covisitation import Covisitation
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic
from recsys.types import Histories


def explain(model: Model, histories: Histories, items: list[int]) -> list[Explanation]:
    context = model.retrieval.context(histories)
    return explanations(model, catalog_of(context.n_items), histories, context, np.array(items))


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
    explained = recommender.explain(user, asked)
    scored = recommender.score(user, asked)["score"]
    assert [one.item_id for one in explained] == asked
    for one, score in zip(explained, scored, strict=True):
        assert one.score == pytest.approx(score, abs=1e-4)
        parts = list(one.contributions.values())
        assert one.base + sum(parts) == pytest.approx(one.score, abs=1e-5 * (1 + np.abs(parts).sum()))
        assert np.abs(parts).tolist() == sorted(np.abs(parts), reverse=True)
    model = recommender._model
    names = model.featurizer.names(model.retrieval.context(recommender._lookup.histories(np.array([29]))))
    assert {frozenset(one.contributions) for one in explained} == {frozenset(names)}
    for one, item in zip(explained, listed, strict=False):
        if item.sources:
            assert (one.score, one.sources) == (item.score, item.sources)
            assert list(one.contributions)[:3] == list(item.reasons)
            np.testing.assert_allclose(list(one.contributions.values())[:3], list(item.reasons.values()))


def test_explanations_come_in_the_order_asked(recommender: Recommender) -> None:
    listed = [item.item_id for item in recommender.recommend(USER, 3).items]
    outside = recommender.recommend(USER, 344).items[-1].item_id
    asked = [listed[1], outside, listed[0], listed[1]]
    explained = recommender.explain(USER, asked)
    assert [one.item_id for one in explained] == asked
    assert explained[0] == explained[3]
    for one in explained:
        (alone,) = recommender.explain(USER, [one.item_id])
        assert replace(alone, because=[], history_effect=0) == replace(one, because=[], history_effect=0)
        effects = [{i.item_id: i.effect for i in explained.because} for explained in (alone, one)]
        assert effects[0] == pytest.approx(effects[1], abs=1e-4)
        assert alone.history_effect == pytest.approx(one.history_effect, abs=1e-4)
    assert recommender.explain(USER, []) == []


def test_an_explanation_as_json(recommender: Recommender) -> None:
    (explained,) = recommender.explain(USER, ["i001"])
    read = json.loads(json.dumps(explained.to_dict(), allow_nan=False))
    assert read["because"][0] == {
        "item_id": explained.because[0].item_id,
        "title": explained.because[0].title,
        "effect": explained.because[0].effect,
    }
    assert read["contributions"] == explained.contributions


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
    explained = explain(model, histories, context.item.tolist())
    had = {item for item, _ in events[-newest:]}
    assert {i.item_id for i in explained[0].because} == {f"i{item}" for item in had}
    for item in had:
        effect = whole - log_odds([event for event in events if event[0] != item])
        got = [next(i.effect for i in one.because if i.item_id == f"i{item}") for one in explained]
        np.testing.assert_allclose(got, effect, atol=1e-3)
    np.testing.assert_allclose([one.history_effect for one in explained], whole - log_odds([]), atol=1e-3)
    for one in explained:
        effects = [influence.effect for influence in one.because]
        assert effects == sorted(effects, reverse=True)


def test_the_newest_history_items_are_told() -> None:
    state = state_of(checkerboard().state.interactions, 60)
    model = Model(retrieval_of(state, popularity=Popularity()), Featurizer.fit(["history_length"], state), adding(1))
    history = [*range(20, 50), 45]
    (explained,) = explain(model, asks([history]), [0])
    assert {i.item_id for i in explained.because} == {f"i{item}" for item in range(50 - NEWEST, 50)}
    # Every candidate has the same history length, so nothing moves one against the rest.
    assert [i.effect for i in explained.because] == pytest.approx([0] * NEWEST, abs=1e-5)
    assert explained.because[0].item_id == "i45", "equal effects: the newest first"


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
    for explained in recommender.explain("nobody", listed):
        assert (explained.because, explained.history_effect) == ([], 0)


def test_a_lone_candidate_has_no_rest_to_stand_against() -> None:
    state = shop_state()
    model = Model(retrieval_of(state, repeat=Repeat(depth=1)), Featurizer.fit(["own_count"], state), adding(1))
    (explained,) = explain(model, asks([[4]]), [4])
    assert explained.because[0].effect == explained.history_effect == pytest.approx(np.log(2), abs=1e-6)
