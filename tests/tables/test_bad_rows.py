"""Rows that are wrong: each is refused for one reason, quarantined, counted, and too many stop the run."""

import errno
import os
from pathlib import Path

import polars as pl
import pytest
from raw_tables import HEAD, ITEMS, RawTables

from recsys.errors import ArtifactError, DataError


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        (",a,2025-01-01,1,1,1", "user_id", None, "user_id: missing"),
        ("  ,a,2025-01-01,1,1,1", "user_id", "  ", "user_id: missing"),
        ("u1,,2025-01-01,1,1,1", "item_id", None, "item_id: missing"),
        ("u1,zz,2025-01-01,1,1,1", "item_id", "zz", "item_id: not in the catalogue"),
        ("u1,a,,1,1,1", "timestamp", None, "timestamp: missing"),
        ("u1,a,yesterday,1,1,1", "timestamp", "yesterday", "timestamp: not a time"),
        ("u1,a,01/02/2025,1,1,1", "timestamp", "01/02/2025", "timestamp: not a time"),
        ("u1,a,1969-12-31,1,1,1", "timestamp", "1969-12-31", "timestamp: before 1970"),
        ("u1,a,2999-01-01,1,1,1", "timestamp", "2999-01-01", "timestamp: in the future"),
        ("u1,a,2025-01-01,many,1,1", "value", "many", "value: not a number"),
        ("u1,a,2025-01-01,1,first,1", "rank", "first", "rank: not a number"),
        ("u1,a,2025-01-01,1,0,1", "rank", "0", "rank: not a whole number from 1"),
        ("u1,a,2025-01-01,1,1,1.2", "propensity", "1.2", "propensity: not above 0 and up to 1"),
        ("u1,a,2025-01-01,1,1,1,extra", None, None, "row: more cells than columns"),
        ("u\xff,a,2025-01-01,1,1,1", None, None, "row: not UTF-8"),
    ],
)
def test_bad_events_go_to_quarantine(shop, row, column, value, reason):
    good = "u1,a,2025-01-01,1,1,.5\n"
    events = "user_id,item_id,timestamp,value,rank,propensity\n" + good + "\n" + row + "\n"
    tables = shop.load(events=events.encode("latin-1"), tolerated=0.5)
    about = tables.report["interactions"]
    assert (about["rows"], about["kept"], about["refused"]) == (2, 1, {reason: 1})
    bad = shop.quarantine("interactions")
    assert bad.columns == ["file", "row", "column", "value", "reason", "user_id"]
    [(file, number, *rest, _)] = bad.rows()
    assert Path(file).name == "events.csv"
    assert number == 3, "a blank line is no row but keeps its number"
    assert rest == [column, value, reason]


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        (",Title,1", "item_id", None, "item_id: missing"),
        ("a,Title,1", "item_id", "a", "item_id: duplicate"),
        ("d,Title,-1", "price", "-1", "price: negative"),
        ("d,Title,1,extra", None, None, "row: more cells than columns"),
    ],
)
def test_bad_items_go_to_quarantine(shop, row, column, value, reason):
    tables = shop.load(items=ITEMS + row + "\n", tolerated=0.5)
    assert tables.catalog.ids.to_list() == ["a", "b", "c"]
    assert tables.report["catalog"]["refused"] == {reason: 1}
    [(file, number, *rest)] = shop.quarantine("catalog").rows()
    assert (Path(file).name, number, rest) == ("items.csv", 4, [column, value, reason])


def test_a_refused_row_is_not_the_first_of_its_id(shop):
    tables = shop.load(items="item_id,title,price\na,Ants,-1\na,Aunts,1\na,Uncles,1\n", tolerated=0.7)
    assert tables.catalog.titles == ["Aunts"]
    assert tables.report["catalog"]["refused"] == {"price: negative": 1, "item_id: duplicate": 1}


def test_prices_that_are_not_finite_become_null_and_empty_titles_stay(shop):
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "price": [1.0, float("nan"), float("inf"), None],
            "title": ["x", " ", "", None],
        }
    )
    tables = shop.load(items=items)
    assert tables.catalog.frame["price"].to_list() == [1.0, None, None, None]
    assert tables.catalog.frame["title"].to_list() == ["x", None, None, None]
    assert tables.report["catalog"]["not_finite"] == {"price": 2}
    assert tables.report["catalog"]["empty"]["title"] == 3


def test_too_many_bad_rows_stop_the_run_and_say_where(shop):
    events = HEAD + "u1,a,2025-01-01\n" * 7 + "u1,a,never\nu1,zz,2025-01-01\n,a,2025-01-01\n"
    with pytest.raises(DataError) as caught:
        shop.load(events=events, tolerated=0.2)
    message = str(caught.value)
    assert "interactions: 3 of 10 rows were refused (30.0%), and data.tolerated allows 20.0%" in message
    assert "events.csv:8: timestamp: not a time: 'never'" in message
    assert "events.csv:9: item_id: not in the catalogue: 'zz'" in message
    assert "events.csv:10: user_id: missing\n" in message
    assert os.path.join("quarantine", "interactions.parquet") in message
    assert shop.quarantine("interactions").height == 3
    shop.load(events=events, tolerated=0.3)
    with pytest.raises(
        DataError, match=r"(?s)catalog: 1 of 4 rows were refused \(25.0%\).*items.csv:4: price: negative: '-1'"
    ):
        shop.load(items=ITEMS + "d,Title,-1\n", tolerated=0.2)


def test_old_quarantine_is_removed_once_all_is_well(shop):
    shop.load(items=ITEMS + "a,Again,1\n", tolerated=0.5)
    assert shop.quarantine("catalog").height == 1
    shop.load()
    assert list((shop.folder / "out" / "quarantine").iterdir()) == []


@pytest.mark.parametrize(("code", "why"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "Permission denied")])
def test_quarantine_that_cannot_be_written(shop, monkeypatch, code, why):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ArtifactError, match=rf"catalog.parquet: 1 refused rows could not be written: .*{why}"):
        shop.load(items=ITEMS + "a,Again,1\n", tolerated=0.5)
    assert list((shop.folder / "out" / "quarantine").iterdir()) == [], "no half-written file stays"
