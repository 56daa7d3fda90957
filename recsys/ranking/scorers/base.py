"""The contract of scorers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys import extras
from recsys.arrays import FloatArray, LongArray
from recsys.errors import ArtifactError
from recsys.progress import Progress

Arrays = dict[str, NDArray[Any]]


class FittedScorer(Protocol):
    """A scorer that has learned: plain arrays, safe to share between threads. Serving needs no training library."""

    def score(self, x: FloatArray) -> FloatArray:
        """Score rows of features.

        Args:
            x: Finite features `(n, f)` float32, the columns as in training.

        Returns:
            `(n,)` float32, higher is better; comparable within a list only.
        """

    @property
    def base_score(self) -> float:
        """The score that the contributions start from."""

    def contributions(self, x: FloatArray) -> NDArray[np.float64]:
        """Split the score of each row between its features.

        Args:
            x: Finite features `(n, f)` float32.

        Returns:
            `(n, f)` float64; a row sums to its score less `base_score`, but for the rounding of float32 scores.
        """

    def arrays(self) -> Arrays:
        """Return all that was learned, as plain arrays for a bundle; `Scorer.restore` reads them."""


class Scorer(Protocol):
    """A member of the family: settings that can be fitted, and that know how their fitted form is stored.

    A member is a frozen dataclass whose fields are its YAML settings.

    Attributes:
        name: What a config calls the member by (`scorer: {kind: NAME}`).
        needs: The modules that `fit` imports, and the extra of this package that installs each.
    """

    name: ClassVar[str]

    @property
    def needs(self) -> Mapping[str, str]: ...

    @property
    def negatives(self) -> int:
        """About how many unlabelled candidates of each list to learn from; 0 for all."""

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> FittedScorer:
        """Learn from ragged lists of labelled candidates.

        Args:
            x: Features `(n, f)` float32.
            offsets: Offsets of the lists `(L + 1,)`; each list holds at least one label.
            y: Labels `(n,)` float32: 0, or how much the choice counts.
            seed: Decides everything that is drawn at random: the same lists and seed give the same scorer.
            progress: Called with the stage, the steps done and the steps in all.

        Raises:
            ConfigError: A package in `needs` is not installed.
        """

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Refuse stored arrays that `restore` cannot use.

        That every number is finite is known by then.

        Args:
            arrays: The arrays of `FittedScorer.arrays` by name, from a bundle that may be damaged or hostile.

        Raises:
            ArtifactError: A type, a shape or a value does not fit; the message names the array as `scorer/NAME`.
            KeyError: An array is missing.
        """

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> FittedScorer:
        """Rebuild the fitted scorer from arrays that passed `check_arrays`; they may be read-only."""


def is_ready(scorer: Scorer) -> bool:
    """Return whether every package that a scorer's `fit` imports is installed."""
    return all(find_spec(module) is not None for module in scorer.needs)


def require_packages(scorer: Scorer) -> None:
    """Refuse to go on without the packages that a scorer's `fit` imports.

    Raises:
        ConfigError: One is not installed; the message names the extra to install.
    """
    for module, extra in scorer.needs.items():
        extras.require(extra, f"fitting the scorer {scorer.name!r}", module)


def check_array(arrays: Mapping[str, NDArray[Any]], name: str, dtype: Any, *lengths: int | None) -> tuple[int, ...]:
    """Check one stored array of a scorer.

    Args:
        arrays: The scorer's arrays.
        name: The array to check.
        dtype: The type that it should have.
        lengths: The shape that it should have; None for any length.

    Returns:
        The array's shape.

    Raises:
        ArtifactError: Type or shape differ; the message holds both.
        KeyError: There is no such array.
    """
    if name not in arrays:
        raise KeyError(f"scorer/{name}")
    array = arrays[name]
    fits = len(array.shape) == len(lengths) and all(
        wanted in (None, length) for wanted, length in zip(lengths, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        should = f"{np.dtype(dtype)} ({', '.join('any' if length is None else str(length) for length in lengths)})"
        raise ArtifactError(f"scorer/{name} is {array.dtype} {array.shape}, and should be {should}")
    return array.shape
