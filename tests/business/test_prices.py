"""Prices that look wrong: catalogues whose prices follow from their texts, and histories with a slip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sold import sales_of, write_sold
from typer.testing import CliRunner

from recsys.business.prices import PriceModel, find_prices
from recsys.cli.app import app
from recsys.errors import DataError, UnknownIdError

KINDS = {"silver ring": 80.0, "cotton napkin": 3.0, "oak table": 400.0, "paper lantern": 9.0, "glass vase": 25.0}
COLOURS = ["red", "blue", "green", "white", "black", "pink", "grey", "brown", "ivory", "amber", "teal", "plum"]


def catalogue(seed: int = 1) -> pl.DataFrame:
    """Sixty items: five kinds in twelve colours, each at its kind's price give or take a tenth."""
    rng = np.random.default_rng(seed)
    rows = [(f"{kind.split()[1]}-{colour}", f"{colour} {kind}", price * float(np.exp(rng.normal(0, 0.1))))
            for kind, price in KINDS.items() for colour in COLOURS]  # fmt: skip
    return pl.DataFrame(rows, ["item_id", "title", "price"], orient="row")


def with_price(items: pl.DataFrame, item: str, price: float) -> pl.DataFrame:
    return items.with_columns(price=pl.when(pl.col("item_id") == item).then(price).otherwise("price"))


def test_a_slipped_decimal_comes_first_with_eight_neighbours_of_its_kind() -> None:
    items = with_price(catalogue(), "vase-teal", 250.0)
    first = PriceModel(items).judge(items).row(0, named=True)
    assert first["item_id"] == "vase-teal"
    assert first["price"] == 250
    assert first["low"] < 25 < first["high"] < 60
    assert first["as_far"] == pytest.approx(1 / 60)
    assert len(first["neighbours"]) == 8
    assert {one["item_id"].split("-")[0] for one in first["neighbours"]} == {"vase"}
    assert "vase-teal" not in {one["item_id"] for one in first["neighbours"]}


def test_a_price_says_nothing_of_itself() -> None:
    items = catalogue()
    expected = [PriceModel(found).judge(found).filter(item_id="ring-plum")["expected"][0]
                for found in (items, with_price(items, "ring-plum", 0.8))]  # fmt: skip
    assert expected[0] == pytest.approx(expected[1], rel=1e-9)


def test_an_item_that_the_catalogue_lacks_is_judged_by_all() -> None:
    new = pl.DataFrame({"item_id": ["new"], "title": ["lilac oak table"], "price": [40.0]})
    judged = PriceModel(catalogue()).judge(new).row(0, named=True)
    assert judged["low"] > 200
    assert judged["as_far"] == 0
    assert {one["item_id"].split("-")[0] for one in judged["neighbours"]} == {"table"}


def test_the_range_covers_what_it_says() -> None:
    # Fifty items are learned from, ten drawn with them judged: 80% lie within at least, and the range stays narrow.
    judged = []
    for seed in range(8):
        items = catalogue(seed)[np.random.default_rng(seed).permutation(60).tolist()]
        model = PriceModel(items[10:])
        judged.append(model.judge(items[:10]))
    found = pl.concat(judged)
    assert found.select(pl.col("price").is_between("low", "high").mean()).item() >= 0.8
    assert found.select((pl.col("high") / pl.col("low")).max()).item() < 5  # kinds differ by a factor of 130
    assert model.measured["auc"] > 0.99
    assert model.measured["items"] == 50


def lines_of(prices: dict[str, list[float]]) -> list[tuple[Any, ...]]:
    return [("u", item, float(day), 1.0, price) for item, paid in prices.items() for day, price in enumerate(paid)]


def test_known_items_are_judged_by_their_own_past() -> None:
    items = catalogue()
    steady = {item: [10.0, 10.0, 10.5, 10.0, 10.0] for item in items["item_id"][:30]}
    history = steady | {"ring-red": [80.0, 82.0, 78.0, 80.0, 8.0], "ring-blue": [80.0, 820.0, 80.0, 79.0, 80.0]}
    study = find_prices(sales_of(lines_of(history), items))
    first = study.known.row(0, named=True)
    assert (first["item_id"], first["price"], first["lines"]) == ("ring-red", 8.0, 5)
    assert first["expected"] == pytest.approx(80)
    assert first["low"] > 8
    assert first["as_far"] == pytest.approx(1 / 30)
    # A slip that has been put right is no longer one.
    assert study.of("ring-blue").known["as_far"][0] == 1
    assert set(study.new["item_id"]) == set(items["item_id"]) - set(history)
    with pytest.raises(UnknownIdError, match="no item 'x' with a price above 0"):
        study.of("x")


def test_too_few_prices() -> None:
    few = catalogue().with_columns(price=pl.when(pl.int_range(pl.len()) < 49).then("price").otherwise(0.0))
    with pytest.raises(DataError, match=r"49 items of the catalogue have a price above 0 and a text: .* at least 50"):
        PriceModel(few)


def test_the_command(tmp_path: Path) -> None:
    items = with_price(catalogue(), "vase-teal", 250.0)
    config = write_sold(tmp_path, [("u", "vase-red", day, 1.0, 25.0) for day in range(6)], ["paid"])
    items.write_csv(tmp_path / "items.csv")
    path = tmp_path / "sold.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    called = CliRunner().invoke(app, ["prices", str(path), "--price", "paid", "-k", "2", "--json"])
    found = json.loads(called.stdout)
    assert found["new"][0]["item_id"] == "vase-teal"
    assert [one["item_id"] for one in found["known"]] == ["vase-red"]
    plain = CliRunner().invoke(app, ["prices", str(path), "--item", "vase-teal"])
    assert "teal glass vase" in plain.stdout
    assert "vase-blue" not in plain.stdout.split("neighbours")[0]
    assert "the 80% range holds" in plain.stderr
