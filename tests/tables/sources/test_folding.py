"""Exports in which one order or product spans rows."""

import pytest
from raw_tables import RawTables, events_of

from recsys.errors import DataError

ORDERS = """Name,Email,Created at,Lineitem sku
#1,ann@x.com,2025-01-01,a
#1,,,b
#2,,2025-01-02,a
#3,bob@x.com,2025-01-03,
#3,,,c
"""
PRODUCTS = """Handle,Title,Price,SKU
lamp,Red lamp,,a
lamp,,9.5,b
lamp,,9.5,
chair,Chair,20,c
"""
LOG = "user_id,item_id,timestamp\nann,lamp,2025-01-01\nbob,chair,2025-01-01\n"


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


def orders(shop, text=ORDERS, **settings):
    columns = {"user_id": "Email", "item_id": "Lineitem sku", "timestamp": "Created at"}
    return {"source": "csv", "path": shop.write("orders.csv", text), "columns": columns, **settings}


def items(shop, **settings):
    return {"source": "csv", "path": shop.write("products.csv", PRODUCTS), **settings}


SKUS = {"item_id": "SKU", "title": "Title", "price": "Price"}


def test_blanks_repeat_the_row_above_within_one_order(shop):
    """Order #2 has no person: it does not get that of #1. A blank that is not filled down stays one."""
    catalog = items(shop, columns=SKUS, fill_down={"Handle": ["Title"]}, one_row_per="SKU")
    log = orders(shop, fill_down={"Name": ["Email", "Created at"]})
    tables = shop.load(catalog=catalog, interactions=log, tolerated=0.5)
    assert [event[:2] for event in events_of(tables)] == [("ann@x.com", "a"), ("ann@x.com", "b"), ("bob@x.com", "c")]
    assert tables.report["interactions"]["refused"] == {"item_id: missing": 1, "user_id: missing": 1}
    assert tables.catalog.frame.select("item_id", "title").rows() == [
        ("a", "Red lamp"), ("b", "Red lamp"), ("c", "Chair")]  # fmt: skip
    assert tables.report["catalog"]["dropped"] == {"SKU: missing": 1}


def test_an_order_may_be_named_in_its_first_row_alone(shop):
    text = ORDERS.replace("#1,,,b", ",,,b").replace("#3,,,c", ",,,c")
    catalog = items(shop, columns=SKUS, one_row_per="SKU")
    log = orders(shop, text, fill_down={"Name": ["Email", "Created at"]})
    tables = shop.load(catalog=catalog, interactions=log, tolerated=0.5)
    assert [event[:2] for event in events_of(tables)] == [("ann@x.com", "a"), ("ann@x.com", "b"), ("bob@x.com", "c")]


def test_a_product_of_several_rows_is_one_item_with_its_first_filled_cells(shop, caplog):
    catalog = items(shop, columns={"item_id": "Handle", "title": "Title", "price": "Price"}, one_row_per="Handle")
    tables = shop.load(catalog=catalog, interactions={"source": "csv", "path": shop.write("log.csv", LOG)})
    found = tables.catalog.frame.select("item_id", "title", "price").rows()
    assert found == [("lamp", "Red lamp", 9.5), ("chair", "Chair", 20.0)]
    assert tables.report["catalog"]["dropped"] == {"Handle: a further row of the same": 2}
    assert not [record for record in caplog.records if record.levelname == "WARNING"]  # nothing was lost


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fill_down": {"Nmae": ["Email"]}}, r"fill_down: .*orders.csv has no column 'Nmae'; its columns: Name, Email"),
        ({"fill_down": {"Name": ["Mail"]}}, r"fill_down: .*orders.csv has no column 'Mail'"),
        ({"one_row_per": "Order"}, r"one_row_per: .*orders.csv has no column 'Order'"),
    ],
)
def test_columns_that_are_not_there(shop, settings, message):
    with pytest.raises(DataError, match=message):
        shop.load(catalog=items(shop, columns=SKUS, one_row_per="SKU"), interactions=orders(shop, **settings))
