"""Shares with their uncertainty, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.96  # standard deviations of a 95% interval


@dataclass(frozen=True)
class Share:
    """A share of `n`, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: int) -> Share:
    """Return the share of successes, which may be expected ones, with the interval of Wilson (1927).

    Raises:
        ValueError: There is nothing to take a share of.
    """
    if n < 1:
        raise ValueError(f"a share needs at least one case, and has {n}")
    share = successes / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return Share(share, max(middle - half, 0.0), min(middle + half, 1.0), n)


def difference(after: Share, before: Share) -> tuple[float, float, float]:
    """Return `after - before` with its 95% interval (Newcombe 1998, method 10)."""
    gap = after.value - before.value
    low = gap - math.hypot(after.value - after.low, before.high - before.value)
    high = gap + math.hypot(after.high - after.value, before.value - before.low)
    return gap, low, high
