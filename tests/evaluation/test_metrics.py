"""Metrics against loops, the protocol against brute force, and an engine trained on a shop whose law is known."""

import itertools
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from make_shop import make_shop, oracle_recall
from shops import ROOT
from threadpoolctl import threadpool_limits
from worlds import DAY, N_ITEMS, N_USERS, asks, catalog_of, hits_of, log_of, logs, random_vectors, rows_of

from recsys.config import LeaveLastOut, TimeSplit, parse_config
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.engine.training import fit, fit_retrieval, label_candidates, query_moments
from recsys.errors import ConfigError, DataError
from recsys.evaluation.baselines import BASELINES, choose_baselines
from recsys.evaluation.metrics import METRICS
from recsys.evaluation.protocol import Evaluator, Targets
from recsys.evaluation.significance import paired_interval
from recsys.jobs.evaluate import ENGINE, judge
from recsys.parallel.threads import batches
from recsys.ragged import offsets_of
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.scorers.logistic import Logistic
from recsys.tables.ingest import load_tables
from recsys.tables.split import holdout
from recsys.types import Ranking, State

# Metrics


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        ("recall", 2, [1 / 2, 0, 1]),
        ("recall", 3, [2 / 2, 0, 1]),
        ("hit_rate", 1, [1, 0, 0]),
        ("hit_rate", 3, [1, 0, 1]),
        ("mrr", 1, [1, 0, 0]),
        ("mrr", 3, [1, 0, 1 / 2]),
        ("ndcg", 1, [1, 0, 0]),
        ("ndcg", 3, [(1 + 1 / 2) / (1 + 1 / math.log2(3)), 0, 1 / math.log2(3)]),
    ],
)
def test_metrics_by_hand(metric, k, expected):
    hits = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], bool)
    np.testing.assert_allclose(METRICS[metric](hits, np.array([2, 5, 1]), k), expected)


def by_loop(metric, places, n_relevant, k):
    """One user's metric from the places (from 0) of the relevant items."""
    near = sorted(place for place in places if place < k)
    if metric == "recall":
        return len(near) / n_relevant
    if metric == "hit_rate":
        return float(bool(near))
    if metric == "mrr":
        return 1 / (near[0] + 1) if near else 0
    ideal = sum(1 / math.log2(place + 2) for place in range(min(n_relevant, k)))
    return sum(1 / math.log2(place + 2) for place in near) / ideal


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 5)), st.integers(0, 3)), min_size=1, max_size=4), st.integers(1, 8))
def test_metrics_are_what_a_loop_says(metric, users, k):
    hits = np.array([[place in places for place in range(6)] for places, _ in users])
    relevant = [max(1, len(places) + more) for places, more in users]
    found = METRICS[metric](hits, np.array(relevant), k)
    expected = [by_loop(metric, places, n, k) for (places, _), n in zip(users, relevant, strict=True)]
    np.testing.assert_allclose(found, expected)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()


# Targets and the evaluator


def last_out(log):
    return holdout(log, LeaveLastOut(kind="leave_last_out"))


def pairs(rows):
    return {(row[0], row[1]) for row in rows}


def cut_at(cut, end):
    return TimeSplit(kind="time", horizon_days=(end - cut) / DAY)


@st.composite
def folds(draw):
    """A cut with several labels a user, and what a model may say to each: an order of all items, and how many."""
    known = draw(logs(last=3))
    labels = log_of([(*row[:2], 9 + row[2]) for row in rows_of(draw(logs(last=3)))], N_USERS)
    fold = holdout(log_of(rows_of(known) + [(*row[:4], True) for row in rows_of(labels)], N_USERS), cut_at(9, 20), 20)
    lists = st.lists(st.permutations(range(N_ITEMS)), min_size=N_USERS, max_size=N_USERS)
    return fold, draw(lists), draw(st.integers(1, N_ITEMS))


def ranking_of(lists):
    hits = hits_of(lists)
    return Ranking(hits.offsets, hits.item, hits.score, np.zeros((len(hits.item), 1), np.int32))


