"""The table of reviews: usual names, bad rows, rows without a text, forgotten people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recsys.config import DataConfig
from recsys.errors import ConfigError, DataError
from recsys.tables.reviews import Reviews, load_reviews
from recsys.tables.tombstones import Tombstones

HEADER = "review_id,user_id,item_id,timestamp,stars,text\n"


def load(folder: Path, content: str, tolerated: float = 0.5, **settings: Any) -> Reviews:
    (folder / "reviews.csv").write_text(content, encoding="utf-8")
    table = {"source": "csv", "path": str(folder / "reviews.csv")} | settings
    data = {"interactions": {"path": "none"}, "reviews": table, "tolerated": tolerated}
    return load_reviews(DataConfig.model_validate(data), folder)


def test_rows_are_read_oldest_first(tmp_path: Path) -> None:
    rows = "r1,u1,7,2025-02-01,5,Great\nr2,u2,8,2025-01-01,1,差\nr3,,7,2025-03-01,,  so so \nr4,u4,7,2025-01-05,4,\n"
    reviews = load(tmp_path, HEADER + rows)
    assert reviews.frame["review_id"].to_list() == ["r2", "r1", "r3"]  # r4 says nothing
    assert reviews.frame["text"].to_list() == ["差", "Great", "so so"]
    assert reviews.frame["item_id"].dtype == pl.Int64
    assert reviews.frame["stars"].to_list() == [1, 5, None]
    assert reviews.frame["user_id"].to_list() == ["u2", "u1", None]
    assert len(reviews.of(7)) == len(reviews.of("7")) == 2


def test_names_that_exports_use_and_what_may_be_missing(tmp_path: Path) -> None:
    reviews = load(tmp_path, "item_id,rating,review_text\na,5,Good\nb,1,Bad\n")
    assert reviews.frame["stars"].to_list() == [5, 1]
    assert reviews.frame["review_id"].to_list() == ["reviews.csv:1", "reviews.csv:2"]
    assert reviews.frame["time"].null_count() == reviews.frame["user_id"].null_count() == 2
    mapped = load(tmp_path, "sku,note\na,Good\n", columns={"item_id": "sku", "text": "note"})
    assert mapped.frame["text"].to_list() == ["Good"]


def test_bad_rows_are_refused_with_their_place(tmp_path: Path) -> None:
    rows = "r1,u1,7,2025-02-01,five,Great\nr2,u2,,2025-01-01,1,Bad\nr3,u3,7,2025-01-01,1,Bad\n"
    said = (
        r"(?s)reviews: 2 of 3 rows were refused \(66\.7%\).*csv:1: stars: not a number: 'five'.*csv:2: item_id: missing"
    )
    with pytest.raises(DataError, match=said):
        load(tmp_path, HEADER + rows)
    assert load(tmp_path, HEADER + rows, tolerated=0.9).frame["review_id"].to_list() == ["r3"]
    assert pl.read_parquet(tmp_path / "quarantine" / "reviews.parquet").height == 2


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'text'.*name the one to use under data\.reviews"):
        load(tmp_path, "item_id,stars\na,5\n")
    with pytest.raises(
        ConfigError, match=r"data\.reviews\.columns: 'star' is no column of ours; did you mean 'stars'\?"
    ):
        load(tmp_path, HEADER, columns={"star": "rating"})
    with pytest.raises(ConfigError, match="the config names no reviews"):
        load_reviews(DataConfig.model_validate({"interactions": {"path": "none"}}), tmp_path)


def test_forgotten_people_are_left_out(tmp_path: Path) -> None:
    rows = "r1,u1,7,2025-02-01,5,Great\nr2,u2,8,2025-01-01,1,Bad\n"
    Tombstones.read(tmp_path).add(tmp_path, ["u1"])
    assert load(tmp_path, HEADER + rows).frame["review_id"].to_list() == ["r2"]
