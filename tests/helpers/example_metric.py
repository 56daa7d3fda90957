"""A metric in one file, as docs/extending.md shows it: average precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import BoolArray, LongArray


def average_precision(hits: BoolArray, n_relevant: LongArray, k: int) -> NDArray[np.float64]:
    """Mean precision at the places of the relevant items, over as many as `k` places can hold."""
    near = hits[:, :k]
    precision = np.cumsum(near, axis=1) / np.arange(1, near.shape[1] + 1)
    return np.asarray((precision * near).sum(axis=1) / np.minimum(n_relevant, k))
