"""Intervals of shares and of their differences."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.assistant.intervals import difference, wilson


def test_wilson_of_a_textbook() -> None:
    share = wilson(15, 148)  # Newcombe 1998, table I
    assert (round(share.low, 4), round(share.high, 4)) == (0.0624, 0.1605)
    assert wilson(0, 20).low == 0
    assert wilson(20, 20).high == pytest.approx(1)
    with pytest.raises(ValueError, match="a share needs at least one case, and has 0"):
        wilson(0, 0)


def test_difference_of_a_textbook() -> None:
    gap, low, high = difference(wilson(56, 70), wilson(48, 80))  # Newcombe 1998, table II, method 10
    assert (round(gap, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)


@pytest.mark.parametrize("truth", [0.05, 0.5, 0.9])
def test_intervals_hold_the_truth_as_often_as_they_say(truth: float) -> None:
    drawn = np.random.default_rng(0).binomial(30, truth, 2_000)
    held = np.mean([share.low <= truth <= share.high for share in (wilson(float(one), 30) for one in drawn)])
    assert 0.92 <= held <= 0.99
