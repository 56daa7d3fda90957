"""Whether a difference between two models is more than chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import LongArray

DRAWS = 1000


def paired_interval(ours: NDArray[np.float64], theirs: NDArray[np.float64], seed: int) -> dict[str, float]:
    """Bootstrap the mean difference of two models over the same users.

    Users are resampled with replacement by multinomial counts; the interval is that of the percentiles (Efron 1979,
    "Bootstrap Methods: Another Look at the Jackknife").

    Args:
        ours: A metric of one model for each user `(U,)`.
        theirs: The same of the other model `(U,)`.
        seed: Seed of the resampling.

    Returns:
        The `mean` of ours less theirs, and the ends `low` and `high` of its 95% interval.
    """
    difference = ours - theirs
    rng = np.random.default_rng(seed)
    n = len(difference)
    means = [rng.multinomial(n, np.full(n, 1 / n)) @ difference / n for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(difference.mean()), "low": float(low), "high": float(high)}


def share_intervals(counts: LongArray, seed: int) -> list[dict[str, float]]:
    """Bootstrap the share of each of `s` kinds in all that was counted, over users.

    Users are resampled whole, so that what one user does stays together.

    Args:
        counts: What was counted for each user `(U, s)`; at least one of each user.
        seed: Seed of the resampling.

    Returns:
        For each kind its `share` and the ends `low` and `high` of its 95% interval; the shares sum to 1.
    """
    rng = np.random.default_rng(seed)
    n = len(counts)
    drawn = np.stack([rng.multinomial(n, np.full(n, 1 / n)) @ counts for _ in range(DRAWS)])
    low, high = np.quantile(drawn / drawn.sum(axis=1, keepdims=True), [0.025, 0.975], axis=0)
    share = counts.sum(axis=0) / counts.sum()
    return [dict(zip(("share", "low", "high"), map(float, one), strict=True))
            for one in zip(share, low, high, strict=True)]  # fmt: skip
