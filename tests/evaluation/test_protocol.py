"""What the judge may not get wrong: where a label is lost, what a tie is worth, and how long a user was away."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import DAY, N_ITEMS, N_USERS, adding_model, catalog_of, log_of, random_vectors

from recsys.config import TimeSplit, parse_config
from recsys.engine.embeddings import Embeddings
from recsys.errors import DataError
from recsys.evaluation.baselines import BASELINES
from recsys.evaluation.losses import DEEPER
from recsys.evaluation.protocol import Evaluator, Targets
from recsys.evaluation.significance import share_intervals
from recsys.jobs.evaluate import ENGINE, judge
from recsys.ragged import offsets_of
from recsys.tables.split import holdout
from recsys.types import Ranking, State

CUT, END = 100 * DAY, 160 * DAY


def split():
    return TimeSplit(kind="time", horizon_days=(END - CUT) / DAY)


def config_of(ks, **changes):
    raw = {
        "name": "world",
        "data": {"catalog": {}, "interactions": {}},
        "split": {"kind": "time"},
        "retrievers": {"popularity": {"depth": 3}},
        "features": ["scores"],
        "scorer": {"kind": "logistic"},
        "evaluation": {"k": ks, "baselines": list(BASELINES)},
    }
    return parse_config(raw | changes)


def judged(config, fold, vectors):
    embeddings = Embeddings(vectors, catalog_of(len(vectors)))
    state = State(embeddings.catalog, fold.known, embeddings.items, fold.as_of)
    return judge(config.evaluation, config.data.clock, fold, embeddings, adding_model(config, state))


# The loss budget

CROWD, ASKERS, ITEMS, DEPTH = 40, 4, 40, 3


def crowd_log(labels):
    """Item i has 40 - i events of a crowd; each query had item 0 before the cut, and the labels after it."""
    crowd = [(user, item, item) for item in range(ITEMS) for user in range(CROWD - item)]
    return log_of([*crowd, *((CROWD + n, 0, 50 * DAY) for n in range(ASKERS)),
                   *((CROWD + n, item, CUT + 1) for n, item in labels)], CROWD + ASKERS)  # fmt: skip


def stage_of(item, k):
    """Item 0 is blocked, so 1, 2, 3, … is the order of popularity, whose first three are the candidates."""
    if item == 0:
        return "removed by a rule"
    if item <= k:
        return "in the list"
    if item <= DEPTH:
        return f"ranked below {k}"
    return "cut by depth" if item <= DEEPER * DEPTH else "no retriever finds it"


@settings(max_examples=25, deadline=None)
@given(st.sets(st.tuples(st.integers(0, ASKERS - 1), st.integers(0, ITEMS - 1)), min_size=1), st.sampled_from([2, 5]))
def test_each_label_is_lost_at_the_stage_that_loses_it(labels, k):
    """With k = 5 the list is longer than the candidates: popularity fills it, and what it fills is in the list."""
    config = config_of([1, k])
    fold = holdout(crowd_log(labels), split(), END)
    if all(item == 0 for _, item in labels):
        with pytest.raises(DataError, match=f"each of the {len(labels)} labels after the cut"):
            judged(config, fold, random_vectors(ITEMS))
        return
    report = judged(config, fold, random_vectors(ITEMS)).report(ENGINE)
    stages = [stage_of(item, k) for _, item in labels]
    found = {stage: part["share"] * len(labels) for stage, part in report["losses"].items()}
    assert list(found) == [
        "removed by a rule", "no retriever finds it", "cut by depth", f"ranked below {k}", "in the list"
    ]  # fmt: skip
    assert found == pytest.approx({stage: stages.count(stage) for stage in found})
    held = sum(0 < item <= DEPTH for _, item in labels) / report["targets"]
    assert report["candidate_recall"]["popularity"] == report["candidate_recall"]["all"] == pytest.approx(held)
    deep = sum(0 < item <= DEEPER * DEPTH for _, item in labels) / report["targets"]
    assert report["candidate_recall"]["deeper"] == pytest.approx(deep)


def test_shares_are_certain_where_users_are_alike_and_as_wide_as_theory_has_it():
    alike = share_intervals(np.tile([[1, 3, 0]], (20, 1)), 0)
    assert alike == [{"share": share, "low": share, "high": share} for share in (0.25, 0.75, 0)]
    one = np.random.default_rng(0).integers(0, 2, 400)
    none, all_ = share_intervals(np.stack([1 - one, one], axis=1), 0)
    assert none["share"] + all_["share"] == pytest.approx(1)
    width = 2 * 1.96 * math.sqrt(all_["share"] * none["share"] / 400)
    assert all_["high"] - all_["low"] == pytest.approx(width, rel=0.1)
    busy = np.concatenate([np.tile([[0, 1]], (50, 1)), [[50, 0]]])  # one user holds half of everything
    low, high = share_intervals(busy, 0)[0]["low"], share_intervals(busy, 0)[0]["high"]
    assert low == 0
    assert high > 0.6


# Ties


def against(scores, wanted):
    """The places of the wanted items, by the definition: whatever is not better comes after, but for other targets."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item in wanted))
    return [place for place, item in enumerate(order) if item in wanted]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_ties_count_against_the_model_also_where_the_list_ends(data):
    """Whatever order a model gives to items of equal score, and wherever its list is cut."""
    labels = data.draw(st.sets(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=1))
    log = log_of([(0, 0, 1), *((user, item, CUT + 1) for user, item in labels)], N_USERS)
    targets = Targets.of(holdout(log, split(), END), N_ITEMS, drop_seen=False)
    evaluator = Evaluator(targets, [1, 2])
    scores, lists = [], []
    for _ in targets.users:
        scores.append(data.draw(st.lists(st.integers(-1, 1), min_size=N_ITEMS, max_size=N_ITEMS)))
        order = data.draw(st.permutations(range(N_ITEMS)))
        lists.append(sorted(order, key=lambda item, own=scores[-1]: -own[item])[: evaluator.length])
    item = [i for one in lists for i in one]
    score = [own[i] for own, one in zip(scores, lists, strict=True) for i in one]
    offsets = offsets_of(np.array([len(one) for one in lists]))
    evaluator.add("model", 0, Ranking(offsets, np.int32(item), np.float32(score), np.zeros((len(item), 1), np.int32)))
    for row, (user, own) in enumerate(zip(targets.users.tolist(), scores, strict=True)):
        places = against(own, {item for owner, item in labels if owner == user})
        for k in evaluator.ks:
            assert evaluator.per_user("model", "recall", k)[row] == sum(place < k for place in places) / len(places)
            first = min(places)
            assert evaluator.per_user("model", "mrr", k)[row] == (1 / (first + 1) if first < k else 0)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(20)), st.sampled_from(["drop", "keep"]), st.integers(0, 9))
