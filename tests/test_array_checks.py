"""Checks on stored arrays: what fits passes, and what does not is named with its numbers."""

import numpy as np
import pytest

from recsys.array_checks import ArrayChecks
from recsys.errors import ArtifactError

ARRAYS = {
    "part/row": np.array([0, 2, 1], np.int32),
    "part/offsets": np.array([0, 1, 3]),
    "part/value": np.ones((3, 2), np.float32),
    "other/row": np.array([7], np.int32),
}
EXTENTS = {name: (array.min(), array.max()) for name, array in ARRAYS.items()}
CHECKS = ArrayChecks(ARRAYS, EXTENTS, 3).within("part/")


def test_a_part_holds_its_own_arrays_only():
    assert list(CHECKS.arrays) == list(CHECKS.extents) == ["row", "offsets", "value"]


def test_what_fits_passes():
    assert CHECKS.shape("value", np.float32, 3, None) == (3, 2)
    assert CHECKS.shape("value", None, 3, ...) == (3, 2)
    CHECKS.integers("row", 3)
    CHECKS.item_rows("row")
    CHECKS.offsets("offsets", 2, 3)
    CHECKS.require(True, "no matter")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda c: c.shape("value", np.float32, 4, None),
            r"value is float32 \(3, 2\), and should be float32 \(4, any\)",
        ),
        (lambda c: c.shape("value", np.float32, 3), r"value is float32 \(3, 2\), and should be float32 \(3\)"),
        (lambda c: c.shape("value", np.int64, 3, 2), r"value is float32 \(3, 2\), and should be int64 \(3, 2\)"),
        (lambda c: c.shape("value", None, 2, ...), r"value is float32 \(3, 2\), and should be float32 \(2\)"),
        (lambda c: c.integers("value", 3), "value holds float32, and should hold integers"),
        (lambda c: c.integers("row", 4), r"row is int32 \(3,\), and should be int32 \(4\)"),
        (lambda c: c.offsets("offsets", 3, 3), r"offsets is int64 \(3,\), and should be integers \(4,\)"),
        (lambda c: c.offsets("offsets", 2, 4), "offsets goes from 0 to 3, and should from 0 to 4"),
        (lambda c: c.offsets("row", 2, 1), "row goes backwards"),
        (lambda c: c.require(False, "value is odd"), "value is odd"),
    ],
)
def test_what_does_not_fit_is_named_in_full(check, message):
    with pytest.raises(ArtifactError, match=f"^part/{message}$"):
        check(CHECKS)


def test_rows_outside_the_catalogue():
    with pytest.raises(ArtifactError, match=r"^other/row names rows 7 to 7 of a catalogue of 3$"):
        ArrayChecks(ARRAYS, EXTENTS, 3).item_rows("other/row")
