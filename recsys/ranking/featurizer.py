"""The configured features as one matrix: what the scorers learn from and score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from recsys.arrays import FloatArray
from recsys.config import nearest
from recsys.errors import ConfigError
from recsys.ranking.feature_context import Context
from recsys.ranking.features import FEATURES, NO_USER_TEXT, Arrays
from recsys.types import State


def check_features(names: Sequence[str], clock: str = "time", user_text: bool = True) -> None:
    """Refuse features that cannot be computed, before any work.

    Args:
        names: The configured features.
        clock: `data.clock` of the config: `time` or `order`.
        user_text: `embedding.user_text` of the config.

    Raises:
        ConfigError: A name is unknown (the message names the nearest) or comes twice, or a feature needs a clock or
            users' text vectors that the config does not give.
    """
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"features: {name!r} is listed {names.count(name)} times; once is enough")
        if name not in FEATURES:
            raise ConfigError(f"features: unknown name {name!r}{nearest(name, FEATURES)}; known: {', '.join(FEATURES)}")
        if FEATURES[name].needs_clock and clock == "order":
            raise ConfigError(f"features: {name!r} counts days, and data.clock is 'order': leave it out")
        if FEATURES[name].needs_user_text and not user_text:
            raise ConfigError(NO_USER_TEXT.format(name))


@dataclass(frozen=True, eq=False)
class Featurizer:
    """The configured features and what they prepared: turns a `Context` into the scorer's input `(n, f)`.

    Attributes:
        prepared: For each configured feature, in order, the arrays that its `prepare` returned.
    """

    prepared: Mapping[str, Arrays]

    @classmethod
    def fit(cls, names: list[str], state: State) -> Featurizer:
        """Prepare features on what is known at the state's moment.

        Args:
            names: The features, in the order of the matrix's columns.
            state: Catalogue, logs and vectors.

        Raises:
            ConfigError: A name is unknown, or comes twice.
        """
        check_features(names)
        prepare = cache(lambda work: work(state))  # two features may share what they prepare
        return cls({name: prepare(FEATURES[name].prepare) for name in names})

    def compute(self, context: Context) -> FloatArray:
        """Compute the features of every pair.

        Returns:
            `(n, f)` float32, all finite.

        Raises:
            ConfigError: A value is not finite; the message names its column. Or a feature misses what it needs.
        """
        blocks = [FEATURES[name].compute(context, arrays) for name, arrays in self.prepared.items()]
        matrix = np.concatenate([b[:, None] if b.ndim == 1 else b for b in blocks], axis=1).astype(np.float32)
        if not np.isfinite(matrix).all():
            column = int(np.argmin(np.isfinite(matrix).all(axis=0)))
            raise ConfigError(f"feature {self.names(context)[column]!r} gave a value that is not finite")
        return matrix

    def names(self, context: Context) -> list[str]:
        """Return a label for each column of `compute`: `NAME`, or `NAME.PART` in a block."""
        return [f"{name}.{part}".rstrip(".") for name in self.prepared for part in FEATURES[name].names(context)]
