"""UCI Online Retail, the raw CSV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from recsys.tables.sources.base import RawTable, Table, must_have
from recsys.tables.sources.files import Csv
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW


@SOURCES.register
@dataclass(frozen=True)
class OnlineRetail:
    """UCI Online Retail, the raw CSV, for both tables: the products are those that its clean sales name.

    A product is titled by its most frequent description and priced at its median; its file and row are
    those of its first sale.
    """

    name: ClassVar[str] = "online_retail"

    def read(self, paths: list[str], table: Table) -> RawTable:
        source = Csv().read(paths, table)
        must_have(source.frame, ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice",
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
            return RawTable(sales.drop("title"), source.files)
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
        return RawTable(goods_frame.join(titles, on="item_id", how="left", maintain_order="left"), source.files)
