"""Fusion: one order of the same candidates from several scores that share no scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import FloatArray, LongArray
from recsys.ragged import owners_of


def standard_sum(offsets: LongArray, scores: Sequence[FloatArray]) -> FloatArray:
    """Sum several scores of each candidate, each in standard deviations from the mean of its query's list.

    CombSUM (Fox and Shaw 1994, "Combination of Multiple Searches") over scores of zero mean and unit variance
    (Montague and Aslam 2001, "Relevance Score Normalization for Metasearch"). A score that is the same for all
    candidates of a list adds nothing. Ranks alone, as in reciprocal rank fusion, do worse: see docs/log.md.

    Args:
        offsets: Offsets of the queries' candidates `(U + 1,)`.
        scores: Scores of all candidates, `(n,)` each.

    Returns:
        `(n,)` float32.
    """
    owner, lists = owners_of(offsets), len(offsets) - 1
    size = np.maximum(np.diff(offsets), 1)
    total = np.zeros(len(owner))
    for score in scores:
        mean = np.bincount(owner, weights=score, minlength=lists) / size
        centred = score - mean[owner]
        spread = np.sqrt(np.bincount(owner, weights=centred**2, minlength=lists) / size)
        total += centred / np.where(spread > 1e-6, spread, np.inf)[owner]
    return total.astype(np.float32)
