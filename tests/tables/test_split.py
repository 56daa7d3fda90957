"""Cuts in time: what is known never holds anything of what it is asked to predict."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from worlds import (
    DAY,
    N_ITEMS,
    N_USERS,
    asks,
    catalog_of,
    log_of,
    logs,
    random_vectors,
    retrieval_of,
    rows_of,
    state_of,
)

from recsys.config import LeaveLastOut, TimeSplit, parse_config
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.engine.training import fit
from recsys.errors import DataError, LeakageError
from recsys.ranking.features import FEATURES
from recsys.ranking.featurizer import Featurizer
from recsys.retrieval.registry import RETRIEVERS
from recsys.tables.split import Fold, hide_items, holdout, next_moments
from recsys.types import Candidates, Catalog, Histories, Interactions, State

quick = settings(max_examples=50, deadline=None)
LAST = LeaveLastOut(kind="leave_last_out")


def days(horizon, folds=1):
    return TimeSplit(kind="time", horizon_days=horizon, folds=folds)


def sides(fold):
    return [row[:3] for row in rows_of(fold.known)], [row[:3] for row in rows_of(fold.labels)]


# By time


def test_a_time_cut_knows_strictly_before_and_labels_from_the_cut_on():
    log = log_of([(0, 0, 7 * DAY - 1), (0, 1, 7 * DAY), (1, 2, 0), (1, 3, 10 * DAY - 1)])
    fold = holdout(log, days(3), as_of=10 * DAY)
    assert fold.as_of == 7 * DAY
    assert sides(fold) == ([(0, 0, 7 * DAY - 1), (1, 2, 0)], [(0, 1, 7 * DAY), (1, 3, 10 * DAY - 1)])
    assert fold.moment.tolist() == [7 * DAY] * 2
    assert fold.labelled_users.tolist() == [0, 1]


def test_a_time_cut_ends_just_after_the_last_event_unless_told():
    fold = holdout(log_of([(0, 0, 0), (0, 1, 5 * DAY)]), days(1))
    assert fold.as_of == 4 * DAY + 1
    assert sides(fold) == ([(0, 0, 0)], [(0, 1, 5 * DAY)])


def test_events_from_as_of_on_are_on_neither_side_of_a_time_cut():
    log = log_of([(0, 0, 0), (0, 1, 5 * DAY), (0, 2, 6 * DAY), (0, 3, 9 * DAY)])
    assert sides(holdout(log, days(2), as_of=6 * DAY)) == ([(0, 0, 0)], [(0, 1, 5 * DAY)])


def test_only_targets_label_a_time_cut_and_everything_before_it_is_known():
    log = log_of([(0, 0, 0, 1.0, False), (0, 1, 5, 1.0, False), (0, 2, 5 * DAY, 1.0, False), (0, 3, 5 * DAY)])
    fold = holdout(log, days(1))
    assert sides(fold) == ([(0, 0, 0), (0, 1, 5)], [(0, 3, 5 * DAY)])


def test_time_cuts_nest_into_adjoining_windows():
    log = log_of([(0, day % N_ITEMS, day * DAY) for day in range(10)])
    test = holdout(log, days(2), as_of=10 * DAY)
    train = holdout(test.known, days(2), as_of=test.as_of)
    first = holdout(train.known, days(2), as_of=train.as_of)
    assert [fold.as_of // DAY for fold in (test, train, first)] == [8, 6, 4]
    assert [(fold.labels.time // DAY).tolist() for fold in (test, train, first)] == [[8, 9], [6, 7], [4, 5]]


@quick
@given(logs(last=9), st.integers(1, 6), st.integers(2, 12))
def test_time_cuts_hold_to_the_law(log, horizon, end):
    cut = end - horizon
    rows = rows_of(log)
    known = [row for row in rows if row[2] < cut]
    labels = [row for row in rows if cut <= row[2] < end and row[4]]
    split = TimeSplit(kind="time", horizon_days=horizon / DAY)
    if not known or not labels:
        message = f"leaves {len(known)} known events and {len(labels)} labels of {len(rows)} events"
        with pytest.raises(DataError, match=message):
            holdout(log, split, as_of=end)
        return
    fold = holdout(log, split, as_of=end)
    assert (rows_of(fold.known), rows_of(fold.labels)) == (known, labels)


# Leave last out


def test_the_last_target_of_each_user_is_the_label():
    log = log_of([(0, 0, 0), (0, 1, 4), (0, 2, 9), (1, 3, 5), (1, 4, 6)])
    fold = holdout(log, LAST)
    assert sides(fold) == ([(0, 0, 0), (0, 1, 4), (1, 3, 5)], [(0, 2, 9), (1, 4, 6)])
    assert fold.as_of is None
    assert fold.moment.tolist() == [9, 6], "each user asks when the label happens"


def test_a_user_with_one_event_stays_known():
    fold = holdout(log_of([(0, 0, 0), (0, 1, 1), (1, 5, 100)]), LAST)
    assert sides(fold) == ([(0, 0, 0), (1, 5, 100)], [(0, 1, 1)])
    assert fold.moment.tolist() == [1, 101]


def test_events_after_the_label_are_not_known_and_other_kinds_are_no_labels():
    view, buy = (1.0, False), (3.0, True)
    log = log_of([(0, 0, 0, *view), (0, 1, 1, *buy), (0, 2, 2, *view), (0, 3, 3, *view), (1, 4, 0, *view)])
    fold = holdout(log, LAST)
    assert sides(fold) == ([(0, 0, 0), (1, 4, 0)], [(0, 1, 1)])


def test_a_user_whose_first_event_is_the_last_target_stays_known_whole():
    log = log_of([(0, 0, 0), (0, 1, 1, 1.0, False), (1, 0, 0), (1, 1, 1)])
    assert sides(holdout(log, LAST)) == ([(0, 0, 0), (0, 1, 1), (1, 0, 0)], [(1, 1, 1)])


def test_in_a_tie_the_file_order_decides_and_the_user_asks_just_after():
    log = log_of([(0, 2, 5), (0, 1, 5), (0, 0, 5)])
    fold = holdout(log, LAST)
    assert sides(fold) == ([(0, 2, 5), (0, 1, 5)], [(0, 0, 5)])
    assert fold.moment.tolist() == [6]
    assert fold.histories(np.array([0]), 10).item.tolist() == [2, 1]


def test_last_out_cuts_nest_one_event_further_back():
    log = log_of([(0, item, item) for item in range(4)])
    test = holdout(log, LAST)
    train = holdout(test.known, LAST, test.as_of)
    assert sides(train) == ([(0, 0, 0), (0, 1, 1)], [(0, 2, 2)])


@quick
@given(logs())
def test_last_out_holds_to_the_law(log):
    users = [[row for row in rows_of(log) if row[0] == user] for user in range(N_USERS)]
    known, labels = [], []
    for rows in users:
        last = max((place for place, row in enumerate(rows) if row[4]), default=0)
        known += rows[:last] if last else rows
        labels += [rows[last]] if last else []
    if not known or not labels:
        message = f"leaves {len(known)} known events and {len(labels)} labels of {len(log)} events"
        with pytest.raises(DataError, match=message):
            holdout(log, LAST)
        return
    fold = holdout(log, LAST)
    assert (rows_of(fold.known), rows_of(fold.labels)) == (known, labels)
    asked = fold.histories(fold.labelled_users, 100)
    assert (asked.as_of >= fold.labels.time).all()
    assert (asked.time <= fold.labels.time[asked.owner]).all(), "nothing known is later than its user's label"


@quick
@given(logs(), st.sampled_from([LAST, TimeSplit(kind="time", horizon_days=3 / DAY)]))
def test_sides_are_disjoint_parts_of_the_log_and_so_are_nested_ones(log, split):
    rows = [(place, *row) for place, row in enumerate(rows_of(log))]
    numbered = Interactions(log.user, np.arange(len(rows), dtype=np.int32), log.time, log.weight, log.target, N_USERS)
    cut = None
    while True:
        try:
            fold = holdout(numbered, split, cut)
        except DataError:
            return
        known, labels = set(fold.known.item.tolist()), set(fold.labels.item.tolist())
        assert not known & labels
        assert known | labels <= set(numbered.item.tolist())
        assert all(rows[place][5] for place in labels), "labels are of a target kind"
        numbered, cut = fold.known, fold.as_of


def test_nothing_to_split():
    with pytest.raises(DataError, match="there are no interactions to split"):
        holdout(log_of([], 3), LAST)


def test_an_empty_side_is_told_with_its_numbers():
    alone = log_of([(0, 0, 0), (1, 1, 0), (2, 2, 0)])
    message = r"leaves 3 known events and 0 labels of 3 events: .* use a shorter horizon, fewer folds or more data"
    with pytest.raises(DataError, match=message):
        holdout(alone, LAST)
    with pytest.raises(DataError, match="leaves 0 known events and 3 labels of 3 events"):
        holdout(alone, days(1))


@quick
@given(logs())
def test_next_moments_come_right_after_each_users_last_event(log):
    last = [max((row[2] for row in rows_of(log) if row[0] == user), default=-1) for user in range(N_USERS)]
    assert next_moments(log).tolist() == [time + 1 for time in last]


# What the types refuse


def test_a_fold_refuses_what_leaks():
    early, late = log_of([(0, 0, 3), (0, 1, 5)]), log_of([(0, 2, 4)])
    with pytest.raises(LeakageError, match="1 known events lie at or after the cut that they should precede"):
        Fold(early, late, np.array([5]), None)
    with pytest.raises(LeakageError, match="1 labels lie before the cut at 6"):
        Fold(early, late, np.array([6]), 6)
    assert Fold(early, log_of([(0, 2, 6)]), np.array([6]), 6).as_of == 6


def test_histories_refuse_events_at_the_moment_of_asking():
    message = r"2 of 3 history events lie at or after the moment .*: event 1 has time 7, its user asks as of 7"
    with pytest.raises(LeakageError, match=message):
        asks([[(0, 6), (1, 7), (2, 9)]], as_of=7)
    log = log_of([(0, 0, 3), (1, 0, 8)])
    with pytest.raises(LeakageError, match="event 1 has time 8, its user asks as of 8"):
        log.histories(np.array([0, 1]), np.array([8, 8]), 5)


def test_a_state_refuses_events_from_its_moment_on():
    log = log_of([(0, 0, 3), (0, 1, 5), (1, 0, 6)])
    with pytest.raises(LeakageError, match="state as of 5 was given 2 interactions at or after that moment"):
        state_of(log, 3, as_of=5)
    assert state_of(log, 3, as_of=7).as_of == 7


def test_shapes_that_do_not_fit_are_told_with_their_lengths():
    one, two = np.zeros(1, np.int32), np.zeros(2, np.int32)
    with pytest.raises(DataError, match=r"interactions: .*user: 2, item: 1, time: 1, weight: 1, target: 1"):
        Interactions(two, one, one, one, one, 1)
    with pytest.raises(DataError, match=r"histories: .*user: 2, offsets: 1, as_of: 1"):
        Histories(two, np.array([0, 1]), one, one, one, one + 5)
    with pytest.raises(DataError, match=r"histories: .*item: 1, time: 2, weight: 1, offsets: 1"):
        Histories(one, np.array([0, 1]), one, two, one, one + 5)
    with pytest.raises(DataError, match=r"state: .*catalog: 3, vectors: 2"):
        State(catalog_of(3), log_of([(0, 0, 0)]), random_vectors(2))
    with pytest.raises(DataError, match=r"candidates: .*item: 2, found: 1, offsets: 2"):
        Candidates(np.array([0, 2]), two, np.zeros((1, 1), np.int32))


def test_interactions_refuse_rows_out_of_order_or_range():
    one, flags = np.ones(2, np.float32), np.ones(2, bool)
    for user, time in (([1, 0], [0, 0]), ([0, 0], [5, 4])):
        with pytest.raises(DataError, match="rows must be sorted by user, then time"):
            Interactions(np.array(user), np.zeros(2, np.int32), np.array(time), one, flags, 2)
    for user in ([0, 2], [-1, 0]):
        with pytest.raises(DataError, match=r"user rows must lie in \[0, 2\)"):
            Interactions(np.array(user), np.zeros(2, np.int32), np.zeros(2, np.int64), one, flags, 2)


@quick
@given(logs(), st.integers(1, 6), st.data())
def test_histories_are_the_newest_events_oldest_first(log, newest, data):
    users = np.array(data.draw(st.lists(st.integers(0, N_USERS - 1), min_size=1, max_size=5)))
    found = log.histories(users, np.full(len(users), 99), newest)
    again = found.select(np.arange(len(users))[::-1])
    for place, user in enumerate(users):
        own = [row for row in rows_of(log) if row[0] == user][-newest:]
        for asked, at in ((found, place), (again, len(users) - 1 - place)):
            span = slice(*asked.offsets[at : at + 2])
            known = zip(asked.item[span].tolist(), asked.time[span].tolist(), asked.weight[span].tolist(), strict=True)
            assert list(known) == [row[1:4] for row in own]
            moments = sorted({row[2] for row in own}, reverse=True)
            assert asked.age[span].tolist() == [moments.index(row[2]) for row in own]
            assert asked.user[at] == user


def test_categories_have_a_path_and_a_parent():
    catalog = catalog_of(5, category=["A > B", "A > C", "A", None, ""], brand=["x", None, "", "a", "x"])
    path, parent = catalog.category_codes
    assert path.tolist() == [1, 2, 0, -1, -1]
    assert parent.tolist() == [0, 0, -1, -1, -1]
    assert catalog.brand_codes.tolist() == [1, -1, -1, 0, 1]
    assert Catalog(catalog.frame.with_columns(title=None)).titles == ["i0", "i1", "i2", "i3", "i4"]


# Point in time: the future changes nothing

CUT = 30 * DAY
EVERYTHING = [name for name in FEATURES if name != "cls_pair"]  # it needs an encoder, and prepares nothing


def past_and(future):
    """A log of thirty days, and whatever follows from the cut on."""
    rng = np.random.default_rng(5)
    past = [(user, int(rng.integers(8)), int(rng.integers(30)) * DAY + user) for user in range(20) for _ in range(6)]
    return log_of(past + [(user, item, CUT + after) for user, item, after in future], 20)


def same(one, other):
    """Bit by bit."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        assert array.tobytes() == other[name].tobytes(), name


