"""Delimited text as exports write it: each way is detected, said, and can be set."""

import bz2
import gzip
import io
import json
import zipfile

import pytest
from raw_tables import HEAD, ITEMS, RawTables, events_of

from recsys.errors import ConfigError, DataError

EVENTS = HEAD + "u1,a,2025-01-01\nu2,b,2025-01-02\nu3,c,2025-01-03\n"
ROWS = [("u1", "a"), ("u2", "b"), ("u3", "c")]


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


def pairs(tables):
    return [event[:2] for event in events_of(tables)]


@pytest.mark.parametrize(
    ("separator", "said"),
    [(";", "separator semicolon"), ("\t", "separator tab"), ("|", "separator bar"), ("::", "'::'")],
)
def test_separators_are_detected_and_said(shop, separator, said, caplog):
    with caplog.at_level("INFO", logger="recsys"):
        assert pairs(shop.load(events=EVENTS.replace(",", separator))) == ROWS
    assert said in caplog.text


@pytest.mark.parametrize("name", ["events.tsv", "events.txt", "events.dat", "u.data"])
def test_names_of_text_tables(shop, name):
    assert pairs(shop.load(interactions={"path": shop.write(name, EVENTS.replace(",", "\t"))})) == ROWS


def test_a_separator_in_texts_is_no_separator(shop):
    items = "item_id,title\na,x; y; z; w\nb,p; q; r; s\nc,k; l; m; n\n"
    assert shop.load(items=items).catalog.titles[0] == "x; y; z; w"


def test_a_separator_can_be_set(shop):
    items = "item_id;title,note\na;one,x\nb;two,y\n"
    assert shop.load(items=items, catalog={"separator": ";"}).catalog.frame["title,note"].to_list() == [
        "one,x",
        "two,y",
    ]
    with pytest.raises(
        ConfigError, match=r"data.catalog.seperator: unknown setting of 'csv'; did you mean 'separator'"
    ):
        shop.load(catalog={"seperator": ";"})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1", "utf-8-sig"])
def test_encodings_are_detected(shop, encoding):
    items = "item_id,title\na,Café\nb,Crème\nc,Gâteau\n"
    assert shop.load(items=items.encode(encoding)).catalog.titles == ["Café", "Crème", "Gâteau"]


def test_other_scripts_are_read_in_the_encoding_that_is_set_and_never_guessed(shop):
    items = "item_id,title\na,龙井茶杯\nb,绿茶罐子\nc,红茶杯子\n".encode("gb18030")
    with pytest.raises(DataError, match=r"items.csv: its text is neither UTF-8 nor Latin-1: set `encoding:`"):
        shop.load(items=items)
    assert shop.load(items=items, catalog={"encoding": "gb18030"}).catalog.titles[0] == "龙井茶杯"
    with pytest.raises(DataError, match=r"its text is not ascii: .* set encoding"):
        shop.load(items=items, catalog={"encoding": "ascii"})


def test_decimal_commas(shop):
    items = "item_id;title;price\na;Ants, red;1,50\nb;Bees;2,25\nc;Cats;1.234,50\n"
    frame = shop.load(items=items).catalog.frame
    assert frame["price"].to_list() == [1.5, 2.25, 1234.5]
    assert frame["title"][0] == "Ants, red"


@pytest.mark.parametrize("before", ["sep=,\n", "\n\n", "# exported on Monday\n"])
def test_lines_before_the_header(shop, before):
    assert pairs(shop.load(events=before + EVENTS)) == ROWS


def test_header_names_lose_outer_spaces(shop):
    assert pairs(shop.load(events=EVENTS.replace("user_id,item_id,timestamp", "user_id, item_id ,timestamp"))) == ROWS


