"""Whether a difference between two models is more than luck."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000


def paired_interval(ours: NDArray[np.float64], theirs: NDArray[np.float64], seed: int) -> dict[str, float]:
    """Bootstrap the mean difference of two models over the same users (Efron 1979; 95%, percentiles).

    Users are drawn with replacement by multinomial counts. Returns `mean`, `low` and `high`.
    """
    difference = ours - theirs
    rng = np.random.default_rng(seed)
    n = len(difference)
    means = [rng.multinomial(n, np.full(n, 1 / n)) @ difference / n for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(difference.mean()), "low": float(low), "high": float(high)}
