"""Lists of exactly k: best first, nothing blocked, nothing twice."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import lists_of

from recsys.ragged import offsets_of, owners_of
from recsys.ranking.rules import best, fill
from recsys.types import Candidates, Ranking


@st.composite
def rankings(draw):
    """Candidates of three queries over eight items with scores, what is blocked, and how popular each item is."""
    lists = [sorted(draw(st.sets(st.integers(0, 7)))) for _ in range(3)]
    score = draw(st.lists(st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.5, 3.0]), min_size=24, max_size=24))
    blocked_pairs = draw(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 7))))
    blocked_pairs = {(user, item) for user, item in blocked_pairs if item not in lists[user]}
    return (
        lists,
        score[: sum(map(len, lists))],
        blocked_pairs,
        draw(st.permutations(range(8))),
        draw(st.integers(1, 10)),
    )


@settings(max_examples=80, deadline=None)
@given(rankings())
def test_lists_are_exactly_k_best_first_without_blocked_or_double_items(case):
    lists, score, blocked_pairs, popular, k = case
    offsets, item = offsets_of(np.array([len(one) for one in lists])), np.array([i for one in lists for i in one])
    found = np.arange(len(item), dtype=np.int32)[:, None]
    keys = np.array(sorted(8 * user + i for user, i in blocked_pairs), np.int64)
    top = best(Candidates(offsets, item.astype(np.int32), found), np.array(score, np.float32), k)
    ranking = fill(top, np.array(popular, np.int32), keys, 8, k)
    by_user = np.split(np.array(score), offsets[1:-1])
    for user, items in enumerate(lists_of(ranking)):
        order = sorted(range(len(lists[user])), key=lambda n, user=user: -by_user[user][n])[:k]
        expected = [lists[user][n] for n in order]
        free = [i for i in popular if i not in expected and (user, i) not in blocked_pairs]
        assert items == expected + free[: k - len(expected)]
        assert len(items) == min(k, 8 - sum(query == user for query, _ in blocked_pairs))
        span = slice(*ranking.offsets[user : user + 2])
        scores, traces = ranking.score[span], ranking.found[span, 0]
        assert (np.diff(scores) <= 0).all()
        assert scores[: len(order)].tolist() == [by_user[user][n] for n in order]
        assert (np.diff(scores[max(len(order) - 1, 0) :]) < 0).all(), "what fills scores below the list"
        assert traces.tolist() == [offsets[user] + n for n in order] + [-1] * (len(items) - len(order))
    assert owners_of(ranking.offsets).dtype == np.int64


def test_a_list_that_is_long_enough_is_left_alone():
    top = Ranking(np.array([0, 2]), np.int32([4, 1]), np.float32([2, 1]), np.zeros((2, 1), np.int32))
    assert fill(top, np.arange(8, dtype=np.int32), np.zeros(0, np.int64), 8, 2) is top