@settings(max_examples=30, deadline=None)
@given(folds(), st.booleans())
def test_targets_and_evaluator_are_brute_force(case, drop_seen):
    fold, permutations, length = case
    wanted = pairs(rows_of(fold.labels)) - (pairs(rows_of(fold.known)) if drop_seen else set())
    targets = Targets.of(fold, N_ITEMS, drop_seen)
    users = sorted({user for user, _ in wanted})
    right = [{item for user, item in wanted if user == query} for query in users]
    assert targets.users.tolist() == users
    assert list(zip(targets.owner.tolist(), targets.item.tolist(), strict=True)) == [
        (place, item) for place, items in enumerate(right) for item in sorted(items)
    ]
    assert targets.n_relevant.tolist() == [len(items) for items in right]
    known = rows_of(fold.known)
    assert targets.known_events.tolist() == [sum(row[0] == user for row in known) for user in users]
    assert targets.item_events.tolist() == [sum(row[1] == item for row in known) for item in range(N_ITEMS)]
    if not users:
        return
    lists = [permutations[user][:length] for user in users]
    evaluator = Evaluator(targets, [1, 3])
    for start in range(0, len(users), 2):
        evaluator.add("model", start, ranking_of(lists[start : start + 2]))
    for metric in METRICS:
        for k in evaluator.ks:
            places = [[one.index(i) for i in items if i in one] for one, items in zip(lists, right, strict=True)]
            expected = [by_loop(metric, p, len(items), k) for p, items in zip(places, right, strict=True)]
            np.testing.assert_allclose(evaluator.per_user("model", metric, k), expected)
            assert evaluator.metrics("model")[f"{metric}@{k}"] == pytest.approx(np.mean(expected))
            only = np.arange(len(users)) == 0
            assert evaluator.metrics("model", only)[f"{metric}@{k}"] == pytest.approx(expected[0])
    shown = [item for one in lists for item in one[:3]]
    share = (targets.item_events + 1) / (targets.item_events.sum() + N_ITEMS)
    beyond = evaluator.beyond_accuracy("model")
    assert beyond["coverage@3"] == pytest.approx(len(set(shown)) / N_ITEMS)
    assert beyond["novelty@3"] == pytest.approx(np.mean([-math.log2(share[item]) for item in shown]))


def test_what_the_user_already_had_is_no_target_where_seen_items_are_dropped():
    fold = last_out(log_of([(0, 1, 0), (0, 2, 1), (0, 1, 2), (1, 0, 0), (1, 3, 1)]))
    kept, dropped = (Targets.of(fold, 4, drop_seen) for drop_seen in (False, True))
    assert (kept.users.tolist(), kept.item.tolist()) == ([0, 1], [1, 3])
    assert (dropped.users.tolist(), dropped.item.tolist()) == ([1], [3])


def test_the_report_slices_and_compares():
    rows = [(user, 0, time) for user in range(3) for time in range((0, 4, 25)[user])]
    labels = [(0, 1, 100), (1, 0, 100), (1, 2, 101), (2, 3, 100)]
    log = log_of([*rows, (3, 1, 5), *labels])
    targets = Targets.of(holdout(log, cut_at(50, 200), 200), 5, drop_seen=False)
    evaluator = Evaluator(targets, [1, 2])
    evaluator.add("engine", 0, ranking_of([[1, 0], [0, 2], [4, 3]]))
    evaluator.add("other", 0, ranking_of([[0, 1], [3, 4], [4, 0]]))
    evaluator.add_candidates("all", 0, np.array([0, 1, 2]), np.array([1, 0, 1], np.int32))
    evaluator.add_candidates("deeper", 0, np.array([0, 1, 1, 2]), np.array([1, 0, 2, 1], np.int32))
    report = evaluator.report("engine")
    assert (report["users"], report["targets"]) == (3, 4)
    assert report["candidate_recall"] == {"all": 0.5, "deeper": 0.75}
    assert "gaps" not in report["slices"], "nothing is said of time without a clock"
    assert report["metrics"]["engine"]["recall@2"] == 1
    assert report["metrics"]["other"]["recall@2"] == pytest.approx(1 / 3)
    by_user = report["slices"]["users"]
    assert {name: part["users"] for name, part in by_user.items()} == {
        "no history": 1,
        "1-4 events": 1,
        "5-19 events": 0,
        "20+ events": 1,
    }
    assert by_user["no history"]["engine"]["recall@1"] == 1
    assert by_user["20+ events"]["engine"]["recall@1"] == 0
    assert "engine" not in by_user["5-19 events"]
    by_item = report["slices"]["items"]
    assert {name: part["targets"] for name, part in by_item.items()} == {
        "new": 2,
        "1-4": 1,
        "5-9": 0,
        "10-49": 1,
        "50+": 0,
    }
    assert by_item["new"] == {
        "targets": 2,
        "engine": {"recall@1": 0, "recall@2": 1},
        "other": {"recall@1": 0, "recall@2": 0},
    }
    assert set(report["differences"]) == {"other"}
    assert report["differences"]["other"]["mean"] == pytest.approx(
        np.mean(evaluator.per_user("engine", "ndcg", 2) - evaluator.per_user("other", "ndcg", 2))
    )


