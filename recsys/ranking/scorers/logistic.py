"""Logistic regression: listwise (conditional logit) or pointwise."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import FloatArray, LongArray
from recsys.config import Choice, Range
from recsys.progress import Progress
from recsys.ragged import owners_of
from recsys.ranking.scorers.base import require_packages
from recsys.ranking.scorers.dense import LEAST, LIMIT, ROWS, DenseScorer, StoredAsDense, standardise
from recsys.ranking.scorers.registry import SCORERS

log = logging.getLogger(__name__)


@SCORERS.register
@dataclass(frozen=True)
class Logistic(StoredAsDense):
    """Logistic regression, piecewise linear in each feature.

    `listwise` is the conditional logit (McFadden 1974, "Conditional logit analysis of qualitative choice behavior"): it
    learns which candidate of a list was chosen. Where several were, each counts in full and is set against the
    candidates that were not chosen, never against the other choices. `pointwise` is scikit-learn's, each candidate a
    row of its own: the score is a log odds, as in the articles the project began from. It ranks far worse.

    Attributes:
        loss: `listwise` or `pointwise`.
        c: Inverse strength of the L2 penalty.
        knots: Quantiles of a feature at which its slope may change: a linear spline, made of a hinge max(0, x - knot)
            for each beside x. Without knots the model is linear. Three take ten times as long to fit; docs/log.md says
            where they pay.
        negatives: About how many unlabelled candidates of each list to learn from; 0 for all.
    """

    name: ClassVar[str] = "logistic"

    loss: Literal["listwise", "pointwise"] = "listwise"
    c: Annotated[float, Range(0.001, 100, log=True)] = 1.0
    knots: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Choice(((), (0.5, 0.8, 0.95)))] = ()
    negatives: int = 0

    @property
    def needs(self) -> Mapping[str, str]:
        return {"sklearn": "train"} if self.loss == "pointwise" else {"scipy": "train"}

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> DenseScorer:
        require_packages(self)
        z, mean, scale = standardise(x)
        bends = _bends(z, self.knots)
        weight, bias = (
            self._pointwise(z, y, bends) if self.loss == "pointwise" else self._listwise(z, offsets, y, bends)
        )
        weights, biases = _as_layers(bends, weight.astype(np.float32), bias)
        return DenseScorer(mean, scale, weights, biases)

    def _pointwise(self, z: FloatArray, y: FloatArray, bends: FloatArray) -> tuple[NDArray[np.float64], float]:
        if (y > 0).all():
            log.warning("scorer 'logistic' learns nothing: all %s candidates of its lists are labels", len(y))
            return np.zeros(z.shape[1] * (1 + len(bends))), 0.0
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.c, max_iter=500).fit(_hinged(z, bends), y > 0, np.where(y > 0, y, 1))
        return model.coef_[0], float(model.intercept_[0])

    def _listwise(self, z: FloatArray, offsets: LongArray, y: FloatArray, bends: FloatArray,
                  ) -> tuple[NDArray[np.float64], float]:  # fmt: skip
        from scipy.optimize import minimize

        starts, owner, chosen = offsets[:-1], owners_of(offsets), y > 0
        list_of_choice, weight_of_choice = owner[chosen], y[chosen]
        # The hinges of all rows at once would take as much memory as the features, once a knot.
        blocks = [slice(start, start + ROWS) for start in range(0, len(z), ROWS)]

        def loss(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            single = weight.astype(np.float32)
            logit = np.concatenate([_hinged(z[block], bends) @ single for block in blocks])
            logit -= np.maximum.reduceat(logit, starts)[owner]
            odds = np.exp(logit)
            others = np.maximum(np.add.reduceat(np.where(chosen, 0, odds), starts), LEAST)
            total = odds[chosen] + others[list_of_choice]
            value = float(weight_of_choice @ (np.log(total) - logit[chosen])) + 0.5 / self.c * float(weight @ weight)
            error = odds * np.bincount(list_of_choice, weight_of_choice / total, len(starts)).astype(np.float32)[owner]
            error[chosen] = weight_of_choice * (odds[chosen] / total - 1)
            slope = weight / self.c
            for block in blocks:
                slope += error[block] @ _hinged(z[block], bends)
            return value, slope

        start = np.zeros(z.shape[1] * (1 + len(bends)))
        return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x, 0.0


def _bends(z: FloatArray, knots: Sequence[float]) -> FloatArray:
    """The values at which each standardised feature `(n, f)` may bend `(knots, f)`: its quantiles."""
    if not knots:
        return np.zeros((0, z.shape[1]), dtype=np.float32)
    sample = z[:: max(1, len(z) // 100_000)]
    return np.quantile(sample, knots, axis=0).astype(np.float32)


def _hinged(z: FloatArray, bends: FloatArray) -> FloatArray:
    """Put the hinges of each knot beside the features: `(n, f)` to `(n, f * (1 + knots))`."""
    return np.concatenate([z, *(np.maximum(z - bend, 0) for bend in bends)], axis=1) if len(bends) else z


def _as_layers(bends: FloatArray, weight: FloatArray, bias: float) -> tuple[list[FloatArray], list[FloatArray]]:
    """Write a model that is linear in `_hinged` features as weights and biases of dense layers with ReLU between."""
    last, end = weight[None, :, None], np.full((1, 1), bias, np.float32)
    if not len(bends):
        return [last], [end]
    # Lifted above the lowest value that it can have, a feature passes the ReLU unchanged.
    eye = np.eye(bends.shape[1], dtype=np.float32)
    first = np.concatenate([eye] * (1 + len(bends)), axis=1)[None]
    lift = np.concatenate([np.full(bends.shape[1], LIMIT, np.float32), -bends.ravel()])[None]
    return [first, last], [lift, end - LIMIT * weight[: bends.shape[1]].sum()]