def contents(model):
    """All that a model holds."""
    parts = {f"{name}/{key}": a for name, one in model.retrieval.fitted.items() for key, a in one.arrays().items()}
    parts |= {f"{name}/{key}": a for name, one in model.featurizer.prepared.items() for key, a in one.items()}
    return parts | model.scorer.arrays() | {"popular": model.retrieval.popular}


futures = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 7), st.integers(0, 10 * DAY)), min_size=1, max_size=30)
SETTINGS = parse_config(
    {
        "name": "past",
        "data": {"catalog": {}, "interactions": {}},
        "split": {"kind": "time", "horizon_days": 7, "folds": 2},
        "retrievers": {name: {} for name in RETRIEVERS} | {"recent": {"kind": "popularity", "half_life_days": 5}},
        "features": EVERYTHING,
        "scorer": {"kind": "logistic"},
        "rules": {"seen": "keep"},
    }
)


def model_at_the_cut(log, split, as_of):
    """Cut, fit everything, rank: what the model holds, and what it answers."""
    fold = holdout(log, split, as_of)
    prices = [2.0 + item for item in range(8)]
    embeddings = Embeddings(random_vectors(8), catalog_of(8, price=prices, brand=list("aabbccdd")))
    with threadpool_limits(1):  # else BLAS threads wait for each other on a busy machine
        model = fit(Plan.of(SETTINGS.model_copy(update={"split": split})), fold.known, embeddings, fold.as_of)
    ranking = model.rank(fold.histories(np.arange(20), 50), 5)
    return contents(model) | {"item": ranking.item, "score": ranking.score}


