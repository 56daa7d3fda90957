"""The contract of scorers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, LongArray
from recsys.progress import Progress

Arrays = dict[str, NDArray[Any]]


LEAST = 1e-30  # odds of all that was not chosen, where that is nothing


class FittedScorer(Protocol):
    """A scorer that has learned. Plain arrays, safe to share between threads; serving needs no training library."""

    def score(self, x: FloatArray) -> FloatArray:
        """Return the score of each row of features `(n, f)`: `(n,)` float32, higher is better."""

    @property
    def base_score(self) -> float:
        """The score that the contributions start from."""

    def contributions(self, x: FloatArray) -> NDArray[np.float64]:
        """Split the score of each row between its features `(n, f)`; a row adds up to its score less `base_score`."""

    def arrays(self) -> Arrays:
        """Return all that was learned, as plain arrays, for the bundle."""


class Scorer(Protocol):
    """Settings that can be fitted to ragged lists of labelled candidates."""

    @property
    def negatives(self) -> int:
        """About how many unlabelled candidates of each list to learn from; 0 for all."""

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> FittedScorer:
        """Learn from features `(n, f)`, list offsets `(L + 1,)` and labels `(n,)`: 0, or how much the choice counts."""