# The interval


def test_identical_models_do_not_differ():
    same = np.random.default_rng(0).random(50)
    assert paired_interval(same, same.copy(), 0) == {"mean": 0, "low": 0, "high": 0}


def test_a_clear_difference_excludes_zero_and_swaps_its_sign():
    rng = np.random.default_rng(1)
    ours, theirs = rng.random(200) + 0.3, rng.random(200)
    one, other = paired_interval(ours, theirs, 3), paired_interval(theirs, ours, 3)
    assert 0 < one["low"] < one["mean"] < one["high"]
    assert one["mean"] == pytest.approx(np.mean(ours - theirs))
    assert (other["low"], other["high"]) == pytest.approx((-one["high"], -one["low"]))
    assert one == paired_interval(ours, theirs, 3), "the seed decides"


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    samples = rng.exponential(size=(60, 60)) - 1  # true mean 0
    found = [paired_interval(sample, np.zeros(60), n) for n, sample in enumerate(samples)]
    covered = np.mean([one["low"] <= 0 <= one["high"] for one in found])
    assert 0.85 <= covered <= 1, "95% within luck, less a little for a skewed mean of 60"


def test_the_interval_is_as_wide_as_theory_has_it():
    sample = np.random.default_rng(3).normal(size=400)
    one = paired_interval(sample, np.zeros(400), 0)
    width = 2 * 1.96 * sample.std() / math.sqrt(400)
    assert one["high"] - one["low"] == pytest.approx(width, rel=0.1)


# The engine, on the made-up shop, with vectors that mean nothing


@cache
def shop_settings(**changes):
    raw = yaml.safe_load((ROOT / "configs" / "shop.yaml").read_text(encoding="utf-8"))
    for table, name in (("catalog", "items"), ("interactions", "events")):
        raw["data"][table]["path"] = str(ROOT / "data" / "shop" / f"{name}.csv")
    return parse_config(raw | {"scorer": {"kind": "logistic"}} | changes)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The test cut of the made-up shop, and random item vectors."""
    tables = load_tables(shop_settings().data, tmp_path_factory.mktemp("shop"))
    fold = holdout(tables.interactions, shop_settings().split)
    return fold, Embeddings(random_vectors(len(tables.catalog), 16), tables.catalog)


@pytest.fixture(scope="module")
def report(shop):
    fold, embeddings = shop
    with threadpool_limits(1):
        model = fit(Plan.of(shop_settings()), fold.known, embeddings, fold.as_of)
    return judge(shop_settings().evaluation, shop_settings().data.clock, fold, embeddings, model).report(ENGINE, k=10)


def test_the_engine_beats_every_baseline_and_nears_the_oracle(report):
    metrics = {name: one["recall@10"] for name, one in report["metrics"].items()}
    expected, realised = oracle_recall(make_shop(), 10)
    assert set(metrics) == {ENGINE, "popularity", "item_knn", "repeat"}
    assert metrics[ENGINE] >= 0.75 * expected, "without any text it reaches three quarters of what the law allows"
    assert metrics[ENGINE] <= realised + 0.03, "more than the oracle would be a leak"
    assert metrics[ENGINE] > 2 * metrics["popularity"]
    assert all(report["differences"][name]["low"] > 0 for name in metrics if name != ENGINE)
    assert report["candidate_recall"]["all"] >= metrics[ENGINE]


@pytest.fixture(scope="module")
def lists(shop):
    """Features, offsets and labels of the training cut and of the test cut, by the engine's own door."""
    fold, embeddings = shop
    config, parts = shop_settings(), []
    for cut in (holdout(fold.known, config.split, fold.as_of), fold):
        state = State(embeddings.catalog, cut.known, embeddings.items, cut.as_of)
        features = Featurizer.fit(config.features, state)
        rng, retrieval = np.random.default_rng(0), fit_retrieval(Plan.of(config), state)
        made = label_candidates(
            Plan.of(config).sampling, retrieval, features, cut, embeddings, 0, rng, lambda done, total: None
        )
        x, lengths, y = (np.concatenate([part[n] for part in made]) for n in range(3))
        parts.append((x, offsets_of(lengths), y))
    return parts


