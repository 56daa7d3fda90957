"""What is said of the rows of a table, optional cells, and tables that are made or lack something."""

import polars as pl
import pytest
from raw_tables import HEAD, ITEMS, RawTables, events_of

from recsys.errors import ConfigError, DataError

KINDS = "user_id,item_id,timestamp,event\n"


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


def test_a_line_a_table_and_a_warning_that_names_the_nearest_kind(shop, caplog):
    rows = "".join(f"u{n},a,2025-01-01,{'purchase' if n < 3 else 'Purchase'}\n" for n in range(10))
    with caplog.at_level("INFO", logger="recsys"):
        tables = shop.load(events=KINDS + rows, interactions={"events": {"purchase": 1}})
    said = [record.message for record in caplog.records if record.levelname == "INFO"]
    assert "catalog: 3 rows read, 3 kept" in said
    assert "interactions: 10 rows read, 3 kept; left out: 7 event: Purchase" in said
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning == (
        "interactions: 7 of 10 rows (70%) are left out: event: Purchase; did you mean 'purchase'? "
        "To keep it, list 'Purchase' under data.interactions.events"
    )
    assert tables.report["interactions"]["dropped"] == {"event: Purchase": 7}


def test_unknown_items_left_out_are_a_warning_with_their_share(shop, caplog):
    rows = HEAD + "u1,a,2025-01-01\n" + "u1,zz,2025-01-01\n" * 3
    with caplog.at_level("WARNING", logger="recsys"):
        shop.load(events=rows, unknown_items="drop")
    assert "interactions: 3 of 4 rows (75%) are left out: item_id: not in the catalogue" in caplog.text


def test_few_rows_left_out_are_no_warning(shop, caplog):
    rows = HEAD + "".join(f"u{n},a,2025-01-01\n" for n in range(9)) + "u1,zz,2025-01-01\n"
    with caplog.at_level("WARNING", logger="recsys"):
        shop.load(events=rows, unknown_items="drop")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("$5.00", 5.0),
        ("6 €", 6.0),
        ('"1,234.50"', 1234.5),
        ('"1.234,50 EUR"', 1234.5),
        ('"2,50"', 2.5),
        ("cheap", None),
    ],
)
def test_prices_are_read_or_missing_and_counted(shop, written, price, caplog):
    with caplog.at_level("INFO", logger="recsys"):
        tables = shop.load(items=ITEMS + f"d,Dogs,{written}\n")
    assert tables.catalog.frame["price"].to_list() == [1.0, 2.0, 3.0, price]
    assert tables.report["catalog"]["unreadable"] == ({"price": 1} if price is None else {})
    assert ("catalog: 4 rows read, 4 kept; cells that cannot be read, taken as missing: 1 price" in caplog.text) == (
        price is None
    )


def test_null_leaves_a_column_out(shop):
    frame = shop.load(catalog={"columns": {"price": None, "title": None}}).catalog.frame
    assert frame.select("title", "price").rows() == [(None, None)] * 3
    with pytest.raises(DataError, match=r"no column 'item_id'|item_id"):
        shop.load(catalog={"columns": {"item_id": None}})


def test_a_log_without_times_is_in_the_order_of_its_rows(shop, caplog):
    events = "user_id,item_id\nu1,c\nu2,a\nu1,b\n"
    with caplog.at_level("WARNING", logger="recsys"):
        tables = shop.load(events=events, clock="order")
    assert events_of(tables) == [("u1", "c", 1), ("u1", "b", 3), ("u2", "a", 2)]
    assert "no column is a timestamp: the order of the rows is taken for the order of time" in caplog.text
    with pytest.raises(DataError, match=r"events.csv has no column 'timestamp'"):
        shop.load(events=events)


def test_items_are_those_of_the_events_where_no_table_has_them(shop, caplog):
    rows = ["u1,b,2025-01-01,", "u2,a,2025-01-02,Ants", "u2,b,2025-01-03,Bees", "u2,nan,2025-01-03,"]
    events = "\n".join(["user_id,item_id,timestamp,title", *rows, ""])
    with caplog.at_level("WARNING", logger="recsys"):
        tables = shop.load(events=events, catalog=None)
    assert tables.catalog.frame.select("item_id", "title").rows() == [("a", "Ants"), ("b", "Bees")]
    assert len(tables.interactions) == 3
    assert "there is no table of items: the catalogue is the 2 items that the events name" in caplog.text


def test_advice_is_yaml_that_works_when_pasted(shop):
    import yaml

    events = "user_id,item_id #,timestamp\nu1,a,2025-01-01\n"
    with pytest.raises(DataError) as caught:
        shop.load(events=events)
    advice = str(caught.value).split("`")[1]
    assert advice == 'columns: {item_id: "item_id #"}'
    assert len(shop.load(events=events, interactions=yaml.safe_load(advice)).interactions) == 1


def test_messages_do_not_list_hundreds_of_columns(shop):
    wide = ",".join(f"c{n}" for n in range(500))
    with pytest.raises(DataError) as caught:
        shop.load(items=wide + "\n" + ",".join("x" * 500) + "\n")
    assert "c29 and 470 more" in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("\"['Drama', 'War']\"", "Drama > War"),
        ('"[""Drama"", ""War""]"', "Drama > War"),
        ("Drama > War", "Drama > War"),
        ("[draft]", "[draft]"),
    ],
)
def test_lists_in_a_cell_are_categories(shop, written, path):
    assert shop.load(items=f"item_id,category\na,{written}\n").catalog.frame["category"].to_list() == [path]


def test_fields_inside_a_column_can_be_mapped(shop):
    events = pl.DataFrame({"user_id": ["u1"], "product": [{"id": "a", "at": {"day": "2025-01-01"}}]})
    columns = {"item_id": "product.id", "timestamp": "product.at.day"}
    with pytest.raises((DataError, ConfigError)):
        shop.load(events=events, interactions={"columns": columns | {"item_id": "product.idd"}})
    assert len(
        shop.load(events=events, interactions={"columns": {"item_id": "product.id"}}, clock="order").interactions
    )
