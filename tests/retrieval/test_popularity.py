"""Popularity and repetition against plain loops."""

import numpy as np
from answers import expected_scores, grid
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    DAY,
    N_ITEMS,
    lists_of,
    log_of,
    logs,
    queries,
    rows_of,
    state_of,
)

from recsys.retrieval.popularity import Popularity
from recsys.retrieval.repeat import Repeat

quick = settings(max_examples=20, deadline=None)


@quick
@given(logs(), queries(), st.sampled_from([None, 2 / DAY]))
def test_popularity_counts_weights_that_halve_with_age(log, histories, half_life):
    count = np.zeros(N_ITEMS)
    for _, item, time, weight, _ in rows_of(log):
        count[item] += weight * (1 if half_life is None else 0.5 ** ((9 - time) / 2))
    answer = Popularity(half_life_days=half_life).fit(state_of(log, N_ITEMS, 9)).ask(histories)
    np.testing.assert_allclose(grid(answer, len(histories), N_ITEMS), np.tile(count, (len(histories), 1)), rtol=1e-5)
    best = [item for item in np.argsort(-np.float32(count), kind="stable") if count[item]]
    assert lists_of(answer.top(3)) == [best[:3]] * len(histories)


@quick
@given(queries(), st.integers(1, 4))
def test_repeat_is_the_decayed_history(histories, newest):
    answer = Repeat(decay=0.5, newest=newest).fit(state_of(log_of([]), N_ITEMS)).ask(histories)
    expected = expected_scores(np.eye(N_ITEMS), histories, 0.5, newest)
    np.testing.assert_allclose(grid(answer, len(histories), N_ITEMS), expected, rtol=1e-5)


@quick
@given(logs(), st.sampled_from([1.0, 2.0]))
def test_in_a_per_user_split_events_age_back_from_the_newest_known_one(log, half_life):
    newest = int(log.time.max())
    fitted = Popularity(half_life_days=half_life / DAY).fit(state_of(log, N_ITEMS, None))
    count = np.zeros(N_ITEMS)
    for _, item, time, weight, _ in rows_of(log):
        count[item] += weight * 0.5 ** ((newest - time) / half_life)
    np.testing.assert_allclose(fitted.arrays()["count"], count, rtol=1e-5)


def test_what_is_recent_differs_from_what_is_popular_in_a_per_user_split():
    state = state_of(log_of([(user, 0, user) for user in range(3)] + [(3, 1, 40 * DAY)]), N_ITEMS)
    recent, always = (Popularity(half_life_days=days).fit(state).arrays()["count"] for days in (5, None))
    assert np.argmax(always) == 0
    assert np.argmax(recent) == 1


def test_no_events_have_no_popularity():
    assert not Popularity(half_life_days=1).fit(state_of(log_of([]), N_ITEMS)).arrays()["count"].any()
