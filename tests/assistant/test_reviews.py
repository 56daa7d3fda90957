"""What reviews say of an item, in Chinese and English: shares, trends, complaints, contradictions, aspects, quotes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import word_encoder
from chinese_shop import ASPECTS, ChineseShop, make_chinese_shop
from members import isolate_families
from typer.testing import CliRunner

from recsys.assistant.reviews import QUOTES, ReviewStudy, study_reviews
from recsys.cli.app import app
from recsys.config import Config, parse_config
from recsys.errors import ConfigError, UnknownIdError

GOOD = ["It works very well.", "Great quality, we love it!", "Delivered fast and well packed.", "Worth every penny."]
BAD = ["It broke after two days.", "Awful quality, do not buy!", "Delivery took three weeks.", "A waste of money."]
ENGLISH_ASPECTS = {"delivery": ["deliver*", "packed"], "quality": ["quality"]}


def review_config(folder: Path, **changes: Any) -> dict[str, Any]:
    tables = {"catalog": {"source": "csv", "path": str(folder / "items.csv")},
              "interactions": {"source": "csv", "path": str(folder / "events.csv")},
              "reviews": {"source": "csv", "path": str(folder / "reviews.csv")}}  # fmt: skip
    return {"name": "shop", "output": str(folder / "artifacts"), "data": tables, "split": {"kind": "time"},
            "embedding": {"encoder": word_encoder.NAME}, "retrievers": {"popularity": {}},
            "features": ["log_popularity"], "scorer": {"kind": "logistic"}} | changes  # fmt: skip


@pytest.fixture(scope="module")
def families() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        isolate_families(patch)
        word_encoder.register()
        yield


@pytest.fixture(scope="module")
def shop() -> ChineseShop:
    return make_chinese_shop()


@pytest.fixture(scope="module")
def chinese(shop: ChineseShop, families: None, tmp_path_factory: pytest.TempPathFactory) -> ReviewStudy:
    folder = tmp_path_factory.mktemp("chinese")
    shop.write(folder)
    aspects = {aspect: words for aspect, (words, *_) in ASPECTS.items() if words}
    return study_reviews(parse_config(review_config(folder, reviews={"aspects": aspects})))


def english_reviews() -> pl.DataFrame:
    """Item `a` pleases until day 300 and no longer; item `b` pleases always; one reviewer of `b` writes 30 times."""
    rng, rows = np.random.default_rng(0), []
    for number in range(400):
        item, day = "ab"[number % 2], number
        pleased = item == "b" or day < 300
        parts = [(GOOD if pleased else BAD)[place] for place in rng.permutation(4)[:2]]
        rows.append((f"r{number}", f"u{number}", item, day, 5 if pleased else 1, " ".join(parts)))
    rows += [(f"x{number}", "loud", "b", 350, 1, f"{BAD[number % 4]} {number}") for number in range(30)]
    rows.append(("slip", "u900", "b", 380, 1, " ".join(GOOD)))
    rows.append(("html", "u901", "b", 381, None, "It works very well. <b>[bold]Great[/bold]</b>"))
    frame = pl.DataFrame(rows, schema=["review_id", "user_id", "item_id", "day", "stars", "text"], orient="row")
    time = pl.datetime(2025, 1, 1, time_zone="UTC") + pl.duration(days="day")
    return frame.select(pl.exclude("day"), timestamp=time).sample(fraction=1, shuffle=True, seed=1)


@pytest.fixture(scope="module")
def english_config(families: None, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("english")
    english_reviews().write_csv(folder / "reviews.csv")
    pl.DataFrame({"item_id": ["a", "b"], "title": ["Toaster [steel]", "Kettle"]}).write_csv(folder / "items.csv")
    return parse_config(review_config(folder, reviews={"aspects": ENGLISH_ASPECTS}))


@pytest.fixture(scope="module")
def english(english_config: Config) -> ReviewStudy:
    return study_reviews(english_config)


def quotes_of(found: Any) -> list[dict[str, Any]]:
    one = found.to_dict()
    own = [quote for key in ("complaints", "contradictions", "pros", "cons") for quote in one[key]]
    return own + [quote for aspect in one["aspects"] for quote in (aspect["praise"], aspect["complaint"]) if quote]


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_every_quote_is_in_its_review_and_nobody_is_named(language: str, request: pytest.FixtureRequest) -> None:
    study = request.getfixturevalue(language)
    texts = dict(study.reviews.frame.select("review_id", "text").iter_rows())
    items = dict(study.reviews.frame.select("review_id", "item_id").iter_rows())
    counted = 0
    for standing in study.overview(12):
        found = study.item(standing.item_id)
        for quote in quotes_of(found):
            assert quote["text"] in texts[quote["review_id"]]
            assert items[quote["review_id"]] == standing.item_id
            counted += 1
        named = json.dumps(found.to_dict(), ensure_ascii=False)
        assert not any(f'"{user}"' in named for user in study.reviews.frame["user_id"].drop_nulls())
    assert counted > 20


def test_shares_are_those_of_the_law(chinese: ReviewStudy, shop: ChineseShop) -> None:
    assert chinese.sentiment.measured["head"] == "own"
    assert chinese.sentiment.measured["auc"] > 0.95
    standings = chinese.overview()
    truth = np.array([shop.quality_of[one.item_id] for one in standings])
    held = np.mean([one.positive.low <= at <= one.positive.high for one, at in zip(standings, truth, strict=True)])
    assert held > 0.9
    found = np.array([one.positive.value for one in standings])
    assert np.corrcoef(found, truth)[0, 1] > 0.6
    assert [one.positive.high for one in standings] == sorted(one.positive.high for one in standings)


def test_stars_that_contradict_their_text_are_found(chinese: ReviewStudy, shop: ChineseShop) -> None:
    flagged = {quote.review_id for one in chinese.overview() for quote in chinese.item(one.item_id).contradictions}
    assert len(shop.slips & flagged) >= len(shop.slips) - 1
    assert len(flagged - shop.slips) <= 5  # of 900


def test_a_fall_is_told_and_chance_is_not(english: ReviewStudy) -> None:
    falling, steady = english.item("a"), english.item("b")
    assert falling.trend is not None
    assert steady.trend is not None
    assert falling.trend.verdict == "falling"
    assert falling.trend.recent.value < 0.2 < 0.9 < falling.trend.before.value
    assert steady.trend.verdict == "steady"
    assert [one.item_id for one in english.overview()] == ["a", "b"]


def test_a_reviewer_counts_once(english: ReviewStudy) -> None:
    found = english.item("b")
    assert (found.reviews, found.reviewers) == (232, 203)
    assert found.positive.value > 0.97
    assert found.positive.n == 203
    assert sum(aspect.praised + aspect.complained for aspect in found.aspects if aspect.name == "quality") <= 203
    loud = next(aspect for aspect in found.aspects if aspect.name == "quality")
    assert loud.complained == 1
    assert [quote.review_id for quote in found.contradictions] == ["slip"]
    assert len({quote.review_id for quote in found.complaints}) == 1  # one voice, its newest


def test_pros_and_cons_are_apart_and_do_not_repeat(english: ReviewStudy) -> None:
    found = english.item("a")
    pros, cons = ([quote.text for quote in quotes] for quotes in (found.pros, found.cons))
    assert set(pros) <= set(GOOD)
    assert set(cons) <= set(BAD)
    assert len(set(pros)) == len(pros) == len(set(cons)) == len(cons) == QUOTES
    newest = [quote.time for quote in found.complaints]
    assert newest == sorted(newest, reverse=True)
    delivery = next(aspect for aspect in found.aspects if aspect.name == "delivery")
    assert delivery.praise is not None
    assert delivery.praise.text == GOOD[2]


def test_unknown_item(english: ReviewStudy) -> None:
    with pytest.raises(UnknownIdError, match="item 'c' has no reviews"):
        english.item("c")


def test_reviews_must_be_named(english_config: Config) -> None:
    bare = english_config.model_copy(update={"data": english_config.data.model_copy(update={"reviews": None})})
    with pytest.raises(ConfigError, match="the config names no reviews: say where they are, such as"):
        study_reviews(bare)


def test_the_command(english_config: Config, english: ReviewStudy, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(english_config.model_dump(mode="json")), encoding="utf-8")
    run = CliRunner()
    every = run.invoke(app, ["reviews", "--config", str(path), "--json"])
    assert every.exit_code == 0, every.output
    told = json.loads(every.stdout)
    assert [one["item_id"] for one in told["items"]] == ["a", "b"]
    assert told["sentiment"]["head"] == "own"
    one = run.invoke(app, ["reviews", "a", "--config", str(path), "--json"])
    assert json.loads(one.stdout)["pros"] == [asdict(quote) for quote in english.item("a").pros]
    shown = run.invoke(app, ["reviews", "a", "--config", str(path)])
    assert "Toaster [steel] (a)" in shown.stdout
    assert "falling: " in shown.stdout
    assert "432 reviews, judged by the shop's own stars: " in shown.stderr
    listed = run.invoke(app, ["reviews", "--config", str(path), "-k", "1"])
    assert "Toaster [steel]" in listed.stdout
    assert "Kettle" not in listed.stdout
