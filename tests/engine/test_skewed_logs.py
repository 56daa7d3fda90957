"""Training on skewed logs publishes a model or ends in an error that can be acted on, never in a traceback."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import DAY, catalog_of, log_of, random_vectors

from recsys.config import EvaluationConfig, parse_config
from recsys.engine.calibration import LEAST_LABELS, fit_calibrated, measure_on_test
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.errors import DataError
from recsys.jobs.evaluate import judge
from recsys.ranking.calibration import Calibrator
from recsys.tables.split import holdout
from recsys.types import Interactions

TIME, LAST = {"kind": "time", "horizon_days": 7, "folds": 1}, {"kind": "leave_last_out", "folds": 2}
RETRIEVERS = {"popularity": {"depth": 8}, "recent": {"kind": "popularity", "half_life_days": 5}, "repeat": {"depth": 5},
              "semantic": {"depth": 5}, "covisitation": {"depth": 5}, "item_knn": {"depth": 5}, "ease": {"depth": 5},
              "slit": {"depth": 5}, "lexical": {"depth": 5}}  # fmt: skip
FEATURES = ["scores", "ranks", "log_popularity", "late_popularity", "best_match", "category_share", "brand_last",
            "price_gap", "history_length", "own_count", "own_recency", "repeat_rate", "due"]  # fmt: skip
EVALUATION = EvaluationConfig(baselines=["popularity", "recent_popularity", "item_knn", "repeat", "text"])
# What a person is told who can do something about it.
ADVICE = re.compile(
    r"use a shorter horizon, fewer folds or more data|add retrievers or depth, or use a longer horizon"
    r"|set it to 'keep', or use more data"
)

Rows = Callable[[np.random.Generator, int, int], list[tuple]]


def _usual(rng: np.random.Generator, users: int, items: int, first: int = 0) -> list[tuple]:
    return [(user, int(rng.integers(items)), int(rng.integers(60)) * DAY) for user in range(first, users)
            for _ in range(5)]  # fmt: skip


SKEWED: dict[str, Rows] = {
    "one bulk buyer": lambda rng, users, items: (
        [(0, item, 55 * DAY) for item in range(items)] + _usual(rng, users, items, first=1)
    ),
    "one item": lambda rng, users, items: [(u, 0, int(rng.integers(60)) * DAY) for u in range(users) for _ in range(4)],
    "one user": lambda rng, users, items: _usual(rng, 1, items) * 8,
    "two users": lambda rng, users, items: _usual(rng, 2, items) * 3,
    "no event is a target": lambda rng, users, items: [(*row, 1.0, False) for row in _usual(rng, users, items)],
    "all at one moment": lambda rng, users, items: [(*row[:2], 7 * DAY) for row in _usual(rng, users, items)],
    "all users alike": lambda rng, users, items: [(u, t % items, 8 * t * DAY) for u in range(users) for t in range(8)],
    "items that nobody bought": lambda rng, users, items: _usual(rng, users, max(items // 10, 1)),
    "an event each": lambda rng, users, items: [(u, u % items, u * DAY) for u in range(users)],
}  # fmt: skip


def world_of(name: str, seed: int, users: int, items: int) -> tuple[Interactions, Embeddings]:
    log = log_of(SKEWED[name](np.random.default_rng(seed), users, items))
    return log, Embeddings(random_vectors(items), catalog_of(items))


def plan_of(split: dict, scorer: dict, seen: str = "keep") -> Plan:
    config = {"name": "w", "data": {"catalog": {}, "interactions": {}}, "split": split, "retrievers": RETRIEVERS,
              "features": FEATURES, "scorer": scorer, "rules": {"seen": seen}}  # fmt: skip
    return Plan.of(parse_config(config))


@pytest.mark.parametrize("name", SKEWED)
@settings(max_examples=4)
@given(st.integers(0, 1000), st.sampled_from([2, 40]), st.sampled_from([1, 2, 60]), st.sampled_from([TIME, LAST]),
       st.sampled_from([{"kind": "logistic"}, {"kind": "logistic", "loss": "pointwise"},
                        {"kind": "mlp", "members": 1, "epochs": 2}]), st.sampled_from(["keep", "drop"]))  # fmt: skip
def test_a_skewed_log_is_trained_and_judged_or_the_error_says_what_to_do(name, seed, users, items, split, scorer, seen):
    log, embeddings = world_of(name, seed, users, items)
    plan = plan_of(split, scorer, seen)
    try:
        fold = holdout(log, plan.split)
        model, about, _ = fit_calibrated(plan, fold.known, embeddings, fold.as_of)
        report = judge(EVALUATION, "time", fold, embeddings, model).report("engine")
    except DataError as error:
        assert ADVICE.search(str(error)), error  # noqa: PT017  # either outcome is right
        return
    assert ("none" in about) == (model.calibrator is None)
    measured = measure_on_test(plan, model, fold, embeddings)
    assert bool(measured) == (model.calibrator is not None)
    values = [value for metrics in report["metrics"].values() for value in metrics.values()]
    assert np.isfinite(values).all()


@pytest.mark.parametrize("bought", [50, 100])
def test_one_bulk_order_leaves_probabilities_standing(bought):
    """A list full of labels, beside 300 of almost none: a whole Newton step overshoots, and the Hessian is singular."""
    rng = np.random.default_rng(0)
    lists = np.repeat(np.arange(301), [100] + [60] * 300)
    label = (lists == 0) & (np.arange(len(lists)) < bought)
    label[rng.choice(np.flatnonzero(lists > 0), 3, replace=False)] = True
    share = rng.normal(-5, 1, len(lists))
    bulk = np.arange(301) == 0
    active = np.column_stack([np.where(bulk, mean, rng.normal(1.5, 0.2, 301)) for mean in (3.0, 0.7)])
    predicted = Calibrator.fit(share, lists, active, label, 0).predict_from_activity(share, active[lists])
    assert predicted[lists == 0].mean() == pytest.approx(bought / 100, abs=0.05)
    assert predicted[lists > 0].mean() < 0.001  # 3 of 18,000


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from(["first list", "at random", "separable"]))
def test_a_calibrator_is_finite_and_keeps_the_order_whatever_it_learns_from(seed, kind):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(8), rng.integers(1, 60, 8))
    share = -np.abs(rng.standard_cauchy(len(owner))) * 10.0 ** rng.uniform(-3, 6)
    active = rng.standard_cauchy((8, 3)) * 10.0 ** rng.uniform(-2, 4)
    label = {
        "first list": owner == 0,
        "at random": rng.random(len(owner)) < 0.05,
        "separable": share > np.median(share),
    }[kind]
    label[:2] = [True, False]
    fitted = Calibrator.fit(share, owner, active, label, 0)
    assert all(np.isfinite(array).all() for array in fitted.arrays().values())
    for row in range(8):
        some = np.sort(share[owner == row])
        predicted = fitted.predict_from_activity(some, np.tile(active[row], (len(some), 1)))
        assert predicted.min() >= 0
        assert predicted.max() <= 1
        assert (np.diff(predicted) >= 0).all()


def test_where_every_candidate_is_a_label_there_is_no_rate_and_the_manifest_says_so():
    """One item, which everybody has each week: nothing ever fails to happen."""
    log = log_of([(user, 0, week * 7 * DAY + user) for user in range(2 * LEAST_LABELS + 30) for week in range(6)])
    plan = plan_of(TIME, {"kind": "logistic"})
    model, about, _ = fit_calibrated(plan, log, Embeddings(random_vectors(1), catalog_of(1)), plan.end(log))
    assert model.calibrator is None
    expected = "80 of 80 candidates are labels, in one half of the users all of them: there is no rate to learn"
    assert about["none"] == expected
