"""Amazon 2018 reviews and product metadata, as published."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import polars as pl

from recsys.tables.sources import scanning as scan
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.json_lines import scan_json
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import DROPPED


@SOURCES.register
@dataclass(frozen=True)
class AmazonReviews:
    """Amazon 2018 reviews, gzipped JSON lines: one event `review` each, with its stars as `value`."""

    name: ClassVar[str] = "amazon_reviews"

    def read(self, paths: list[str], table: Table) -> RawTable:
        files = scan.find_files(paths, [".json", ".json.gz"])
        ours = {
            "reviewerID": "user_id",
            "asin": "item_id",
            "unixReviewTime": "timestamp",
            "overall": "value",
            "reviewText": "review_text",
        }
        read_lines = partial(scan_json, schema=dict.fromkeys(ours, pl.String()))
        log = scan.join(list(scan.gather(files, read_lines).values()))
        return RawTable(log.rename(ours).with_columns(event=pl.lit("review")), files)


@SOURCES.register
@dataclass(frozen=True)
class AmazonMeta:
    """Amazon 2018 product metadata, gzipped JSON lines. Of the other columns only `main_cat` is kept.

    `also_buy` and its like are left out: they tell what was bought together after the moment of asking. A
    price is the first `$1,234.50` of its cell; pages scraped wrongly hold markup there and have none.
    """

    name: ClassVar[str] = "amazon_meta"

    def read(self, paths: list[str], table: Table) -> RawTable:
        files = scan.find_files(paths, [".json", ".json.gz"])
        texts, lists = ["asin", "title", "brand", "price", "main_cat"], ["category", "description"]
        schema = dict.fromkeys(texts, pl.String()) | dict.fromkeys(lists, pl.List(pl.String()))
        entities = {"&amp;": "&", "&quot;": '"', "&#39;": "'", "&lt;": "<", "&gt;": ">", "&nbsp;": " "}
        price = pl.col("price").str.extract(r"^\s*\$([\d,]+(?:\.\d+)?)").str.replace_all(",", "")
        markup = pl.element().str.starts_with("<")
        lines = scan.join(list(scan.gather(files, partial(scan_json, schema=schema)).values()))
        frame = lines.with_columns(
            pl.col("title").str.replace_many(entities),
            pl.col("brand").str.replace_many(entities).str.replace(r"^by\s+", ""),
            pl.col("category").list.eval(pl.element().filter(~markup).str.replace_many(entities)),
            pl.col("description").list.eval(pl.element().str.replace_all("<[^>]*>", " ").str.replace_many(entities)),
            price.alias("price"),
            pl.when(pl.col("asin").is_duplicated() & ~pl.col("asin").is_first_distinct())
            .then(pl.lit("item_id: listed again"))
            .alias(DROPPED),
        )
        return RawTable(frame.rename({"asin": "item_id"}), files)
