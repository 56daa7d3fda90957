"""What hangs on the order of rows: worlds in which it is all, nothing, or only that of ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import LeaveLastOut, RandomHoldout, TimeSplit
from recsys.evaluation.row_order import count_ties, describe_row_order, measure_row_order
from recsys.tables.split import holdout, shuffle_events
from recsys.types import DAY, Interactions

LAST = LeaveLastOut(kind="leave_last_out")
N_ITEMS, LENGTH = 100, 6


def log_of(items, times=None):
    n_users, length = items.shape
    user = np.repeat(np.arange(n_users), length).astype(np.int32)
    time = np.arange(items.size, dtype=np.int64) if times is None else times
    ones = np.ones(items.size, dtype=np.float32)
    return Interactions(user, items.ravel().astype(np.int32), time, ones, ones > 0, n_users)


@pytest.fixture(scope="module")
def drawn():
    """Items that tell nothing of each other."""
    rng = np.random.default_rng(3)
    return np.stack([rng.choice(N_ITEMS, LENGTH, replace=False) for _ in range(300)])


def measured(log, clock="order", split=LAST):
    return measure_row_order(log, holdout(log, split), split, clock, N_ITEMS, drop_seen=True, seed=0)


def test_rows_sorted_by_item_flatter_a_model_of_order(drawn):
    found = measured(log_of(np.sort(drawn, axis=1)))  # the greatest id is held out: few items are ever right
    assert found["as_it_stands"] > 1.5 * found["shuffled"]
    text = describe_row_order(found)
    assert f"ndcg@10 {found['as_it_stands']:.4f} with the rows as they stand, {found['shuffled']:.4f} with" in text
    assert "judge by `split: {kind: random}`" in text


def test_little_hangs_on_the_order_where_items_go_together_in_any():
    rng = np.random.default_rng(4)
    groups = rng.integers(10, size=(300, 1)) * 10 + np.argsort(rng.random((300, 10)), axis=1)[:, :LENGTH]
    assert describe_row_order(measured(log_of(groups))).endswith("little hangs on it.")


def test_under_a_clock_only_ties_are_shuffled(drawn):
    days = np.tile(np.repeat(np.arange(LENGTH // 2), 2), len(drawn)) * DAY
    log = log_of(np.sort(drawn, axis=1), days)
    found = measured(log, "time")
    assert (found["events"], found["edge_users"], found["edge"]) == (1.0, len(drawn), 1.0)
    text, changed = describe_row_order(found), found["shuffled"] < 0.9 * found["as_it_stands"]
    assert "For 300 users (100.0%) the event held out has the moment of the newest known one" in text
    assert ("judge by `split: {kind: time}`" in text) == changed


def test_nothing_is_said_where_the_order_of_rows_decides_no_label(drawn):
    moments = np.tile(np.arange(LENGTH), len(drawn)) * DAY
    log = log_of(drawn, moments)
    assert count_ties(log, holdout(log, LAST)) == {"events": 0.0, "edge_users": 0, "edge": 0.0}
    assert measured(log, "time") == {}
    assert measured(log, "time", TimeSplit(kind="time", horizon_days=2)) == {}
    assert measured(log, "order", RandomHoldout(kind="random")) == {}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5)), min_size=1), st.booleans())
def test_shuffled_events_stay_with_their_user(events, ties_only):
    user, time, item = np.array(sorted(events, key=lambda event: event[:2])).T
    ones = np.ones(len(user), dtype=np.float32)
    log = Interactions(user.astype(np.int32), item.astype(np.int32), time.astype(np.int64), ones, ones > 0, 4)
    other, again = (shuffle_events(log, 7, ties_only) for _ in range(2))
    assert (other.item == again.item).all()
    assert (other.time == log.time).all()
    where = (log.user, log.time) if ties_only else (log.user,)
    assert sorted(zip(*where, other.item, strict=True)) == sorted(zip(*where, log.item, strict=True))
