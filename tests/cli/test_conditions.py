"""Conditions of lists as options: the same for the command line and for the pipeline."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import polars as pl
import pytest
from shops import Shop

from recsys.cli import main
from recsys.cli.conditions import add_arguments, list_conditions, of_arguments
from recsys.errors import RequestError

GIVEN = ["--where", "price <= 20", "--exclude", "i001", "--exclude", "i002", "--cap", "brand=2", "--cap", "a=b=1",
         "--pin", "i044", "--boost", "i=1=0.5", "--boost", "i101=-2", "--diversity", "0.3", "--variants", "all",
         "--unknown", "ignore"]  # fmt: skip
MEANT = {
    "where": "price <= 20", "exclude": ["i001", "i002"], "caps": {"brand": 2, "a=b": 1}, "pinned": ["i044"],
    "boosts": {"i=1": 0.5, "i101": -2.0}, "diversity": 0.3, "variants": "all", "unknown": "ignore",
}  # fmt: skip


def test_options_mean_conditions() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert of_arguments(parser.parse_args(GIVEN)) == MEANT
    assert of_arguments(parser.parse_args([])) == list_conditions() == {}


@pytest.mark.parametrize(
    ("option", "given", "told"),
    [
        ("cap", "brand", "--cap: expected COLUMN=MOST with a whole number, got 'brand'"),
        ("cap", "brand=1.5", "--cap: expected COLUMN=MOST with a whole number, got 'brand=1.5'"),
        ("cap", "=1", "--cap: expected COLUMN=MOST with a whole number, got '=1'"),
        ("boost", "i001=much", "--boost: expected ITEM_ID=NUMBER, got 'i001=much'"),
        ("boost", "1", "--boost: expected ITEM_ID=NUMBER, got '1'"),
    ],
)
def test_what_is_no_pair_is_refused(option: str, given: str, told: str) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(told)}$"):
        list_conditions(**{option: [given]})


def test_candidates_and_score_keep_to_them(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, args), "--bundle", str(shop.folder)])
        return int(stopped.value.code or 0), *capsys.readouterr()

    asked = [
        "--where",
        "price <= 20",
        "--cap",
        "brand=1",
        "--exclude",
        "i001",
        "--exclude",
        "gone",
        "--unknown",
        "ignore",
    ]
    code, out, err = run("candidates", "--out", tmp_path / "out", "--k", 3, *asked, "--json")
    assert code == 0, err
    frame = pl.read_parquet(tmp_path / "out" / "*.parquet")
    items = pl.read_csv(Path(__file__).parents[2] / "data" / "shop" / "items.csv").select("item_id", "price", "brand")
    lists = frame.join(items, on="item_id")
    assert json.loads(out)["rows"] == lists.height == 1800
    assert lists["price"].max() <= 20  # type: ignore[operator]
    assert lists.group_by("user_id").agg(pl.col("brand").n_unique())["brand"].to_list() == [3] * 600
    code, out, err = run("score", "u029", "--k", 3, *asked, "--json")
    assert [item["item_id"] for item in json.loads(out)["items"]] == frame.filter(user_id="u029")["item_id"].to_list()
    assert json.loads(out)["ignored"] == {"exclude": ["gone"]}
    assert "ignored, unknown items in exclude: gone" in err
    code, out, err = run("candidates", "--out", tmp_path / "short", "--k", 9, "--where", "item_id in ('i001', 'i002')")
    assert "600 lists are short: 9 were asked for; the catalogue holds 344 items, 2 of them may be shown" in err
    assert run("candidates", "--out", tmp_path / "no", "--cap", "brand")[::2] == (
        7, "error: --cap: expected COLUMN=MOST with a whole number, got 'brand'\n",
    )  # fmt: skip
