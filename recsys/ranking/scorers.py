"""Scorers: from the features of a candidate to the number it is ranked by.

A scorer is a dataclass of settings. `fit` learns from ragged lists of candidates, each with at least one label;
the `Fitted` result is a stack of dense layers held as plain arrays and evaluated in numpy, so serving needs
neither torch nor scikit-learn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Choice, Range
from recsys.types import FloatArray, LongArray, offsets_of, owners_of, places_of

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[str, int, int], None]

LIMIT = 10  # standard deviations from the mean, beyond which a feature is cut
ROWS = 8192
CACHED = 1024  # rows of which all that a network makes fits a cache
LEAST = 1e-30  # odds of all that was not chosen, where that is nothing


@dataclass(frozen=True, eq=False)
class FittedScorer:
    """Standardise, then dense layers with ReLU between: one layer is a linear model.

    `mean`, `scale` `(f,)`; `weights[i]` `(in, out)`, `biases[i]` `(out,)`, the last `out` being 1. Several
    networks of one shape are averaged: `weights[i]` is then `(m, in, out)`.
    """

    mean: FloatArray
    scale: FloatArray
    weights: list[FloatArray]
    biases: list[FloatArray]

    def score(self, x: FloatArray) -> FloatArray:
        """Return the score of each row of features `(n, f)`: `(n,)`, higher is better."""
        score = np.empty(len(x), dtype=np.float32)
        for start in range(0, len(x), CACHED):
            rows = slice(start, start + CACHED)
            z = (x[rows] - self.mean) / self.scale
            np.clip(z, -LIMIT, LIMIT, out=z)
            for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                z = np.matmul(z if depth == 0 else np.maximum(z, 0, out=z), weight)  # (m, rows, out)
                z += bias[:, None]
            score[rows] = z[:, :, 0].mean(axis=0)
        return score

    def contributions(self, x: FloatArray) -> NDArray[np.float64]:
        """Split the score of each row between its features `(n, f)`: integrated gradients (Sundararajan et al. 2017).

        The path runs from the training mean to the row, in standardised and clipped features. Between the finitely many
        points where a unit opens or closes the gradient is constant, so the integral is a sum and exact: a row's
        contributions add up to its score less the score of the mean, but for the rounding of float32 scores.
        """
        z = np.clip((x - self.mean) / self.scale, -LIMIT, LIMIT).astype(np.float64)
        total = np.zeros_like(z)
        members = self.weights[0].shape[0]
        for member in range(members):
            weights = [weight[member].astype(np.float64) for weight in self.weights]
            biases = [bias[member].astype(np.float64) for bias in self.biases]
            total += _path_gradient(z, weights, biases)
        return z * total / members

    def arrays(self) -> Arrays:
        """Return all weights as plain arrays, for the bundle."""
        named: Arrays = {"mean": self.mean, "scale": self.scale}
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"weight{depth}": weight, f"bias{depth}": bias}
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> FittedScorer:
        """Rebuild from what `arrays` returned."""
        depth = sum(name.startswith("weight") for name in arrays)
        return cls(arrays["mean"], arrays["scale"], [arrays[f"weight{i}"] for i in range(depth)],
                   [arrays[f"bias{i}"] for i in range(depth)])  # fmt: skip


def _path_gradient(z: NDArray[np.float64], weights: list[Any], biases: list[Any]) -> NDArray[np.float64]:
    """Mean gradient of one network on the straight way from 0 to each row of `z` `(n, f)`: `(n, f)`."""
    rows = len(z)
    slope = z @ weights[0]  # the first layer is linear in the share of the way that is done

    def hidden(share: NDArray[np.float64], depth: int) -> NDArray[np.float64]:
        """What goes into the units of a hidden layer at shares `(n, s)` of the way: `(n * s, h)`."""
        layer = (share[:, :, None] * slope[:, None, :] + biases[0]).reshape(share.size, slope.shape[1])
        for weight, bias in zip(weights[1 : depth + 1], biases[1 : depth + 1], strict=True):
            layer = np.maximum(layer, 0, out=layer) @ weight + bias
        return layer

    cuts = np.tile(np.array([0.0, 1.0]), (rows, 1))
    for depth in range(len(weights) - 1):
        # Between two cuts this layer is linear, so each of its units crosses zero at most once.
        unit = hidden(cuts, depth).reshape(*cuts.shape, len(biases[depth]))
        row, piece, number = np.nonzero(unit[:, :-1] * unit[:, 1:] < 0)
        before, after = unit[row, piece, number], unit[row, piece + 1, number]
        start, end = cuts[row, piece], cuts[row, piece + 1]
        counts = np.bincount(row, minlength=rows)
        kinks = np.ones((rows, counts.max(initial=0)))  # one more cut at the end cuts nothing
        kinks[row, places_of(offsets_of(counts))] = start + (end - start) * before / (before - after)
        cuts = np.sort(np.concatenate([cuts, kinks], axis=1))
    share = (cuts[:, 1:] + cuts[:, :-1]) / 2
    gradient = np.diff(cuts).reshape(-1, 1)
    for depth in range(len(weights) - 2, -1, -1):
        gradient = gradient @ weights[depth + 1].T * (hidden(share, depth) > 0)
    return gradient.reshape(*share.shape, slope.shape[1]).sum(axis=1) @ weights[0].T


class Scorer(Protocol):
    """Settings that can be fitted to ragged lists of labelled candidates."""

    @property
    def negatives(self) -> int:
        """About how many unlabelled candidates of each list to learn from; 0 for all."""

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> FittedScorer:
        """Learn from features `(n, f)`, list offsets `(L + 1,)` and labels `(n,)`: 0, or how much the choice counts."""


def _moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    blocks = [slice(start, start + ROWS) for start in range(0, len(x), ROWS)]  # all of x in float64 would be too much
    mean = sum(x[block].sum(axis=0, dtype=np.float64) for block in blocks) / len(x)
    scale = np.sqrt(sum(((x[block] - mean) ** 2).sum(axis=0) for block in blocks) / len(x)).astype(np.float32)
    return mean.astype(np.float32), np.where(scale > 1e-6, scale, 1).astype(np.float32)


def _standardised(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    mean, scale = _moments(x)
    z = x - mean
    z /= scale
    return np.clip(z, -LIMIT, LIMIT, out=z), mean, scale


@dataclass(frozen=True)
class Logistic:
    """Logistic regression, piecewise linear in each feature.

    `loss: pointwise` is scikit-learn's, each candidate a row of its own: the score is a log odds, as in the
    articles the project began from. `loss: listwise` is the conditional logit (McFadden 1974), which learns which
    candidate of a list was chosen, and ranks far better. Where several were, each counts in full and is set against the
    candidates that were not chosen, never against the other choices. `c` is the inverse strength of the L2 penalty. At
    the `knots`, quantiles of a feature, its slope may change (a linear spline, as a hinge max(0, x - knot) beside x);
    without knots the model is linear. They take ten times as long to fit: see docs/log.md for where they pay.
    """

    loss: Literal["listwise", "pointwise"] = "listwise"
    c: Annotated[float, Range(0.001, 100, log=True)] = 1.0
    knots: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Choice(((), (0.5, 0.8, 0.95)))] = ()
    negatives: int = 0

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> FittedScorer:
        z, mean, scale = _standardised(x)
        bends = _bends(z, self.knots)
        weight, bias = (
            self._pointwise(z, y, bends) if self.loss == "pointwise" else self._listwise(z, offsets, y, bends)
        )
        weights, biases = _as_layers(bends, weight.astype(np.float32), bias)
        return FittedScorer(mean, scale, weights, biases)

    def _pointwise(self, z: FloatArray, y: FloatArray, bends: FloatArray) -> tuple[NDArray[np.float64], float]:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.c, max_iter=500).fit(_hinged(z, bends), y > 0, np.where(y > 0, y, 1))
        return model.coef_[0], float(model.intercept_[0])

    def _listwise(self, z: FloatArray, offsets: LongArray, y: FloatArray, bends: FloatArray,
                  ) -> tuple[NDArray[np.float64], float]:  # fmt: skip
        from scipy.optimize import minimize

        starts, owner, chosen = offsets[:-1], owners_of(offsets), y > 0
        of_chosen, worth = owner[chosen], y[chosen]
        # The hinges of all rows at once would take as much memory as the features, once a knot.
        blocks = [slice(start, start + ROWS) for start in range(0, len(z), ROWS)]

        def loss(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            single = weight.astype(np.float32)
            logit = np.concatenate([_hinged(z[block], bends) @ single for block in blocks])
            logit -= np.maximum.reduceat(logit, starts)[owner]
            odds = np.exp(logit)
            others = np.maximum(np.add.reduceat(np.where(chosen, 0, odds), starts), LEAST)
            total = odds[chosen] + others[of_chosen]
            value = float(worth @ (np.log(total) - logit[chosen])) + 0.5 / self.c * float(weight @ weight)
            error = odds * np.bincount(of_chosen, worth / total, len(starts)).astype(np.float32)[owner]
            error[chosen] = worth * (odds[chosen] / total - 1)
            slope = weight / self.c
            for block in blocks:
                slope += error[block] @ _hinged(z[block], bends)
            return value, slope

        start = np.zeros(z.shape[1] * (1 + len(bends)))
        return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x, 0.0


def _bends(z: FloatArray, knots: Sequence[float]) -> FloatArray:
    """Where each standardised feature may bend `(knots, f)`: its quantiles."""
    if not knots:
        return np.zeros((0, z.shape[1]), dtype=np.float32)
    sample = z[:: max(1, len(z) // 100_000)]
    return np.quantile(sample, knots, axis=0).astype(np.float32)


def _hinged(z: FloatArray, bends: FloatArray) -> FloatArray:
    """Put the hinges of each knot beside the features: `(n, f)` to `(n, f * (1 + knots))`."""
    return np.concatenate([z, *(np.maximum(z - bend, 0) for bend in bends)], axis=1) if len(bends) else z


def _as_layers(bends: FloatArray, weight: FloatArray, bias: float) -> tuple[list[FloatArray], list[FloatArray]]:
    """Write a model that is linear in `_hinged` features as dense layers with ReLU between."""
    last, end = weight[None, :, None], np.full((1, 1), bias, np.float32)
    if not len(bends):
        return [last], [end]
    # A feature itself passes the ReLU unharmed where it is lifted above the lowest value it can have.
    eye = np.eye(bends.shape[1], dtype=np.float32)
    first = np.concatenate([eye] * (1 + len(bends)), axis=1)[None]
    lift = np.concatenate([np.full(bends.shape[1], LIMIT, np.float32), -bends.ravel()])[None]
    return [first, last], [lift, end - LIMIT * weight[: bends.shape[1]].sum()]


@dataclass(frozen=True)
class MLP:
    """A small multilayer perceptron under the listwise loss of `Logistic`, trained by Adam in torch.

    With one choice a list that is the softmax of ListNet (Cao et al. 2007), which with several would have the choices
    push each other down.

    A tenth of the lists is held out; training stops when their loss has not improved for `patience` epochs, and
    the best weights are kept. `members` networks from different seeds are averaged.
    """

    hidden: Annotated[tuple[int, ...], Choice(((32, 16), (64, 32), (128, 64)))] = (64, 32)
    members: int = 3
    learning_rate: Annotated[float, Range(3e-4, 1e-2, log=True)] = 0.001
    weight_decay: Annotated[float, Range(1e-6, 1e-1, log=True)] = 1e-4
    batch_lists: int = 256
    epochs: int = 80
    patience: int = 5
    negatives: int = 100

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> FittedScorer:
        import torch

        z, mean, scale = _standardised(x)
        lists = len(offsets) - 1
        fitted = []
        for member in range(self.members):
            rng = np.random.default_rng([seed, member])
            shuffled = rng.permutation(lists)
            held = max(1, lists // 10) if lists > 1 else 0
            torch.manual_seed(seed * 1000 + member)
            tick = partial(progress, f"scorer {member + 1}/{self.members}")
            fitted.append(self._train(z, offsets, y, shuffled[held:], shuffled[:held], rng, tick))
        layers = range(len(self.hidden) + 1)
        return FittedScorer(mean, scale, [np.stack([net[2 * i] for net in fitted]) for i in layers],
                            [np.stack([net[2 * i + 1] for net in fitted]) for i in layers])  # fmt: skip

    def _train(self, z: FloatArray, offsets: LongArray, y: FloatArray, learn: LongArray, held: LongArray,
               rng: np.random.Generator, tick: Callable[[int, int], None]) -> list[FloatArray]:  # fmt: skip
        """Return weight and bias of each layer in turn, as of the best held-out loss."""
        import torch
        from torch import nn
        from torch.nn.functional import softplus

        sizes = [z.shape[1], *self.hidden, 1]
        layers: list[nn.Module] = []
        for width, out in itertools.pairwise(sizes):
            layers += [nn.Linear(width, out), nn.ReLU()]
        net = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.AdamW(net.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        features, labels = torch.from_numpy(z), torch.from_numpy(y)

        def loss_of(chosen: LongArray) -> torch.Tensor:
            lengths = np.diff(offsets)[chosen]
            starts = offsets_of(lengths)
            rows = torch.from_numpy(np.repeat(offsets[chosen] - starts[:-1], lengths) + np.arange(starts[-1]))
            owner = torch.from_numpy(owners_of(starts))
            logit = net(features[rows])[:, 0]
            label = labels[rows]
            top = torch.full((len(chosen),), -torch.inf).scatter_reduce(0, owner, logit.detach(), "amax")
            odds = torch.exp(logit - top[owner]) * (label == 0)
            others = torch.zeros(len(chosen)).index_add(0, owner, odds).clamp(min=LEAST)
            log_p = -softplus((torch.log(others) + top)[owner] - logit)
            return -(label * log_p).sum() / len(chosen)

        best, best_loss, waited = [p.detach().clone() for p in net.parameters()], np.inf, 0
        for epoch in range(self.epochs):
            net.train()
            shuffled = rng.permutation(learn)
            for start in range(0, len(shuffled), self.batch_lists):
                optimizer.zero_grad()
                loss_of(shuffled[start : start + self.batch_lists]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            tick(epoch + 1, self.epochs)
            if not len(held):
                best = [p.detach().clone() for p in net.parameters()]
                continue
            net.eval()
            with torch.inference_mode():
                parts = [held[start : start + self.batch_lists] for start in range(0, len(held), self.batch_lists)]
                now = sum(float(loss_of(part)) * len(part) for part in parts) / len(held)
            if now < best_loss - 1e-5:
                best, best_loss, waited = [p.detach().clone() for p in net.parameters()], now, 0
            elif (waited := waited + 1) >= self.patience:
                break
        tick(self.epochs, self.epochs)
        return [np.ascontiguousarray(p.numpy().T) for p in best]


SCORERS: dict[str, type[Scorer]] = {"logistic": Logistic, "mlp": MLP}
