"""Pairs of queries and items as keys, lists cut to their best, and unions of several lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    N_ITEMS,
    hits_of,
    lists_of,
    queries,
)

from recsys.ragged import find_keys, order_by_score, owners_of, pair_keys, stable_order
from recsys.retrieval.candidates import remove_blocked, seen_keys, top_of_pairs, union

quick = settings(max_examples=20, deadline=None)


scores = st.floats(allow_nan=False, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0])
pairs = st.lists(st.tuples(st.integers(0, 3), scores), max_size=40)
ragged = st.lists(st.lists(st.integers(0, 7), unique=True, max_size=8), min_size=3, max_size=3)


@quick
@given(pairs)
def test_order_by_score_is_a_stable_sort(rows):
    owner, score = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float32)
    expected = sorted(range(len(rows)), key=lambda n: (owner[n], -float(score[n])))
    assert order_by_score(owner, score).tolist() == expected


@pytest.mark.parametrize("highest", [5, 1 << 30, (1 << 63) - 1])  # the last leaves no room to pack a place beside
def test_stable_order_is_that_of_a_stable_sort(highest):
    some = np.random.default_rng(0).integers(0, highest, 40, endpoint=True)
    keys = np.concatenate([some, [highest], some])
    np.testing.assert_array_equal(stable_order(keys), np.argsort(keys, kind="stable"))
    assert stable_order(keys[:0]).tolist() == []


@quick
@given(pairs, st.integers(1, 5))
def test_top_of_pairs_keeps_the_best_of_each(rows, k):
    owner, score = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float32)
    found = top_of_pairs(owner, np.arange(len(rows), dtype=np.int32), score, 4, k)
    for user, items in enumerate(lists_of(found)):
        own = [n for n in range(len(rows)) if owner[n] == user]
        assert items == sorted(own, key=lambda n: -float(score[n]))[:k]


@quick
@given(st.sets(st.integers(0, 40)), st.lists(st.integers(0, 40)))
def test_find_keys_is_a_lookup(keys, wanted):
    place = {key: n for n, key in enumerate(sorted(keys))}
    found = find_keys(np.array(sorted(keys), np.int64), np.array(wanted, np.int64))
    assert found.tolist() == [place.get(key, -1) for key in wanted]


@quick
@given(ragged, st.sets(st.tuples(st.integers(0, 2), st.integers(0, 7))), st.integers(0, 8))
def test_without_leaves_out_then_cuts(lists, blocked_pairs, k):
    keys = np.array(sorted(8 * user + item for user, item in blocked_pairs), np.int64)
    found = remove_blocked(hits_of(lists), keys, 8, k)
    assert lists_of(found) == [[i for i in one if (user, i) not in blocked_pairs][:k] for user, one in enumerate(lists)]
    scores = {(user, i): 100.0 - place for user, one in enumerate(lists) for place, i in enumerate(one)}
    owner = owners_of(found.offsets).tolist()
    assert found.score.tolist() == [scores[pair] for pair in zip(owner, found.item.tolist(), strict=True)]


@quick
@given(st.lists(ragged, max_size=3))
def test_union_is_the_union_of_sets_and_remembers_the_places(parts):
    joined = union([hits_of(lists) for lists in parts], 3, 8)
    expected = [sorted({i for lists in parts for i in lists[user]}) for user in range(3)]
    assert lists_of(joined) == expected
    assert joined.found.shape == (len(joined.item), len(parts))
    for user, item, found in zip(joined.owner, joined.item, joined.found, strict=True):
        assert found.tolist() == [ls[user].index(item) if item in ls[user] else -1 for ls in parts]


@quick
@given(queries())
def test_seen_keys_are_the_pairs_of_the_histories(histories):
    pairs = {(int(u), int(i)) for u, i in zip(histories.owner, histories.item, strict=True)}
    assert seen_keys(histories, N_ITEMS).tolist() == sorted(N_ITEMS * u + i for u, i in pairs)
    assert pair_keys(np.int32([2**20]), np.int32([5]), 2**20).tolist() == [2**40 + 5], "no overflow"