def test_shuffled_labels_bring_the_scorer_down_to_chance(lists):
    """Nothing that the scorer sees, the order of the candidates least of all, gives the label away."""
    train, (x, offsets, y) = lists

    def recall(score, label):
        hit = [
            label[start + np.argsort(-score[start:end], kind="stable")[:10]].sum()
            for start, end in itertools.pairwise(offsets)
        ]
        return np.mean(hit)

    def shuffle(label, offsets, rng):
        return np.concatenate([rng.permutation(part) for part in np.split(label, offsets[1:-1])])

    def learn(label):
        with threadpool_limits(1):  # else BLAS threads wait for each other on a busy machine
            return Logistic().fit(train[0], train[1], label, 0, lambda *_: None).score(x)

    chance = np.mean(np.minimum(10 / np.diff(offsets), 1))
    spread = 4 * math.sqrt(chance * (1 - chance) / (len(offsets) - 1))
    assert abs(recall(np.zeros(len(x)), y) - chance) < 0.1, "the order of the candidates tells next to nothing"
    learnt = recall(learn(train[2]), y)
    assert learnt > 4 * chance
    rng = np.random.default_rng(0)
    score = learn(shuffle(train[2], train[1], rng))
    shuffled = [recall(score, shuffle(y, offsets, rng)) for _ in range(20)]
    assert abs(np.mean(shuffled) - chance) < spread / math.sqrt(20) + 0.002
    assert recall(score, y) < 0.5 * learnt, "nor does it rank the true labels"


def test_training_lists_hold_one_label_or_more_and_samples_keep_them_all(shop, lists):
    (x, offsets, y), _ = lists
    assert (np.add.reduceat(y, offsets[:-1]) >= 1).all()
    assert len(x) == len(y) == offsets[-1]
    fold, embeddings = shop
    config = shop_settings()
    cut = holdout(fold.known, config.split)
    state = State(embeddings.catalog, cut.known, embeddings.items, None)
    retrieval, features = fit_retrieval(Plan.of(config), state), Featurizer.fit(config.features, state)
    made = label_candidates(
        Plan.of(config).sampling, retrieval, features, cut, embeddings, 20, np.random.default_rng(0), lambda *_: None
    )
    lengths, labels = (np.concatenate([part[n] for part in made]) for n in (1, 2))
    assert labels.sum() == y.sum(), "no label is lost by sampling"
    assert abs((lengths.sum() - labels.sum()) / len(lengths) - 20) < 2
    sampling = Plan.of(config.model_copy(update={"train_users": 100})).sampling
    fewer = label_candidates(sampling, retrieval, features, cut, embeddings, 0, np.random.default_rng(0),
                             lambda *_: None)  # fmt: skip
    assert sum(len(part[1]) for part in fewer) <= 100


def test_a_choice_of_a_rare_item_counts_as_the_config_says(shop):
    fold, embeddings = shop
    config = shop_settings().model_copy(update={"rare_weight": 2.5})
    cut = holdout(fold.known, config.split)
    state = State(embeddings.catalog, cut.known, embeddings.items, None)
    retrieval, features = fit_retrieval(Plan.of(config), state), Featurizer.fit(["log_popularity"], state)
    made = label_candidates(
        Plan.of(config).sampling, retrieval, features, cut, embeddings, 20, np.random.default_rng(0), lambda *_: None
    )
    x, y = (np.concatenate([part[n] for part in made]) for n in (0, 2))
    events = np.round(np.expm1(x[:, 0]))
    assert {*y[events >= 5]} == {0, 1}
    assert {*y[events < 5]} == {0, 2.5}


