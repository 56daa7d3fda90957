"""Stacks of dense layers as plain arrays: scores and exact integrated gradients in numpy, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray
from recsys.errors import ArtifactError
from recsys.ragged import offsets_of, places_of
from recsys.ranking.scorers.base import Arrays, check_array

LIMIT = 10  # standard deviations from the mean, beyond which a feature is cut
ROWS = 8192
LEAST = 1e-30  # odds of all that was not chosen, where that is nothing
CACHED = 1024  # rows whose layers fit a core's cache


@dataclass(frozen=True, eq=False)
class DenseScorer:
    """Standardise, then dense layers with ReLU between: one layer is a linear model.

    The scores of `m` networks of one shape are averaged.

    Attributes:
        mean: What is taken from each feature `(f,)`.
        scale: What the rest is divided by `(f,)`, above 0.
        weights: Of each layer `(m, in, out)`; the last `out` is 1.
        biases: Of each layer `(m, out)`.
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

    @property
    def base_score(self) -> float:
        """The score of the training mean."""
        return float(self.score(self.mean[None])[0])

    def contributions(self, x: FloatArray) -> NDArray[np.float64]:
        """Split the score of each row between its features `(n, f)`: integrated gradients.

        The method is that of Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks". The path runs
        from the training mean to the row, in standardised and clipped features. Between the finitely many points
        where a unit opens or closes the gradient is constant, so the integral is a sum and exact: a row's
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
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> DenseScorer:
        """Rebuild from what `arrays` returned."""
        depth = sum(name.startswith("weight") for name in arrays)
        return cls(arrays["mean"], arrays["scale"], [arrays[f"weight{i}"] for i in range(depth)],
                   [arrays[f"bias{i}"] for i in range(depth)])  # fmt: skip


def _path_gradient(z: NDArray[np.float64], weights: list[Any], biases: list[Any]) -> NDArray[np.float64]:
    """Mean gradient of one network on the straight line from 0 to each row of `z` `(n, f)`: `(n, f)`."""
    rows = len(z)
    slope = z @ weights[0]  # the first layer is linear in the share of the line

    def hidden(share: NDArray[np.float64], depth: int) -> NDArray[np.float64]:
        """Input of the units of a hidden layer at shares `(n, s)` of the line: `(n * s, h)`."""
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


class StoredAsDense:
    """Base of the scorers whose fitted form is a `DenseScorer`: how it is checked and restored."""

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Check that each layer takes what the one before it gives, and that the last gives one number.

        Raises:
            ArtifactError: It does not, or a scale is not above 0; the message names the array.
        """
        (width,), members = check_array(arrays, "mean", np.float32, None), None
        check_array(arrays, "scale", np.float32, width)
        if not (arrays["scale"] > 0).all():
            raise ArtifactError("scorer/scale holds values that are not above 0")
        depth = sum(name.startswith("weight") for name in arrays)
        if not depth:
            raise ArtifactError("scorer holds no layer")
        for layer in range(depth):
            members, _, out = check_array(arrays, f"weight{layer}", np.float32, members, width, None)
            check_array(arrays, f"bias{layer}", np.float32, members, out)
            width = out
        if width != 1 or not members:
            raise ArtifactError(f"scorer gives {width} numbers a row of {members} networks")

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> DenseScorer:
        """Rebuild the layers that `DenseScorer.arrays` returned."""
        return DenseScorer.from_arrays(arrays)


def standardise(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Bring each feature to mean 0 and standard deviation 1, cut at `LIMIT`.

    Returns:
        The features `(n, f)`, their means `(f,)` and scales `(f,)`; the scale of a constant feature is 1.
    """
    mean, scale = _moments(x)
    z = x - mean
    z /= scale
    return np.clip(z, -LIMIT, LIMIT, out=z), mean, scale


def _moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    blocks = [slice(start, start + ROWS) for start in range(0, len(x), ROWS)]  # all of x in float64 would be too much
    mean = sum(x[block].sum(axis=0, dtype=np.float64) for block in blocks) / len(x)
    scale = np.sqrt(sum(((x[block] - mean) ** 2).sum(axis=0) for block in blocks) / len(x)).astype(np.float32)
    return mean.astype(np.float32), np.where(scale > 1e-6, scale, 1).astype(np.float32)
