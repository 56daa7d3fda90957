"""Metrics of ranked lists, one function each, vectorised over users.

A metric is called with

- `hits` `(U, K)`: whether the item at each place of a user's list is relevant,
- `n_relevant` `(U,)`: how many items are relevant to each user, at least 1,
- `k`: how many places to judge,

and returns one value for each user `(U,)` float64, from 0 to 1. Its name is that of the function.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import BoolArray, LongArray
from recsys.registry import Family

Metric = Callable[[BoolArray, LongArray, int], NDArray[np.float64]]

METRICS: Family[Metric] = Family("metric", "recsys.evaluation.metrics", group="recsys.metrics")


@METRICS.register
def recall(hits: BoolArray, n_relevant: LongArray, k: int) -> NDArray[np.float64]:
    """Share of the user's relevant items that the first `k` hold."""
    return np.asarray(hits[:, :k].sum(axis=1) / n_relevant)


@METRICS.register
def ndcg(hits: BoolArray, n_relevant: LongArray, k: int) -> NDArray[np.float64]:
    """Discounted cumulative gain with gains 0 and 1, divided by the greatest possible one.

    Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques".
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate(([0], np.cumsum(discount)))[np.minimum(n_relevant, k)]
    return hits[:, :k] @ discount[: hits.shape[1]] / ideal


@METRICS.register
def mrr(hits: BoolArray, n_relevant: LongArray, k: int) -> NDArray[np.float64]:
    """Reciprocal rank: 1 / place of the first relevant item, 0 where the first `k` hold none."""
    first = np.argmax(hits[:, :k], axis=1)
    return np.where(hits[:, :k].any(axis=1), 1 / (first + 1), 0)


@METRICS.register
def hit_rate(hits: BoolArray, n_relevant: LongArray, k: int) -> NDArray[np.float64]:
    """1 where the first `k` hold any relevant item."""
    return np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)
