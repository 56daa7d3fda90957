"""Calibration: from a score, which only orders one list, to the probability of what the bundle states.

A listwise score is known up to a constant a list, so what counts is a candidate's share of its list (softmax). How many
labels a list may expect hangs on how active its user is. A logistic (Platt 1999) joins the two; an isotonic regression
(Zadrozny & Elkan 2002) over groups of equal expected labels then bends it, its steps joined by lines, so that of two
scores of one list the higher has the higher probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.ragged import moments_of
from recsys.types import DAY, Candidates, Histories

GROUPS = 20
LEAST = 50  # labels that a group expects at least
RIDGE = 1e-3

Doubles = NDArray[np.float64]


def log_totals(candidates: Candidates, score: FloatArray) -> Doubles:
    """Return the log of the sum of exp(score) over each query's candidates `(U,)`; -inf for an empty list."""
    n_lists, owner = len(candidates.offsets) - 1, candidates.owner
    top = np.full(n_lists, -np.inf)
    np.maximum.at(top, owner, score)
    total = np.bincount(owner, weights=np.exp(score - top[owner]), minlength=n_lists)
    return np.log(total, out=np.full(n_lists, -np.inf), where=total > 0) + np.where(total > 0, top, 0)


def activity(histories: Histories, horizon: int) -> Doubles:
    """Return what tells how much an query will do `(U, t)`: log counts of events and baskets, whether there are none.

    With a `horizon` (microseconds) both are counts for each horizon since the oldest event, so that they do not grow
    with the log; then follow the events within the newest horizon, and the days since the newest and the oldest event:
    frequency, recency and tenure, as in BG/NBD (Fader et al. 2005).
    """
    filled = histories.lengths > 0
    first, last = histories.offsets[:-1][filled], histories.offsets[1:][filled] - 1
    moment = moments_of(histories.offsets, histories.time)
    events, baskets = histories.lengths.astype(np.float64), np.zeros(len(histories))
    baskets[filled] = moment[last] - moment[first] + 1
    columns = [events, baskets]
    if horizon:
        since = np.zeros((2, len(histories)))
        since[:, filled] = histories.as_of[filled] - histories.time[np.stack([last, first])]
        late = histories.time >= histories.as_of[histories.owner] - horizon
        horizons = np.maximum(since[1] / horizon, 1)
        newest = np.bincount(histories.owner[late], minlength=len(histories)).astype(np.float64)
        columns = [events / horizons, baskets / horizons, newest, *(since / DAY)]
    return np.column_stack([*np.log1p(columns), ~filled])


@dataclass(frozen=True, eq=False)
class Calibrator:
    """A logistic, bent at a few places, as plain arrays.

    `weight` `(2 + t,)`: intercept, slope of the log share (not negative), one for each column of `activity`.
    `log_odds` `(g,)`, ascending, are moved by `shift` `(g,)`: linear between them, constant beyond. `horizon`
    `(1,)` is in microseconds, 0 where the event has none. Nobody counts as more active than `most` `(t,)`, the most
    that was learnt from: the log has grown older since.
    """

    weight: Doubles
    most: Doubles
    log_odds: Doubles
    shift: Doubles
    horizon: LongArray

    @classmethod
    def fit(cls, log_share: Doubles, owner: LongArray, activity: Doubles, label: BoolArray, horizon: int) -> Calibrator:
        """Learn from the candidates of whole lists `(n,)`, none left out, and the activity `(U, t)` of their owners.

        At least one candidate must be a label and one none.
        """
        x = np.column_stack([log_share, activity[owner]])
        weight = _logistic(x, label)
        if weight[1] < 0:  # the share told nothing: what is left must not turn the list round
            weight = np.insert(_logistic(x[:, 1:], label), 1, 0.0)
        return cls(weight, activity.max(axis=0), *_bends(weight[0] + x @ weight[1:], label), np.array([horizon]))

    def probability(self, log_share: NDArray[Any], owner: LongArray, histories: Histories) -> FloatArray:
        """Return the probability `(n,)` of pairs by their log share of the owner's list."""
        return self.predict_from_activity(log_share, activity(histories, int(self.horizon[0]))[owner])

    def predict_from_activity(self, log_share: NDArray[Any], active: Doubles) -> FloatArray:
        """Do as `probability` does, for pairs whose owner's activity `(n, t)` is at hand."""
        active = np.minimum(active, self.most)
        z = self.weight[0] + active @ self.weight[2:] + self.weight[1] * log_share.astype(np.float64)
        return _sigmoid(z + np.interp(z, self.log_odds, self.shift)).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that was learnt, for the bundle."""
        return {
            "weight": self.weight,
            "most": self.most,
            "log_odds": self.log_odds,
            "shift": self.shift,
            "horizon": self.horizon,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Calibrator:
        """Rebuild from what `arrays` returned."""
        return cls(arrays["weight"], arrays["most"], arrays["log_odds"], arrays["shift"], arrays["horizon"])


def _sigmoid(z: Doubles) -> Doubles:
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))


def _logistic(x: Doubles, label: BoolArray) -> Doubles:
    """Intercept and weights `(1 + f,)` by Newton's method on standardised columns, with a trace of ridge."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1)
    z = np.column_stack([np.ones(len(x)), (x - mean) / scale])
    ridge = np.full(z.shape[1], RIDGE)
    ridge[0] = 0
    weight = np.zeros(z.shape[1])
    weight[0] = np.log(label.sum() / (~label).sum())
    for _ in range(50):
        p = _sigmoid(z @ weight)
        slope = z.T @ (p - label) + ridge * weight
        step = np.linalg.solve((z * (p * (1 - p))[:, None]).T @ z + np.diag(ridge), slope)
        weight -= step
        if np.abs(step).max() < 1e-9:
            break
    weight[1:] /= scale
    weight[0] -= weight[1:] @ mean
    return weight


def _bends(z: Doubles, label: BoolArray) -> tuple[Doubles, Doubles]:
    """Where predicted log odds `(n,)` are to be moved, and by how much: rates observed, pooled until they ascend."""
    order, p = np.argsort(z, kind="stable"), _sigmoid(z)
    groups = int(np.clip(label.sum() // LEAST, 1, GROUPS))
    share = np.cumsum(p[order]) / p.sum()
    group = np.minimum((share * groups).astype(np.int64), groups - 1)
    count, told, seen = (np.bincount(group, weights=w, minlength=groups) for w in (None, p[order], label[order]))
    pools: list[tuple[float, float, float]] = []  # pairs, sum of predictions, labels (one pair as predicted added)
    for n, expected, labels in zip(count, told, seen, strict=True):
        if not n:
            continue
        pools.append((n + 1, expected + expected / n, labels + expected / n))
        while len(pools) > 1 and pools[-2][2] / pools[-2][0] >= pools[-1][2] / pools[-1][0]:
            n, expected, labels = (a + b for a, b in zip(pools.pop(-2), pools.pop(), strict=True))
            pools.append((n, expected, labels))
    pooled = np.array(pools)
    before, after = pooled[:, 1] / pooled[:, 0], pooled[:, 2] / pooled[:, 0]
    log_odds = np.log(before / (1 - before))
    return log_odds, np.log(after / (1 - after)) - log_odds
