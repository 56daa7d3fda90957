"""Events that a request brings along: read, checked, and counted at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from random_bundles import ids_of

from recsys import Recommender
from recsys.errors import RequestError, UnknownIdError


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
        ([{"item_id": "i5", "time": 9}, {"item_id": "i5", "time": 1 << 60}], "1 of 2 events are no newer than"),
    ],
)  # fmt: skip
def test_a_session_that_cannot_be_read(large: Recommender, history: object, told: str) -> None:
    for ask in (large.recommend, large.score):
        with pytest.raises(RequestError, match=re.escape(told)):
            ask(large.user_ids[2], *([["i1"]] if ask == large.score else []), history=history)  # type: ignore[operator]


def test_an_event_that_the_bundle_knows_is_refused_with_its_time(large: Recommender) -> None:
    user = large.user_ids[2]
    newest = int(large.history(user)["time"][0])
    told = f"1 of 1 events are no newer than the newest one that the bundle knows of user {user!r}, at {newest}; give"
    with pytest.raises(RequestError, match=re.escape(told)):
        large.recommend(user, history=[{"item_id": "i5", "time": newest}])
    assert large.recommend(user, history=[{"item_id": "i5", "time": newest + 1}]).items
    assert large.recommend("nobody", history=[{"item_id": "i5", "time": 9}]).items
    with pytest.raises(UnknownIdError, match="1 of 2 items are not in the catalogue of 20000: 'x'"):
        large.recommend(user, history=["i5", "x"])
