"""How texts become moments."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.tables import times

CELLS = [
    "2025-01-02 03:04:05", "2025-01-02T03:04:05Z", "2025-01-02", "2025-01-02 03:04:05.250", " 2025-01-02 03:04:05",
    "2025-01-02 03:04:05 UTC", "2025-01-02 03:04:05+02:00", "31/01/2025 10:00", "nonsense", "2025-02-30", None,
]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(CELLS), min_size=1, max_size=40),
    st.sampled_from([times.ISO, (*times.ISO, "%d/%m/%Y %H:%M"), ("%Y-%m-%d %H:%M:%S%.f%#z",), ("%d/%m/%Y %H:%M",)]),
    st.sampled_from(["UTC", "Europe/Berlin"]),
)
def test_the_plain_format_that_is_tried_first_changes_nothing(cells, formats, timezone):
    frame = pl.DataFrame({"t": pl.Series(cells, dtype=pl.String)})
    quick = frame.select(times.read_moment("t", pl.String(), times.Reading(formats=formats), timezone)).to_series()
    slow = times._by_formats(frame["t"], formats, timezone)
    assert quick.to_list() == slow.to_list()