def test_files_without_a_header(shop):
    body = "196\ta\t3\t881250949\n186\tb\t3\t891717742\n"
    names = {"columns": {"user_id": "column_1", "item_id": "column_2", "timestamp": "column_4"}}
    assert pairs(shop.load(events=body, interactions=names)) == [(186, "b"), (196, "a")]
    given = {"header": ["user_id", "item_id", "stars", "timestamp"]}
    assert pairs(shop.load(events=body, interactions=given)) == [(186, "b"), (196, "a")]
    with pytest.raises(DataError, match=r"no column 'user_id'.*its first line names no columns: name them by `header:"):
        shop.load(events=body)


@pytest.mark.parametrize(
    ("cell", "title"),
    [
        (r'"27\" screen, black"', '27" screen, black'),
        ('"27"" screen, black"', '27" screen, black'),
        ('27" screen', '27" screen'),
        ('"two\nlines"', "two lines"),
    ],
)
def test_quotes_of_all_writers(shop, cell, title):
    tables = shop.load(items=f'item_id,title,price\na,{cell},1\nb,"B, b",2\nc,C,3\n')
    assert tables.catalog.titles == [title, "B, b", "C"]
    assert tables.report["catalog"]["refused"] == {}


def test_apostrophes_as_quotes(shop):
    items = "item_id,title,price\n'a','Ants, red',1\n'b','Bees',2\n'c','Cats',3\n"
    assert shop.load(items=items).catalog.titles == ["Ants, red", "Bees", "Cats"]


def test_a_quote_that_does_not_end_costs_one_row(shop):
    tables = shop.load(items='item_id,title,price\nb,B,2\na,"27 screen,1\nc,C,3\n', tolerated=0.5,
                       events=HEAD + "u1,b,2025-01-01\n")  # fmt: skip
    assert tables.catalog.ids.to_list() == ["b", "c"]
    assert tables.report["catalog"]["refused"] == {"row: a quote that does not end": 1}
    assert shop.quarantine("catalog")["row"].to_list() == [2]


def packed_zip(data):
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w") as packed:
        packed.writestr("events.csv", data)
    return room.getvalue()


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("zip", packed_zip)])
def test_packed_files(shop, ending, pack):
    path = shop.write(f"events.csv.{ending}", pack(EVENTS.encode()))
    assert pairs(shop.load(interactions={"path": path})) == ROWS


def test_a_zip_of_several_files_is_refused(shop):
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w") as packed:
        packed.writestr("a.csv", EVENTS)
        packed.writestr("b.csv", EVENTS)
    with pytest.raises(DataError, match=r"events.csv.zip holds 2 files, and one is wanted"):
        shop.load(interactions={"path": shop.write("events.csv.zip", room.getvalue())})


def test_zstd(shop):
    zstandard = pytest.importorskip("zstandard")
    path = shop.write("events.csv.zst", zstandard.compress(EVENTS.encode()))
    assert pairs(shop.load(interactions={"path": path})) == ROWS


def test_files_of_other_formats_are_named_in_a_short_message(shop):
    wide = json.dumps({"user_id": "u1", "item_id": "a", "blob": "x," * 5_000})
    with pytest.raises(
        DataError, match=r"events.csv is no delimited text, it looks like JSON lines: write `source: js"
    ) as caught:
        shop.load(events=f"{wide}\n" * 3)
    assert len(str(caught.value)) < 300
    with pytest.raises(DataError, match=r"it looks like Parquet: write `source: parquet`"):
        shop.load(events=b"PAR1" + bytes(100))
    with pytest.raises(DataError, match=r"it looks like one JSON array"):
        shop.load(events='[{"user_id": 1}]')
    with pytest.raises(DataError, match=r"events.csv: cannot be read: it is empty"):
        shop.load(events="")


def test_items_of_the_default_table_are_plain(shop, caplog):
    with caplog.at_level("INFO", logger="recsys.tables.sources"):
        shop.load(items=ITEMS, events=EVENTS)
    assert [record for record in caplog.records if record.name.startswith("recsys.tables.sources")] == []
