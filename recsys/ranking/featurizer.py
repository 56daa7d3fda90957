"""The configured features as one matrix: what the scorers learn from and score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from recsys.arrays import FloatArray
from recsys.config import nearest
from recsys.errors import ConfigError
from recsys.ranking.feature_context import Context
from recsys.ranking.features import FEATURES, Arrays
from recsys.types import State


@dataclass(frozen=True, eq=False)
class Featurizer:
    """The configured features with what they prepared: turns a `Context` into the scorer's input `(n, f)`."""

    prepared: Mapping[str, Arrays]

    @classmethod
    def fit(cls, names: list[str], state: State) -> Featurizer:
        """Prepare the named features. Raises `ConfigError` for a name that `FEATURES` lacks, or that comes twice."""
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"features: {name!r} is listed {names.count(name)} times; once is enough")
            if name not in FEATURES:
                raise ConfigError(
                    f"features: unknown name {name!r}{nearest(name, FEATURES)}; known: {', '.join(FEATURES)}"
                )
        prepare = cache(lambda work: work(state))  # two features may share what they prepare
        return cls({name: prepare(FEATURES[name].prepare) for name in names})

    def compute(self, context: Context) -> FloatArray:
        """Return the features of every pair `(n, f)` float32, all finite."""
        blocks = [FEATURES[name].compute(context, arrays) for name, arrays in self.prepared.items()]
        matrix = np.concatenate([b[:, None] if b.ndim == 1 else b for b in blocks], axis=1).astype(np.float32)
        if not np.isfinite(matrix).all():
            column = int(np.argmin(np.isfinite(matrix).all(axis=0)))
            raise ConfigError(f"feature {self.names(context)[column]!r} gave a value that is not finite")
        return matrix

    def names(self, context: Context) -> list[str]:
        """Return a label for each column of `compute`."""
        return [f"{name}.{part}".rstrip(".") for name in self.prepared for part in FEATURES[name].names(context)]
