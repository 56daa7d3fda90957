"""Quotes that end before their cell does, and separators inside quoted cells."""

import pytest
from raw_tables import RawTables


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


def test_a_quote_that_ends_before_its_cell(shop):
    items = 'item_id\ttitle\na\t"Blue" song 1\nb\tan "Old" song\nc\t"Plain"\n'
    tables = shop.load(items=items)
    assert tables.catalog.frame["title"].to_list() == ["Blue song 1", 'an "Old" song', "Plain"]
    assert not tables.report["catalog"]["refused"]


def test_commas_inside_the_cells_of_a_table_with_semicolons(shop):
    """Most lines have as many commas as semicolons; the first line tells."""
    rows = "".join(f'"i{n}";"nyc, new york, usa";NULL\n' for n in range(60))
    tables = shop.load(
        items='"item_id";"title";"price"\n' + rows, events="user_id,item_id,timestamp\nu,i1,2025-01-01\n"
    )
    assert tables.catalog.ids.to_list() == [f"i{n}" for n in range(60)]
    assert tables.catalog.frame["title"][0] == "nyc, new york, usa"