def test_the_order_of_the_catalogue_tells_nothing(order, seen, seed):
    """Rows numbered otherwise change no figure, though many scores are tied (here all are exact numbers)."""
    rng = np.random.default_rng(seed)
    rows = [(u, int(rng.integers(20)), int(rng.integers(160)) * DAY) for u in range(12) for _ in range(8)]
    retrievers = {"repeat": {"depth": 20, "decay": 1}}  # popularity fills the rest
    exact = ["popularity", "recent_popularity", "repeat"]
    evaluation = {"k": [1, 3, 8], "baselines": exact}
    config = config_of([], retrievers=retrievers, rules={"seen": seen}, evaluation=evaluation)
    reports = []
    for names in (list(range(20)), order):
        fold = holdout(log_of([(user, names[item], time) for user, item, time in rows]), split(), END)
        evaluator = judged(config, fold, random_vectors(20)[np.argsort(names)])
        reports.append({model: evaluator.metrics(model) for model in evaluator.places})
    assert set(reports[0]) == {ENGINE, *exact}
    for model, metrics in reports[0].items():
        assert metrics == pytest.approx(reports[1][model]), model


# Slices


def test_targets_by_the_days_since_the_newest_known_event():
    """Midnight parts two days, however near; the first of several targets of one item is the one that counts."""
    hour = DAY // 24
    log = log_of([
        (0, 0, 50 * DAY), (0, 1, CUT - hour), (0, 2, CUT + hour), (0, 3, CUT + 30 * DAY),
        (1, 0, CUT - 31 * DAY), (1, 1, CUT), (1, 1, CUT + DAY),
        (2, 2, CUT + 5),
        (3, 0, CUT - DAY), (3, 4, CUT + 29 * DAY), (3, 2, CUT + 30 * DAY),
    ])  # fmt: skip
    fold = holdout(log, split(), END)
    targets = Targets.of(fold, 5, drop_seen=False, clock="time")
    gaps = {(0, 2): 1, (0, 3): 31, (1, 1): 31, (2, 2): -1, (3, 2): 31, (3, 4): 30}
    pairs = zip(targets.user.tolist(), targets.item.tolist(), strict=True)
    assert dict(zip(pairs, targets.gap_days.tolist(), strict=True)) == gaps
    config = config_of([1, 5], rules={"seen": "keep"})
    sliced = judged(config, fold, random_vectors(5)).report(ENGINE)["slices"]["gaps"]
    assert {name: part["targets"] for name, part in sliced.items()} == {
        "no history": 1, "same day": 0, "1-30 days": 2, "over 30 days": 3
    }  # fmt: skip
    assert sliced["1-30 days"][ENGINE]["recall@5"] == 1, "the whole catalogue is in the list"
    assert ENGINE not in sliced["same day"]
    ordered = judged(
        config_of([1], data={"catalog": {}, "interactions": {}, "clock": "order"}, split={"kind": "leave_last_out"}),
        fold,
        random_vectors(5),
    )
    assert set(ordered.report(ENGINE)["slices"]) == {"users", "items"}


def test_a_target_on_the_day_of_the_newest_event_has_no_gap():
    fold = holdout(log_of([(0, 0, 5 * DAY + 1), (0, 1, 5 * DAY + 9)]), parse_split("leave_last_out"))
    assert Targets.of(fold, 2, drop_seen=True, clock="time").gap_days.tolist() == [0]


def parse_split(kind):
    return config_of([1], split={"kind": kind}).split