def test_what_looks_at_the_catalogue_alone_is_fitted_once_for_all_moments(shop):
    fold, embeddings = shop
    config, counts = shop_settings(), Counter()

    def fitter(retriever, state):
        counts[type(retriever).__name__] += 1
        return retriever.fit(state)

    fit(Plan.of(config), fold.known, embeddings, fold.as_of, fitter=fitter)
    assert counts["Semantic"] == 1
    assert counts["Covisitation"] == config.split.folds + 1


# Training on little


def settings_of(**changes):
    raw = {
        "name": "little",
        "data": {"catalog": {}, "interactions": {}},
        "split": {"kind": "leave_last_out"},
        "retrievers": {"popularity": {}},
        "features": ["scores"],
        "scorer": {"kind": "logistic"},
    }
    return parse_config(raw | changes)


def embeddings_of(n_items):
    return Embeddings(random_vectors(n_items), catalog_of(n_items))


def test_nothing_to_learn_from_is_an_error_with_the_number_of_cuts():
    log = log_of([(0, 0, 0), (0, 1, 1), (0, 2, 2)])  # and every label is new to the user
    message = (
        "of the labels after 2 cuts none lies among the candidates; add retrievers or depth, or use a longer horizon"
    )
    config = settings_of(
        split={"kind": "leave_last_out", "folds": 2}, rules={"seen": "keep"}, retrievers={"repeat": {}}
    )
    with pytest.raises(DataError, match=message):
        fit(Plan.of(config), log, embeddings_of(3))


def test_a_first_cut_that_is_empty_is_refused_and_a_later_one_ends_the_folds():
    with pytest.raises(DataError, match="leaves 1 known events and 0 labels of 1 events"):
        fit(Plan.of(settings_of()), log_of([(0, 0, 0)]), embeddings_of(3))
    log = log_of([(0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1)])
    model = fit(Plan.of(settings_of(split={"kind": "leave_last_out", "folds": 9})), log, embeddings_of(3))
    assert model.rank(asks([[0]]), 2).item.tolist() == [1, 2]


def test_seen_items_are_kept_or_dropped_and_every_list_is_full():
    log = log_of([(0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1)])
    for seen, expected in (("drop", {1, 2, 3}), ("keep", {0, 1, 2, 3})):
        model = fit(Plan.of(settings_of(rules={"seen": seen})), log, embeddings_of(4))
        assert set(model.rank(asks([[0]]), 9).item.tolist()) == expected


def test_settings_that_no_retriever_or_scorer_knows():
    for changes, message in (
        (
            {"retrievers": {"popularty": {}}},
            "retrievers.popularty: unknown retriever 'popularty'; did you mean 'popularity'",
        ),
        (
            {"retrievers": {"recent": {"kind": "popularity", "halflife": 3}}},
            "retrievers.recent.halflife: unknown setting",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            Plan.of(settings_of(**changes))
    log = log_of([(0, 0, 0), (0, 1, 1)])
    with pytest.raises(ConfigError, match="scorer: unknown scorer 'logistics'; did you mean 'logistic'"):
        fit(Plan.of(settings_of(scorer={"kind": "logistics"})), log, embeddings_of(2))
    with pytest.raises(ConfigError, match=r"features\.0: unknown feature 'score'; did you mean 'scores'"):
        fit(Plan.of(settings_of(features=["score"])), log, embeddings_of(2))


def test_under_clock_order_the_baseline_that_counts_days_is_left_out_and_logged(caplog):
    names = ["popularity", "recent_popularity", "repeat"]
    with caplog.at_level("INFO", "recsys"):
        assert list(choose_baselines(names, "time")) == names
        assert not caplog.messages
        assert list(choose_baselines(names, "order")) == ["popularity", "repeat"]
    assert caplog.messages == [
        "baseline 'recent_popularity' is left out: it counts days, and data.clock is 'order'; it would equal popularity"
    ]


def test_baselines_batches_and_moments():
    assert {"popularity", "recent_popularity", "item_knn", "repeat", "text"} == set(BASELINES)
    assert [part.tolist() for part in batches(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]
    log = log_of([(0, 0, 3), (2, 0, 8)])
    assert query_moments(log, None).tolist() == [4, 0, 9]
    assert query_moments(log, 11).tolist() == [11] * 3
