"""Calibration: from a score, which only orders one list, to the probability of the event that the bundle states.

A listwise score is known up to a constant for each list, so a candidate's share of its list (softmax) is what counts.
How many labels a list may expect depends on how active its user is. A logistic regression joins the two (Platt 1999,
"Probabilistic Outputs for Support Vector Machines"). An isotonic regression over groups of equal expected labels then
corrects it (Zadrozny and Elkan 2002, "Transforming Classifier Scores into Accurate Multiclass Probability
Estimates"); its steps are joined by lines, so that of two scores of one list the higher has the higher probability.
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
LEAST = 50  # expected labels of a group, at least
RIDGE = 1e-3
NEWTON_STEPS = 50
TOLERANCE = 1e-9  # a step this short, in standard deviations, is the last
ROUNDING = 1e-10  # share of the loss by which rounding may seem to raise it
LEAST_CURVATURE = 1e-12  # of one pair: keeps the Hessian regular where every prediction is certain
CERTAIN = 30.0  # log odds beyond which a prediction is not corrected: it could not be told from 0 or 1

Doubles = NDArray[np.float64]


def log_totals(candidates: Candidates, score: FloatArray) -> Doubles:
    """Sum exp(score) over each query's candidates.

    Args:
        candidates: The candidates of `U` queries.
        score: Score of each candidate `(n,)`.

    Returns:
        The log of each query's sum `(U,)`; -inf for an empty list.
    """
    n_lists, owner = len(candidates.offsets) - 1, candidates.owner
    top = np.full(n_lists, -np.inf)
    np.maximum.at(top, owner, score)
    total = np.bincount(owner, weights=np.exp(score - top[owner]), minlength=n_lists)
    return np.log(total, out=np.full(n_lists, -np.inf), where=total > 0) + np.where(total > 0, top, 0)


def activity(histories: Histories, horizon: int) -> Doubles:
    """Describe how active each query's user is: what predicts how much the user will do.

    Args:
        histories: Histories of `U` queries.
        horizon: How long the event's window is, in microseconds; 0 where it has none.

    Returns:
        `(U, t)` float64. Without a horizon: log of 1 + events, log of 1 + baskets, and whether the history is empty.
        With one, events and baskets are counted per horizon since the oldest event, so that they do not grow with the
        log; then follow the logs of 1 + the events within the newest horizon and 1 + the days since the newest and
        the oldest event: frequency, recency and tenure (Fader, Hardie and Lee 2005, '"Counting Your Customers" the
        Easy Way').
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
    """A logistic regression with an isotonic correction, as plain arrays.

    Attributes:
        weight: Intercept, slope of the log share (not negative), and one for each column of `activity` `(2 + t,)`.
        most: Greatest activity that was learned from `(t,)`. Nobody counts as more active: the log has grown since.
        log_odds: Ascending log odds that are corrected `(g,)`.
        shift: What is added to them `(g,)`: linear between two, constant beyond the ends.
        horizon: Length of the event's window `(1,)` in microseconds; 0 where it has none.
    """

    weight: Doubles
    most: Doubles
    log_odds: Doubles
    shift: Doubles
    horizon: LongArray

    @classmethod
    def fit(cls, log_share: Doubles, owner: LongArray, activity: Doubles, label: BoolArray, horizon: int) -> Calibrator:
        """Learn from whole lists, no candidate left out.

        Args:
            log_share: Log of each candidate's softmax share of its list `(n,)`.
            owner: The query of each candidate `(n,)`.
            activity: What `activity` returns for the queries `(U, t)`.
            label: Whether the event happened `(n,)`; for at least one pair it did, and for one it did not.
            horizon: As in `activity`.
        """
        x = np.column_stack([log_share, activity[owner]])
        weight = _logistic(x, label)
        if weight[1] < 0:  # the share is no evidence: what is left must not reverse the list
            weight = np.insert(_logistic(x[:, 1:], label), 1, 0.0)
        return cls(weight, activity.max(axis=0), *_correction(weight[0] + x @ weight[1:], label), np.array([horizon]))

    def probability(self, log_share: NDArray[Any], owner: LongArray, histories: Histories) -> FloatArray:
        """Predict the event's probability for pairs.

        Args:
            log_share: Log of each pair's share of its query's list `(n,)`.
            owner: The query of each pair `(n,)`.
            histories: The queries' histories.

        Returns:
            `(n,)` float32.
        """
        return self.predict_from_activity(log_share, activity(histories, int(self.horizon[0]))[owner])

    def predict_from_activity(self, log_share: NDArray[Any], active: Doubles) -> FloatArray:
        """Predict as `probability` does, for pairs whose query's activity `(n, t)` is at hand."""
        active = np.minimum(active, self.most)
        z = self.weight[0] + active @ self.weight[2:] + self.weight[1] * log_share.astype(np.float64)
        return _sigmoid(z + np.interp(z, self.log_odds, self.shift)).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that was learned, for a bundle."""
        return {
            "weight": self.weight,
            "most": self.most,
            "log_odds": self.log_odds,
            "shift": self.shift,
            "horizon": self.horizon,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Calibrator:
        """Rebuild what `arrays` returned."""
        return cls(arrays["weight"], arrays["most"], arrays["log_odds"], arrays["shift"], arrays["horizon"])


def _sigmoid(z: Doubles) -> Doubles:
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))


def _logistic(x: Doubles, label: BoolArray) -> Doubles:
    """Fit intercept and weights `(1 + f,)` on standardised columns, with a slight ridge penalty.

    Newton's method, each step halved until the penalised loss falls. A whole step overshoots where a few lists stand
    far apart from the rest, such as the 100 items of one bulk order, and from there the Hessian is singular.
    """
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1)
    z = np.column_stack([np.ones(len(x)), (x - mean) / scale])
    ridge = np.full(z.shape[1], RIDGE)
    ridge[0] = 0
    weight = np.zeros(z.shape[1])
    weight[0] = np.log(label.sum() / (~label).sum())

    def loss(weight: Doubles) -> float:
        score = z @ weight
        return float(np.logaddexp(0, np.where(label, -score, score)).sum() + (ridge * weight**2).sum() / 2)

    now = loss(weight)
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(z @ weight)
        slope = z.T @ (p - label) + ridge * weight
        curvature = np.maximum(p * (1 - p), LEAST_CURVATURE)
        step = np.linalg.solve((z * curvature[:, None]).T @ z + np.diag(ridge), slope)
        highest = now * (1 + ROUNDING)
        while (after := loss(weight - step)) > highest and np.abs(step).max() >= TOLERANCE:
            step /= 2
        weight, now = weight - step, after
        if np.abs(step).max() < TOLERANCE:
            break
    weight[1:] /= scale
    weight[0] -= weight[1:] @ mean
    return weight


def _correction(z: Doubles, label: BoolArray) -> tuple[Doubles, Doubles]:
    """Find by how much to move predicted log odds `(n,)`, and where: groups are pooled until their rates ascend."""
    order, p = np.argsort(z, kind="stable"), _sigmoid(np.clip(z, -CERTAIN, CERTAIN))
    groups = int(np.clip(label.sum() // LEAST, 1, GROUPS))
    share = np.cumsum(p[order]) / p.sum()
    group = np.minimum((share * groups).astype(np.int64), groups - 1)
    weights = (None, p[order], label[order])
    count, predicted, observed = (np.bincount(group, weights=w, minlength=groups) for w in weights)
    pools: list[tuple[float, float, float]] = []  # pairs, predictions, labels; each with one pair as predicted added
    for n, expected, labels in zip(count, predicted, observed, strict=True):
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
