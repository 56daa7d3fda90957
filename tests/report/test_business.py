"""What the log says of the business, counted by hand here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from recsys.report.business import business, without_users
from recsys.types import DAY, Catalog, Interactions, Tables

TITLES = ["soap", "comb", "tea", "cup"]
CATEGORIES = ["Bath > Soap", "Bath", "Kitchen", None]


def tables_of(events: Sequence[tuple[int, int, int]], clock: str = "time", target: Sequence[bool] | None = None,
              categories: Sequence[str | None] = CATEGORIES) -> Tables:  # fmt: skip
    """Tables of (user, item, day) events."""
    rows = sorted(events, key=lambda row: (row[0], row[2]))
    user, item, day = (np.array(column) for column in zip(*rows, strict=True))
    n = len(TITLES)
    frame = pl.DataFrame(
        {"item_id": [f"i{row}" for row in range(n)], "title": TITLES, "description": [None] * n,
         "category": list(categories), "brand": [None] * n, "price": [1.0] * n},
        schema_overrides={"description": pl.String, "brand": pl.String, "category": pl.String},
    )  # fmt: skip
    time = day.astype(np.int64) * (DAY if clock == "time" else 1)
    mask = np.ones(len(rows), dtype=bool) if target is None else np.array(target)
    log = Interactions(user.astype(np.int32), item.astype(np.int32), time, np.ones(len(rows), np.float32), mask,
                       int(user.max()) + 1)  # fmt: skip
    return Tables(Catalog(frame), log, pl.Series("user_id", [f"u{row}" for row in range(log.n_users)]), clock)


def test_best_and_rising_items_of_the_last_window() -> None:
    # 100 days, so windows of 25: soap sells evenly, tea only in the last window, comb only in the one before.
    events = [(0, 0, day) for day in range(0, 101, 5)]
    events += [(1, 2, day) for day in range(76, 101)] + [(2, 1, day) for day in range(52, 74)]
    found = business(tables_of(events))
    assert found["window_days"] == pytest.approx(25, abs=0.01)
    assert [(one["title"], one["now"], one["before"]) for one in found["best"]] == [("tea", 25, 0), ("soap", 5, 5)]
    assert [one["item_id"] for one in found["rising"]] == ["i2"]


def test_what_goes_together_is_counted_by_basket() -> None:
    # Eight users take tea with a cup on one day; soap and comb fall on different days of one user each.
    events = [(user, item, 10 + user) for user in range(8) for item in (2, 3)]
    events += [(user, 0, 30) for user in range(8, 16)] + [(user, 1, 31) for user in range(8, 16)]
    found = business(tables_of(events))["together"]
    assert found["baskets"] == 24
    (pair,) = found["pairs"]
    assert {pair["item"]["title"], pair["other"]["title"]} == {"tea", "cup"}
    assert (pair["count"], pair["share"]) == (8, 1.0)
    assert pair["lift"] == pytest.approx(24 / 8)


def test_views_are_no_sales() -> None:
    events = [(0, 0, 1), (0, 1, 1), (0, 2, 50)]
    found = business(tables_of(events, target=[False, False, True]))
    assert found["events"] == 1
    assert [one["title"] for one in found["best"]] == ["tea"]


def test_returns_and_who_is_due() -> None:
    events = [(0, 0, day) for day in (0, 10, 20, 30)]  # usual gap 10, last seen on day 30 of 45: due
    events += [(1, 0, day) for day in (0, 2, 4, 6)]  # usual gap 2: gone long ago
    events += [(2, 0, day) for day in (5, 15, 25, 35, 45)]  # bought today: neither
    events += [(3, 0, 40)]  # one day only
    found = business(tables_of(events), show_users=True)
    assert (found["due"]["habit"], found["due"]["due"], found["due"]["gone"]) == (3, 1, 1)
    assert found["due"]["users"] == [{"user_id": "u0", "days": 4, "usual_gap": 10.0, "since": 15}]
    assert found["returns"]["once"] == 0.25
    assert {band: n for band, n in found["returns"]["gaps"].items() if n} == {"2-3": 3, "8-14": 7}
    assert found["returns"]["median_days"] == 10
    assert business(tables_of(events))["due"]["users"] == []
    assert without_users(found)["due"]["users"] == []


def test_share_of_new_customers_who_came_back() -> None:
    # 200 users begin on day 0; 50 return on day 5, 50 on day 20. Those who begin on day 195 had no time to.
    events = [(user, 0, 0) for user in range(200)] + [(user, 0, 5) for user in range(50)]
    events += [(user, 0, 20) for user in range(50, 100)] + [(user, 0, 195) for user in range(200, 300)]
    back = business(tables_of(events))["returns"]["back_within"]
    assert back == {7: 0.25, 30: 0.5, 90: 0.5, 180: 0.5}


def test_categories_over_time_leave_out_the_partial_ends() -> None:
    # Day 0 is a Thursday: the week of the first event and that of the last are partial.
    events = [(0, 0, day) for day in range(28)] + [(1, 2, 6)]
    found = business(tables_of(events))["categories"]
    assert found["every"] == "week"
    assert found["periods"] == ["1970-01-05", "1970-01-12", "1970-01-19"]
    assert found["events"] == {"Bath": [7, 7, 7], "Kitchen": [1, 0, 0]}


def test_only_order_and_no_category() -> None:
    events = [(user, item, 1) for user in range(6) for item in (0, 1)]
    found = business(tables_of(events, clock="order"))
    assert set(found) == {"events", "together"}
    assert found["together"]["pairs"] == []  # always together, as chance would have it where nothing else is bought
    assert business(tables_of(events, categories=[None] * 4))["categories"] == {}
