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
