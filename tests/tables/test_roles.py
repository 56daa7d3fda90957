"""Which table is what: logs, catalogues and columns found by names, values and overlaps."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from recsys.errors import DataError
from recsys.tables.names import strength, words_of
from recsys.tables.profile import TableProfile
from recsys.tables.roles import assign_roles, find_roles

START = datetime(2025, 3, 1)


def log(user: str = "user_id", item: str = "item_id", **more: list[object]) -> pl.DataFrame:
    """Forty events of eight users on ten items."""
    rng = np.random.default_rng(3)
    return pl.DataFrame({user: [f"u{n % 8}" for n in range(40)],
                         item: [f"i{n}" for n in rng.integers(10, size=40)]} | more)  # fmt: skip


def items(key: str = "item_id", **more: list[object]) -> pl.DataFrame:
    return pl.DataFrame({key: [f"i{n}" for n in range(10)], "name": [f"A red lamp {n}" for n in range(10)]} | more)


def profiles(*frames: pl.DataFrame) -> list[TableProfile]:
    return [TableProfile.of(f"table{number}", frame) for number, frame in enumerate(frames)]


TIMES = [START + timedelta(hours=n) for n in range(40)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CustomerID", ["customer", "id"]),
        ("customer_id:token", ["customer", "id"]),
        ("unixReviewTime", ["unix", "review", "time"]),
        ("product-name", ["product", "name"]),
        ("用户", ["用户"]),
    ],
)
def test_names_are_split_into_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words


def test_people_come_before_visits_and_visits_before_orders() -> None:
    order = ["customer_id", "session_id", "transaction", "order_id"]
    assert sorted(order, key=lambda name: -strength(name, "user_id")) == order
    assert strength("colour", "user_id") == 0


def test_the_order_of_the_files_does_not_matter() -> None:
    tables = profiles(log(when=TIMES), items(price=[1.5] * 10, brand=["Acme", "Bolt"] * 5))
    for some in (tables, tables[::-1]):
        roles = find_roles(some)
        assert (roles.interactions.name, roles.catalog and roles.catalog.name, roles.clock) == (
            "table0",
            "table1",
            "time",
        )
        assert roles.interaction_columns == {"user_id": "user_id", "item_id": "item_id", "timestamp": "when"}
        assert roles.catalog_columns == {"item_id": "item_id", "title": "name", "brand": "brand", "price": "price"}


def test_a_catalogue_is_found_by_the_ids_that_it_holds() -> None:
    """Its key is called `code`, which is no name of an item."""
    roles = find_roles(profiles(log(item="sku", ts=TIMES), items(key="code")))
    assert roles.catalog_columns["item_id"] == "code"


def test_numbers_match_whatever_their_type() -> None:
    events = pl.DataFrame(
        {"user": [1, 1, 2, 2], "movie": [10.0, 11.0, 10.0, 11.0], "time": [10**9 + n for n in range(4)]}
    )
    catalog = pl.DataFrame({"movie": ["10", "11", "12"], "title": ["a b", "c d", "e f"]})
    roles = assign_roles(*profiles(events, catalog))
    assert roles.catalog_columns == {"item_id": "movie", "title": "title"}
    assert roles.interaction_columns == {"user_id": "user", "item_id": "movie", "timestamp": "time"}


def test_visits_stand_in_for_people_and_say_so() -> None:
    roles = find_roles(profiles(log(user="session_id", date=TIMES), items()))
    assert roles.interaction_columns["user_id"] == "session_id"
    assert roles.notes == ["no column names people: each value of 'session_id' is taken for a user of its own"]


def test_positions_stand_in_for_times_and_say_so() -> None:
    roles = find_roles(profiles(log(position=list(range(40))), items()))
    assert (roles.clock, roles.interaction_columns["timestamp"]) == ("order", "position")
    assert roles.notes == ["no column holds times: the order of 'position' stands for time"]


def test_kinds_and_ratings() -> None:
    more = {"ts": TIMES, "action": ["view", "buy"] * 20, "rating": [1, 2, 3, 4, 5] * 8}
    roles = find_roles(profiles(log(**more), items()))
    assert roles.interaction_columns["event"] == "action"
    assert roles.interaction_columns["value"] == "rating"


def test_no_log_names_the_columns() -> None:
    with pytest.raises(DataError, match=r"no file looks like a log of behaviour: .*table0: item_id, name"):
        find_roles(profiles(items()))


def test_frames_that_do_not_belong_together() -> None:
    other = pl.DataFrame({"item_id": [f"x{n}" for n in range(10)], "title": ["a lamp"] * 10})
    with pytest.raises(
        DataError, match="no column of table1 holds the items of table0, which stand in its column 'item_id'"
    ):
        assign_roles(*profiles(log(ts=TIMES), other))
    with pytest.raises(DataError, match="table0 has no column of users or none of items; its columns: item_id, name"):
        assign_roles(*profiles(items(), items()))


def test_visits_of_one_moment_are_ordered_by_what_grows_within_them() -> None:
    visits = {"session_id": [n // 4 for n in range(40)], "item_id": [f"i{n % 10}" for n in range(40)],
              "eventdate": [f"2016-05-0{1 + n // 20}" for n in range(40)]}  # fmt: skip
    frames = pl.DataFrame(visits | {"timeframe": [(n % 4) * 1000 + 17 for n in range(40)]}), items()
    roles = find_roles(profiles(*frames))
    assert (roles.clock, roles.interaction_columns["timestamp"]) == ("order", "timeframe")
    assert (
        "most users have all their events at one moment of 'eventdate': the order of 'timeframe' stands for time"
        in (roles.notes)
    )
    roles = find_roles(profiles(pl.DataFrame(visits), items()))
    assert (roles.clock, "timestamp" in roles.interaction_columns) == ("order", False)


def test_a_column_that_is_mostly_empty_names_nobody() -> None:
    """Diginetica's `user_id` says NA for whoever was not signed in."""
    visits = {"user_id": ["NA"] * 38 + ["7", "8"], "session_id": [n // 4 for n in range(40)],
              "item_id": [f"i{n % 10}" for n in range(40)], "ts": TIMES}  # fmt: skip
    assert find_roles(profiles(pl.DataFrame(visits), items())).interaction_columns["user_id"] == "session_id"


def test_lines_of_orders_are_no_items_and_what_lies_elsewhere_is_said() -> None:
    lines = log("order_id", "product_id", order_item_id=[n // 8 + 1 for n in range(40)], order_date=TIMES)
    orders = pl.DataFrame({"order_id": [f"u{n}" for n in range(4)], "customer_id": ["c1", "c1", "c2", "c3"]})
    roles = find_roles(profiles(lines, orders, items("product_id").head(2)))
    assert roles.interaction_columns["user_id"] == "order_id"
    assert roles.interaction_columns["item_id"] == "product_id", "order_item_id only counts the lines of an order"
    assert roles.catalog is None
    assert any("table1 ties 50% of 'order_id' to 'customer_id'" in note for note in roles.notes)
    assert any("table2 holds 20% of the items in its column 'product_id'" in note for note in roles.notes)
    assert not [note for note in find_roles(profiles(log(time=TIMES), items())).notes if " holds " in note]


@pytest.mark.parametrize(
    ("name", "role", "speaks"),
    [("events.type", "event", True), ("events.aid", "event", False), ("events.aid", "item_id", True),
     ("product.id", "item_id", True)],
)  # fmt: skip
def test_of_a_field_its_own_name_speaks(name: str, role: str, speaks: bool) -> None:
    assert (strength(name, role) > 0) == speaks
