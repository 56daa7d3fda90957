"""Events that a request brings along: read, checked, and counted at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_bundles import ids_of
from worlds import DAY

from recsys import Recommender
from recsys.errors import RequestError, UnknownIdError
from recsys.serving.sessions import LogClock, join_session
from recsys.types import Histories


def test_events_of_the_session_count_at_once(large: Recommender) -> None:
    user = large.user_ids[2]
    before = large.recommend(user, 10)
    fresh = large.catalog.ids[7]  # popular, so that others had things with it
    after = large.recommend(user, 10, history=[fresh])
    assert ids_of(after) != ids_of(before)
    assert fresh not in ids_of(after)
    stranger = large.recommend("nobody", 10, history=[fresh])
    assert (stranger.cold, stranger.fallback) == (False, False)
    assert {name for item in stranger.items for name in item.sources} >= {"semantic", "covisitation"}
    assert large.recommend("nobody", 10).cold
    assert large.recommend(user, 10, history=[]) == before
    scores = large.score(user, ids_of(after), history=[fresh])["score"]
    np.testing.assert_allclose(scores, [item.score for item in after.items], rtol=1e-4, atol=1e-4)


def test_a_session_is_the_history_with_its_events(large: Recommender) -> None:
    user, row = large.user_ids[2], 2
    known = large._lookup.histories(np.array([row]))
    last, now = int(known.time[-1]), int(known.as_of[0])
    ids = large.catalog.ids
    told = [{"item_id": ids[5], "event": "buy", "time": last + 50}, {"item_id": ids[9], "time": last + 20}]
    asking = large._lookup.history_for_request(user, told, True)
    assert asking.item.tolist() == [*known.item, 9, 5]
    assert asking.time.tolist() == [*known.time, last + 20, last + 50]
    assert asking.weight.tolist() == [*known.weight, 1.0, 4.0]
    assert asking.as_of.tolist() == [max(now, last + 51)]
    plain = large._lookup.history_for_request(user, [ids[9], {"item_id": ids[5], "event": None}], True)
    assert plain.item.tolist() == asking.item.tolist()
    assert plain.time[-2:].tolist() == [now, now + 1]
    assert plain.as_of.tolist() == [now + 2]
    moment = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    for time in (moment, moment.isoformat(), "2030-01-01T10:00:00", int(moment.timestamp() * 1e6)):
        assert (
            large._lookup.history_for_request(user, [{"item_id": ids[9], "time": time}], True).time[-1]
            == moment.timestamp() * 1e6
        )
    frame = pl.DataFrame({"item_id": ids[[9, 5]], "time": [datetime(2030, 1, 1, tzinfo=UTC)] * 2})
    assert large._lookup.history_for_request(user, frame, True).item[-2:].tolist() == [9, 5]


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ("i5", "history must be a list of events or item ids, got 'i5'"),
        ({"item_id": "i5"}, "history must be a list of events or item ids, got {'item_id': 'i5'}"),
        (7, "history must be a list of events or item ids, got 7"),
        ([{"item": "i5"}], "history event 1: unknown key 'item'; did you mean 'item_id'?; known: item_id, event, time"),
        ([{"item_id": "i5", 10**5000: 1}], "history event 1: unknown key a int that cannot be shown; known: item_id, "),
        (["i4", {"time": 5}], "history event 2 has no item_id: {'time': 5}"),
        ([{"item_id": "i5", "event": "bye"}], "event 1: unknown kind 'bye'; did you mean 'buy'?; known: view, buy"),
        ([{"item_id": "i5", "event": 3}], "history event 1: unknown kind 3; known: view, buy"),
        ([{"item_id": "i5", "time": 4e17}, "i4"], "history event 1: time must be a datetime, an ISO text, or micro"),
        ([{"item_id": "i5", "time": "noon"}], "microseconds since 1970, got 'noon'"),
        ([{"item_id": "i5", "time": True}], "microseconds since 1970, got True"),
        ([{"item_id": "i5", "time": 1 << 70}], f"microseconds since 1970, got {1 << 70}"),
        ([{"item_id": "i5", "time": 1 << 60}, "i4"], "history: 1 of 2 events have a time; give it for all or for none"),
    ],
)  # fmt: skip
def test_a_session_that_cannot_be_read(large: Recommender, history: object, told: str) -> None:
    for ask in (large.recommend, large.score):
        with pytest.raises(RequestError, match=re.escape(told)):
            ask(large.user_ids[2], *([["i1"]] if ask == large.score else []), history=history)  # type: ignore[operator]


def events_of(recommender: Recommender, user: str) -> list[dict[str, object]]:
    """The history that a bundle holds, oldest first, as a client would send it."""
    return recommender.history(user).reverse().select("item_id", "time").rows(named=True)


def test_what_the_bundle_knows_of_a_session_counts_once(large: Recommender) -> None:
    """A version that was trained meanwhile holds the beginning of the session: the answer is the same."""
    user = large.user_ids[2]
    known = events_of(large, user)
    later = [{"item_id": large.catalog.ids[n], "time": int(known[-1]["time"]) + n} for n in (5, 9)]  # type: ignore[call-overload]
    once = large.recommend(user, 10, history=later)
    for start in range(len(known)):
        assert large.recommend(user, 10, history=known[start:] + later) == once
        assert large.recommend(user, 10, history=known[start:]) == large.recommend(user, 10)
    asking = large._lookup.history_for_request(user, known[-2:] + later, True)
    assert asking.item.tolist() == [*large._lookup.histories(np.array([2])).item, 5, 9]


def test_an_event_that_the_bundle_missed_takes_its_place_by_time(large: Recommender) -> None:
    user, known = large.user_ids[2], large._lookup.histories(np.array([2]))
    first, last = int(known.time[0]), int(known.time[-1])
    missed = [{"item_id": large.catalog.ids[7], "time": first + 1}, {"item_id": large.catalog.ids[8], "time": last}]
    asking = large._lookup.history_for_request(user, missed, True)
    assert sorted(asking.item.tolist()) == sorted([*known.item.tolist(), 7, 8])
    assert asking.time.tolist() == sorted([*known.time.tolist(), first + 1, last])
    assert asking.item.tolist()[-1] == 8
    assert asking.as_of.tolist() == known.as_of.tolist()
    assert large.recommend("nobody", history=[{"item_id": "i5", "time": 9}]).items
    with pytest.raises(UnknownIdError, match="1 of 2 items are not in the catalogue of 20000: 'x'"):
        large.recommend(user, history=["i5", "x"])


def history_of(items: list[int], times: list[int]) -> Histories:
    return Histories(np.array([0], np.int32), np.array([0, len(items)]), np.array(items, np.int32),
                     np.array(times, np.int64), np.ones(len(items), np.float32),
                     np.array([max(times, default=0) + 1]))  # fmt: skip


def joined(known: list[int], session: list[int]) -> Histories:
    """Join a session without times."""
    history = history_of(known, list(range(len(known))))
    return join_session(history, np.array(session), None, np.ones(len(session), np.float32), LogClock(1, 0))


@pytest.mark.parametrize(
    ("known", "session", "right"),
    [
        ([], [1, 2], [1, 2]),
        ([7, 1, 2], [1, 2, 3], [7, 1, 2, 3]),  # the bundle knows the beginning
        ([7, 1, 2, 3], [1, 2, 3], [7, 1, 2, 3]),  # and all of it
        ([1, 2, 7], [1, 2, 3], [1, 2, 7, 1, 2, 3]),  # an old visit to the same items is not this one
        ([1, 1], [1, 1, 1], [1, 1, 1]),
        ([2, 1, 2, 1], [1, 2, 1, 2], [2, 1, 2, 1, 2]),  # the longest overlap
        ([9, 3], [-1, 3, -1, 4], [9, 3, 4]),  # unknown items stand for nothing
    ],
)
def test_a_session_without_times_goes_on_where_the_history_ends(
    known: list[int], session: list[int], right: list[int]
) -> None:
    found = joined(known, session)
    assert found.item.tolist() == right
    assert (np.diff(found.time) >= 0).all()


@given(st.lists(st.integers(0, 2), max_size=8), st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_the_overlap_is_the_longest(known: list[int], session: list[int]) -> None:
    lengths = range(min(len(known), len(session)), -1, -1)
    longest = next(n for n in lengths if known[len(known) - n :] == session[:n])
    assert joined(known, session).item.tolist() == known + session[longest:]


@pytest.mark.parametrize(
    ("unit", "shift"), [(1_000_000, 400_000), (60_000_000, 59_000_000), (DAY, DAY - 1), (1000, 999), (1, 0)]
)
def test_a_log_of_coarser_times_knows_the_event_all_the_same(unit: int, shift: int) -> None:
    """The log cuts seconds, or writes the day alone, at midnight of another zone; the client sends microseconds."""
    times = [3_600_000_000 + unit * step for step in (3, 4, 9, 11)]
    history = history_of([1, 2, 3, 4], times)
    clock = LogClock.of(history, ordered=False)
    assert (clock.unit, clock.phase) == (unit, times[0] % unit)
    sent = np.array([times[2] + shift, times[3] + shift, times[3] + unit + shift])
    found = join_session(history, np.array([3, 4, 4]), sent, np.ones(3, np.float32), clock)
    assert found.item.tolist() == [1, 2, 3, 4, 4]
    assert found.time.tolist() == [*times, sent[-1]]
    assert LogClock.of(history, ordered=True) == LogClock(1, 0)
    assert LogClock.of(history_of([], []), ordered=False) == LogClock(1, 0)
