"""The table of reviews: read and checked row by row as the other tables are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.config import DataConfig, ReviewTableConfig
from recsys.errors import ConfigError
from recsys.tables import schema
from recsys.tables.ids import as_id, identifier
from recsys.tables.quarantine import count_by_reason, put_away
from recsys.tables.rules import LEFT_OUT, REASON, CellRule, first_reason, parsed, quarantined
from recsys.tables.settle import TIME, settle
from recsys.tables.sources.base import RawTable
from recsys.tables.sources.registry import read
from recsys.tables.sources.scanning import DROPPED, FILE, ROW, own_columns, reading
from recsys.tables.summary import log_table
from recsys.tables.tombstones import Tombstones

NO_TEXT = "text: none"
# What exports of reviews call our columns, where they have none of our names.
USUAL = {"stars": ("rating", "overall", "score", "value"), "text": ("review_text", "reviewText", "review", "body")}


@dataclass(frozen=True, eq=False)
class Reviews:
    """Reviews, oldest first, those without a time before all others.

    Attributes:
        frame: `review_id` (String), `item_id` as the catalogue writes it, `user_id` (null where unknown), `time`
            (microseconds since 1970 in UTC, or any growing integer under `clock: order`; null where unknown), `stars`
            (Float64, null where not rated), `text` (never blank).
        clock: `time` or `order`.
    """

    frame: pl.DataFrame
    clock: str

    def __len__(self) -> int:
        return self.frame.height

    def of(self, item_id: str | int) -> Reviews:
        """Select the reviews of one item."""
        return Reviews(self.frame.filter(pl.col("item_id").cast(pl.String) == str(item_id)), self.clock)


def load_reviews(data: DataConfig, folder: Path) -> Reviews:
    """Load the reviews that `data.reviews` names.

    A review without a text is left out, and so are those of forgotten people. Without a column `review_id` a review is
    called by its row, `FILE:ROW`.

    Args:
        data: Where the table is and how to read it.
        folder: Refused rows go to `folder/quarantine/reviews.parquet`.

    Raises:
        ConfigError: The config names no reviews, an unknown source or column of ours.
        DataError: A missing file or column, no row left, or more refused rows than tolerated.
        ArtifactError: The quarantine could not be written, or `forgotten.json` is damaged.
    """
    if data.reviews is None:
        raise ConfigError("the config names no reviews: say where they are, such as `data: {reviews: {source: csv, "
                          "path: reviews.csv}}`")  # fmt: skip
    raw = read(data.reviews, "reviews")
    settings = _with_usual_names(data.reviews, raw)
    source = schema.mapped(settle(raw, settings, data), settings, "reviews")
    with reading(source.files):
        rows = source.frame.collect(engine="streaming")
    rows, rules = _judge(rows, data)
    forgotten = Tombstones.read(folder)
    rows = rows.filter(~forgotten.hold(rows[parsed("user_id")].cast(pl.String)).fill_null(False))
    good = rows.filter(pl.col(LEFT_OUT).is_null() & pl.col(REASON).is_null())
    bad = rows.filter(pl.col(LEFT_OUT).is_null() & pl.col(REASON).is_not_null())
    dropped = count_by_reason(rows[LEFT_OUT])
    refused = put_away("reviews", rows.height, bad.select(quarantined([rule.column for rule in rules])), data.tolerated,
                       folder / "quarantine" / "reviews.parquet", source.files, dropped)  # fmt: skip
    log_table("reviews", {"rows": rows.height, "kept": good.height, "refused": refused, "dropped": dropped})
    own = pl.col(parsed("review_id")).cast(pl.String)
    name = pl.concat_str(pl.col(FILE).cast(pl.String).str.split("/").list.last(), pl.lit(":"), pl.col(ROW))
    frame = good.select(
        review_id=pl.coalesce(own, name),
        item_id=parsed("item_id"),
        user_id=pl.col(parsed("user_id")).cast(pl.String),
        time=parsed("timestamp"),
        stars=parsed("stars"),
        text=parsed("text"),
    )
    frame = frame.with_columns(as_id(frame["item_id"], source.types))
    return Reviews(frame.sort("time", nulls_last=False, maintain_order=True), data.clock)


def _with_usual_names(settings: ReviewTableConfig, raw: RawTable) -> ReviewTableConfig:
    """Map stars and text to what exports call them, where the config does not and the file has none of our names."""
    have = own_columns(raw.frame)
    found = {ours: next((name for name in names if name in have), None)
             for ours, names in USUAL.items() if ours not in settings.columns and ours not in have}  # fmt: skip
    return settings.model_copy(update={"columns": {**settings.columns, **{k: v for k, v in found.items() if v}}})


def _judge(rows: pl.DataFrame, data: DataConfig) -> tuple[pl.DataFrame, list[CellRule]]:
    """Read each cell; LEFT_OUT says why a row is not wanted, REASON why it is refused."""
    dtypes = rows.schema
    item_id, item_rules = identifier("item_id", dtypes["item_id"], [word.lower() for word in data.missing])
    text = schema.text("text", dtypes["text"])
    stars, not_a_number = schema.number("stars", dtypes["stars"])
    rules = [*item_rules, not_a_number]
    time = pl.lit(None, pl.Int64).alias(parsed("timestamp"))
    if TIME in dtypes or (data.clock == "order" and dtypes["timestamp"] != pl.Null):
        time, time_rules = schema.moment(dtypes, data)
        rules += [rule for rule in time_rules if rule.reason != "missing"]
    ids = [_optional_id(name, dtypes[name]) for name in ("user_id", "review_id")]
    rows = rows.with_columns(item_id, text, stars, time, *ids)
    empty = pl.when(pl.col(parsed("text")).is_null()).then(pl.lit(NO_TEXT))
    rows = rows.with_columns(pl.coalesce(DROPPED, empty).alias(LEFT_OUT))
    finite = pl.col(parsed("stars")).is_finite()
    rows = rows.with_columns(pl.when(finite).then(parsed("stars")).alias(parsed("stars")))
    return rows.with_columns(pl.when(pl.col(LEFT_OUT).is_null()).then(first_reason(rules)).alias(REASON)), rules


def _optional_id(name: str, dtype: pl.DataType) -> pl.Expr:
    cell, _ = identifier(name, dtype)
    return pl.lit(None, pl.String).alias(parsed(name)) if dtype == pl.Null else cell
