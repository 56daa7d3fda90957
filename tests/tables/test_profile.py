"""Profiles of tables: types, missing cells, distinct values, and what they look like."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import pyarrow as pa
import pytest

from recsys.errors import DataError
from recsys.tables.frames import to_polars
from recsys.tables.profile import TableProfile, overlap, script_shares


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["2024-01-31", "2024-02-01"], True),
        (["2024-01-31 10:00:00 UTC", "2024-02-01T10:00"], True),
        (["9/19/2017 9:45", "31/01/2025 08:00"], True),
        (["01.02.2025", "02.02.2025"], True),
        ([1494128040, 1467529800], True),
        (["1494128040", "1467529800"], True),
        ([1, 2, 3], False),
        (["12-34", "red lamp"], False),
        (["555-1234-12", "555-1234-13"], False),
        ([datetime(2024, 1, 1)], True),
    ],
)
def test_what_is_a_time(cells: list[object], wanted: bool) -> None:
    assert TableProfile.of("t", pl.DataFrame({"x": cells})).columns["x"].is_time is wanted


def test_texts_that_are_numbers_count_as_numbers_but_codes_do_not() -> None:
    columns = TableProfile.of("t", pl.DataFrame({"n": ["1", "", "2.5"], "code": ["007", "010", "1"]})).columns
    assert columns["n"].is_number
    assert columns["n"].missing == pytest.approx(1 / 3)
    assert not columns["code"].is_number
    assert columns["code"].unique
    assert columns["code"].examples == ["007", "010", "1"]


def test_overlap_compares_as_text() -> None:
    assert overlap(pl.Series([1, 2, 2, 3, 4]), pl.Series(["1", "2", "9"])) == 0.5
    assert overlap(pl.Series([1.0, 2.5]), pl.Series([1, 2])) == 0.5


def test_scripts() -> None:
    shares = script_shares(["茶 tea", "чай"])
    assert shares["han"] == pytest.approx(1 / 7)
    assert shares["cyrillic"] == pytest.approx(3 / 7)
    assert shares["latin"] == pytest.approx(3 / 7)
    assert script_shares([])["latin"] == 0


class Capsule:
    """What any library with the Arrow PyCapsule interface hands out."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def test_frames_of_every_library() -> None:
    frame = pl.DataFrame({"item_id": ["a", "b"], "price": [1.0, 2.0]})
    for other in (frame, frame.lazy(), frame.to_pandas(), frame.to_arrow(), Capsule(frame.to_arrow())):
        assert to_polars(other, "catalog").equals(frame)
    with pytest.raises(DataError, match=r"catalog must be a data frame \(polars, .*\), and is a list"):
        to_polars([1], "catalog")
