"""Numbers and order of events, compared with what polars' sort and unique make of the same rows."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.tables.sequence import number_users, put_in_order
from recsys.tables.sources.scanning import FILE, ROW

FILES = pl.Enum(["b.csv", "a.csv"])
EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([0, 1, 1_000_000, 2**62]), st.sampled_from("vp")),
    min_size=1,
)


def frame_of(events, places):
    return pl.DataFrame(
        {
            "user": pl.Series([user for user, *_ in events], dtype=pl.UInt32),
            "item": [item for _, item, *_ in events],
            "time": [time for *_, time, _ in events],
            "kind": pl.Series([kind for *_, kind in events], dtype=pl.Categorical),
            FILE: pl.Series(["a.csv" if place % 2 else "b.csv" for place in places], dtype=FILES),
            ROW: pl.Series(places, dtype=pl.UInt32),
        }
    )


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.booleans())
def test_order_and_repeated_events(events, random, in_order):
    places = list(range(len(events)))
    if not in_order:
        random.shuffle(places)
    frame = frame_of(events, [2 * place for place in places] if in_order else places)
    expected = frame.sort("user", "time", FILE, ROW).unique(
        ["user", "item", "time", "kind"], keep="first", maintain_order=True
    )
    assert put_in_order(frame).equals(expected.drop(FILE, ROW))


@pytest.mark.parametrize(
    ("texts", "dtype", "ids"),
    [
        (["10", "9", "10"], pl.Int64(), [9, 10]),
        (["10", "9", "010"], pl.Int64(), ["010", "10", "9"]),
        (["b", "a", "b"], pl.String(), ["a", "b"]),
    ],
)
def test_users_are_numbered_in_the_order_of_their_ids(texts, dtype, ids):
    events, found = number_users(pl.DataFrame({"user_id": texts}), {"user_id": dtype})
    assert found.to_list() == ids
    assert [str(ids[user]) for user in events["user"]] == texts


def test_whole_numbers_keep_their_order():
    events, found = number_users(pl.DataFrame({"user_id": [10, -1, 9]}), {})
    assert (found.to_list(), events["user"].to_list()) == ([-1, 9, 10], [2, 0, 1])
