"""A scorer in one file, as docs/extending.md shows it: Fisher's linear discriminant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, LongArray
from recsys.progress import Progress
from recsys.ranking.scorers.base import Arrays, check_array


@dataclass(frozen=True, eq=False)
class FittedDiscriminant:
    """The direction `(f,)` in which chosen candidates differ most from the others, and the mean `(f,)` of all."""

    mean: FloatArray
    weight: FloatArray

    def score(self, x: FloatArray) -> FloatArray:
        return ((x - self.mean) @ self.weight).astype(np.float32)

    @property
    def base_score(self) -> float:
        return 0.0

    def contributions(self, x: FloatArray) -> NDArray[np.float64]:
        return (x - self.mean).astype(np.float64) * self.weight

    def arrays(self) -> Arrays:
        return {"mean": self.mean, "weight": self.weight}


@dataclass(frozen=True)
class Discriminant:
    """Linear discriminant analysis (Fisher 1936). `ridge` is added to the variances."""

    name: ClassVar[str] = "discriminant"
    needs: ClassVar[Mapping[str, str]] = {}  # numpy does; else {"MODULE": "EXTRA"}

    ridge: float = 1e-3
    negatives: int = 100

    def fit(
        self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress
    ) -> FittedDiscriminant:
        chosen = y > 0
        gap = np.average(x[chosen], axis=0, weights=y[chosen]) - x[~chosen].mean(axis=0)
        weight = np.linalg.solve(np.cov(x, rowvar=False) + self.ridge * np.eye(x.shape[1]), gap)
        progress("scorer", 1, 1)
        return FittedDiscriminant(x.mean(axis=0), weight.astype(np.float32))

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        (width,) = check_array(arrays, "mean", np.float32, None)
        check_array(arrays, "weight", np.float32, width)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> FittedDiscriminant:
        return FittedDiscriminant(arrays["mean"], arrays["weight"])