@cache
def with_one_event_after_the_cut():
    return model_at_the_cut(past_and([(0, 0, 0)]), days(10 + 1 / DAY), CUT + 10 * DAY + 1)


@settings(max_examples=3, deadline=None)
@given(futures)
def test_no_event_from_the_cut_on_reaches_a_model_fitted_at_it(future):
    same(with_one_event_after_the_cut(), model_at_the_cut(past_and(future), days(10 + 1 / DAY), CUT + 10 * DAY + 1))


@settings(max_examples=3, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=20, max_size=20))
def test_no_label_nor_later_event_reaches_a_model_fitted_before_it(items):
    views = [(user, item, CUT + 5, 1.0, False) for user, item in enumerate(items)]
    bought = [[(user, item, CUT) for user, item in enumerate(labels)] for labels in ([0] * 20, items)]
    past = rows_of(past_and([]))
    one, other = (model_at_the_cut(log_of(past + rows, 20), LAST, None) for rows in (bought[0], bought[1] + views))
    same(one, other)


def test_every_retriever_and_feature_is_fitted_on_what_was_known_alone():
    """The same proof one member at a time, so that a leak is named."""
    states = []
    for future in ([(0, 0, 0)], [(user, 7, user) for user in range(20)]):
        known = holdout(past_and(future), days(1), CUT + DAY).known
        states.append(state_of(known, 8, CUT, price=[2.0] * 8))
    for name, retriever in RETRIEVERS.items():
        one, other = (retrieval_of(state, **{name: retriever()}).fitted[name].arrays() for state in states)
        same(one, other)
    prepared = [Featurizer.fit(EVERYTHING, state).prepared for state in states]
    for name in EVERYTHING:
        same(prepared[0][name], prepared[1][name])


# As if new


@quick
@given(logs(min_size=2), st.integers(0, 8), st.sets(st.integers(0, N_ITEMS - 1)))
def test_items_as_if_new_are_known_to_nobody_and_label_first_times_only(log, cut, new):
    known, labels = log.take(log.time < cut), log.take(log.time >= cut)
    fold = Fold(known, labels, np.full(N_USERS, cut), cut)
    hidden = hide_items(fold, np.isin(np.arange(N_ITEMS), list(new)))
    before, after = sides(fold)
    had = {row[:2] for row in before}
    assert sides(hidden) == (
        [row for row in before if row[1] not in new],
        [row for row in after if row[1] not in new or row[:2] not in had],
    )
    assert hidden.as_of == cut
    assert hidden.moment is fold.moment
