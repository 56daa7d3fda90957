"""A table made by SQL from several files."""

import pytest
from raw_tables import RawTables, events_of

from recsys.errors import ConfigError, DataError

ORDERS = "order_id;customer_id;at\n1;c1;2025-01-01\n2;c2;2025-01-02\n3;c1;2025-01-03\n"
LINES = "\n".join(
    [
        '{"order_id": "1", "sku": "a", "stars": 5}',
        '{"order_id": "2", "sku": "b", "stars": 1}',
        "broken",
        '{"order_id": "3", "sku": "c", "stars": 4}',
    ]
)
SQL = """
    SELECT o.customer_id AS user_id, l.sku AS item_id, o.at AS "timestamp"
    FROM lines l JOIN orders o ON o.order_id = l.order_id
"""


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


def load(shop, query, **data):
    files = {"orders": shop.write("orders.csv", ORDERS), "lines": {"path": shop.write("lines.jsonl", LINES)}}
    return shop.load(interactions={"source": "query", "path": "", "query": query, "tables": files}, **data)


def test_tables_are_joined(shop):
    tables = load(shop, SQL, tolerated=0.5)
    assert [event[:2] for event in events_of(tables)] == [("c1", "a"), ("c1", "c"), ("c2", "b")]
    assert tables.report["interactions"]["refused"] == {"row: not JSON": 1}
    [bad] = shop.quarantine("interactions").select("file", "row").rows()
    assert bad == (str(shop.folder / "lines.jsonl"), 3)


def test_rows_are_chosen_by_numbers(shop):
    tables = load(shop, SQL + " WHERE CAST(l.stars AS DOUBLE) >= 4", tolerated=0.5)
    assert [event[:2] for event in events_of(tables)] == [("c1", "a"), ("c1", "c")]
    with pytest.raises(DataError, match=r"cannot compare string.*write CAST\(column AS DOUBLE\)"):
        load(shop, SQL + " WHERE l.stars >= 4")


def test_wrong_queries_are_explained(shop):
    with pytest.raises(DataError, match=r"interactions.query: .*'nope' was not found.*orders: order_id, customer_id"):
        load(shop, "SELECT * FROM nope")
    with pytest.raises(DataError, match=r"custmer"):
        load(shop, "SELECT custmer FROM orders")


@pytest.mark.parametrize("query", ["DROP TABLE orders", "SELECT * FROM read_csv('x.csv')", "DELETE FROM orders"])
def test_only_a_select_over_the_named_tables_runs(shop, query):
    with pytest.raises(ConfigError, match=r"data.interactions.query: it must be one SELECT"):
        load(shop, query)


def test_tables_must_be_named(shop):
    with pytest.raises(ConfigError, match=r"data.interactions.tables: name the files"):
        shop.load(interactions={"source": "query", "path": "", "query": SQL})
    with pytest.raises(ConfigError, match=r"data.interactions.tables.orders: give `path:`"):
        shop.load(interactions={"source": "query", "path": "", "query": SQL, "tables": {"orders": {"source": "csv"}}})
