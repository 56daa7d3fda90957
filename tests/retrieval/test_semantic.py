"""Text vectors of the history against brute force."""

from dataclasses import replace

import numpy as np
from answers import expected_scores, grid
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    N_ITEMS,
    asks,
    checkerboard,
    lists_of,
    log_of,
    queries,
    random_vectors,
    state_of,
)

from recsys.arrays import unit_rows
from recsys.retrieval.semantic import Semantic

quick = settings(max_examples=20, deadline=None)


@quick
@given(queries(), st.sampled_from([0.3, 1.0]), st.integers(1, 6), st.integers(1, N_ITEMS))
def test_semantic_is_brute_force(histories, decay, newest, k):
    vectors = random_vectors(N_ITEMS, 4)
    state = state_of(log_of([(0, 0, 0)]), N_ITEMS, vectors=vectors)
    answer = Semantic(decay=decay, newest=newest).fit(state).ask(histories)
    query = expected_scores(vectors, histories, decay, newest)
    expected = unit_rows(query) @ vectors.T
    np.testing.assert_allclose(grid(answer, len(histories), N_ITEMS), expected, atol=1e-5)
    hits = answer.top(k)
    for user, items in enumerate(lists_of(hits)):
        assert len(items) == (k if query[user].any() else 0)
        best = np.sort(expected[user])[::-1][: len(items)]
        np.testing.assert_allclose(hits.score[hits.offsets[user] : hits.offsets[user + 1]], best, atol=1e-5)


def test_semantic_asks_with_the_behaviour_text_where_there_is_one():
    vectors = np.eye(4, dtype=np.float32)
    text = np.array([[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    state = state_of(log_of([(0, 0, 0)]), 4, vectors=vectors)
    histories = asks([[0], [1], []], text=text)
    by_text = Semantic(query="text").fit(state)
    assert [items[0] for items in lists_of(by_text.ask(histories).top(1))] == [2, 1, 3]
    assert lists_of(by_text.ask(replace(histories, text_vectors=None)).top(1)) == [[0], [1], []]
    assert lists_of(Semantic().fit(state).ask(histories).top(1)) == [[0], [1], []]


def test_a_retriever_of_no_depth_only_scores():
    world = checkerboard()
    full, scoring = Semantic().fit(world.state), Semantic(depth=0).fit(world.state)
    assert scoring.index is None
    assert scoring.ask(world.histories).top(5).offsets.tolist() == [0] * 25
    np.testing.assert_array_equal(*(grid(one.ask(world.histories), 24, 12) for one in (full, scoring)))
