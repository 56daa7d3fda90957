"""Whether a difference between two models is more than luck."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import LongArray

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


def share_intervals(counts: LongArray, seed: int) -> list[dict[str, float]]:
    """Bootstrap the share that each of `s` kinds has of all that was counted, over users (95%, percentiles).

    `counts` is `(U, s)`, each user with at least one. Users are drawn whole, so that what one user does stays
    together. Returns `share`, `low` and `high` of each kind; the shares sum to 1.
    """
    rng = np.random.default_rng(seed)
    n = len(counts)
    drawn = np.stack([rng.multinomial(n, np.full(n, 1 / n)) @ counts for _ in range(DRAWS)])
    low, high = np.quantile(drawn / drawn.sum(axis=1, keepdims=True), [0.025, 0.975], axis=0)
    share = counts.sum(axis=0) / counts.sum()
    return [dict(zip(("share", "low", "high"), map(float, one), strict=True))
            for one in zip(share, low, high, strict=True)]  # fmt: skip
