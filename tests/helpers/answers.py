"""The scores of all pairs of an answer, what must hold of any answer, and scores by plain loops."""

from __future__ import annotations

import numpy as np
from worlds import lists_of, weights_of


def grid(answer, n_lists, n_items):
    """The score of every pair `(U, I)`."""
    owner, item = np.repeat(np.arange(n_lists), n_items), np.tile(np.arange(n_items, dtype=np.int32), n_lists)
    return answer.score(owner, item).reshape(n_lists, n_items)


def check_answer(answer, n_lists, n_items, k):
    """`top` is the best of what `score` says: sorted, distinct, in range, at most `k`, nothing better left out."""
    hits, scores = answer.top(k), grid(answer, n_lists, n_items)
    assert np.isfinite(scores).all()
    assert scores.dtype == hits.score.dtype == np.float32
    assert hits.offsets[0] == 0
    assert len(hits.offsets) == n_lists + 1
    for user, items in enumerate(lists_of(hits)):
        scored = hits.score[hits.offsets[user] : hits.offsets[user + 1]]
        assert len(items) == len(set(items)) <= k
        assert all(0 <= item < n_items for item in items)
        assert (np.diff(scored) <= 0).all()
        np.testing.assert_allclose(scored, scores[user, items], rtol=1e-5, atol=1e-6)
        left = np.delete(scores[user], items)
        worst = scored[-1] if len(items) == k else 0
        assert not (left > worst + 1e-5).any(), "nothing with more evidence is left out"
    return hits


def expected_scores(matrix, histories, decay, newest):
    """Sum the matrix rows of the newest events, decayed: the scores of every pair `(U, I)`."""
    expected = np.zeros((len(histories), matrix.shape[1]))
    for user, item, weight in weights_of(histories, decay, newest):
        expected[user] += weight * matrix[item]
    return expected


def keep_best(matrix, keep):
    """Keep the greatest positive values of each row of a dense matrix, the first of equals."""
    kept = np.zeros_like(matrix)
    for row, values in enumerate(matrix):
        best = [j for j in np.argsort(-values, kind="stable")[:keep] if values[j] > 0]
        kept[row, best] = values[best]
    return kept
