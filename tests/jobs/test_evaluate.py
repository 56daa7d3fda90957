"""The jobs: a config in, a bundle or a report out, and nothing known of what the report is about."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from shops import ROOT, Shop, write_shop_config, write_tiny_config

from recsys import Recommender, evaluate, train
from recsys.artifacts.versions import list_versions, write_lock
from recsys.config import Config, TimeSplit, load_config
from recsys.engine.embeddings import embed
from recsys.engine.plan import Plan
from recsys.engine.training import fit
from recsys.errors import ArtifactError, ConfigError, DataError
from recsys.jobs import ingest as ingest_job
from recsys.jobs.demo import Rehearsal

EVENTS = pl.read_csv(ROOT / "data" / "shop" / "events.csv")
METRICS = [f"{name}@{k}" for name in ("recall", "ndcg", "mrr", "hit_rate") for k in (5, 10, 20)]


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path) -> Config:
    return load_config(write_shop_config(tmp_path, tiny_model))


def with_events(folder: Path, model: Path, events: pl.DataFrame, **changes: object) -> Config:
    """The shop's config over other events."""
    folder.mkdir()
    path = write_shop_config(folder, model, **changes)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    events.write_csv(folder / "events.csv")
    raw["data"]["interactions"]["path"] = str(folder / "events.csv")
    raw["output"] = str(folder.parent / "artifacts")  # the same texts need be encoded only once
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return load_config(path)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers(inner)]
    return [value] if isinstance(value, int | float) else []


# Training


def test_train_publishes_what_load_reads(config: Config) -> None:
    steps: list[str] = []
    version = train(config, lambda stage, done, total: steps.append(stage))
    assert list(dict.fromkeys(steps)) == [
        "read the tables",
        "fit at cut 1 of 2, where the scorer learns",
        "candidates at cut 1 of 2, from which the scorer learns",
        "fit at cut 2 of 2, where the scorer learns",
        "candidates at cut 2 of 2, from which the scorer learns",
        "fit on all that is known, to rank with",
        "probabilities",
    ]
    loaded = Recommender.load(config.folder)
    assert loaded.version == version.name
    assert loaded.config == config
    manifest = loaded.manifest
    assert manifest["counts"] == {"users": 600, "items": 344, "events": EVENTS.height}
    assert manifest["data_window"]["clock"] == "time"
    assert manifest["data_window"]["first"] < manifest["data_window"]["last"]
    assert manifest["seconds"]["fit"] >= 0
    report = json.loads((config.folder / "ingest.json").read_text())
    assert report["interactions"]["kept"] == EVENTS.height
    again = train(config)
    assert list_versions(config.folder) == [version.name, again.name]
    for name, array in Recommender.load(again)._bundle.arrays.items():
        np.testing.assert_array_equal(array, loaded._bundle.arrays[name], err_msg=name)


def test_a_second_trainer_is_told_of_the_first_before_it_reads_anything(config: Config) -> None:
    with write_lock(config.folder), ThreadPoolExecutor(1) as other:
        with pytest.raises(ArtifactError, match=rf"is being written by process {os.getpid()} on .* since 20"):
            other.submit(train, config).result()
        assert not (config.folder / "ingest.json").exists()
        train(config)  # who holds the lock may
    assert train(config).name == list_versions(config.folder)[-1]


def test_a_failed_run_leaves_the_earlier_bundle(config: Config, shop: Shop) -> None:
    before = list_versions(shop.folder)
    raw = load_config(shop.config)
    with pytest.raises(ConfigError):
        train(raw.model_copy(update={"features": ["nothing"]}))
    with pytest.raises(DataError, match=r"known events and|nothing to learn from"):
        train(_no_labels(raw))
    assert list_versions(shop.folder) == before


def _no_labels(config: Config) -> Config:
    """A horizon longer than the data."""
    return config.model_copy(update={"split": TimeSplit(kind="time", horizon_days=10_000)})


def test_nothing_among_the_candidates(tmp_path: Path, tiny_model: Path) -> None:
    """Each user's last item was had by nobody before, and the one retriever proposes only what everyone had."""
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": [f"soap {n}" for n in range(12)]})
    rows = [(f"u{u}", item, t) for u in range(10) for t, item in enumerate(["i0", "i0", f"i{u + 1}"])]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    path = write_tiny_config(tmp_path, tiny_model, items, events, retrievers={"popularity": {"depth": 1}})
    with pytest.raises(DataError, match="of the labels after 1 cuts none lies among the candidates; add retrievers"):
        train(load_config(path))


# Evaluation


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Any]:
    config = load_config(write_shop_config(tmp_path_factory.mktemp("evaluated"), tiny_model))
    report = evaluate(config)
    assert json.loads((config.folder / "evaluation.json").read_text()) == report
    return report


def test_a_report_holds_engine_and_baselines(report: dict[str, Any]) -> None:
    models = ["engine", "popularity", "item_knn", "repeat"]
    assert list(report["metrics"]) == models
    assert list(report["differences"]) == models[1:]
    for metrics in report["metrics"].values():
        assert list(metrics) == [*METRICS, "coverage@20", "novelty@20"]
        assert all(0 <= metrics[name] <= 1 for name in METRICS)
    for gap in report["differences"].values():
        assert gap["low"] <= gap["mean"] <= gap["high"]
    assert set(report["candidate_recall"]) == {"semantic", "covisitation", "repeat", "popularity", "all", "deeper"}
    assert sorted(report["candidate_recall"].values())[-2:] == [
        report["candidate_recall"][n] for n in ("all", "deeper")
    ]
    assert report["users"] == report["targets"] == 600
    assert sum(part["users"] for part in report["slices"]["users"].values()) == 600
    assert sum(part["targets"] for part in report["slices"]["items"].values()) == 600
    assert sum(part["targets"] for part in report["slices"]["gaps"].values()) == 600
    losses = report["losses"]
    assert sum(loss["share"] for loss in losses.values()) == pytest.approx(1)
    assert all(loss["low"] <= loss["share"] <= loss["high"] for loss in losses.values())
    assert losses["in the list"]["share"] == pytest.approx(report["metrics"]["engine"]["recall@10"]), "one target each"
    assert report["name"] == "shop"
    assert list(report["seconds"]) == ["ingest", "embed", "fit", "judge"]
    assert np.isfinite(numbers(report)).all()
    json.dumps(report, allow_nan=False)


def test_differences_are_those_of_the_metrics(report: dict[str, Any]) -> None:
    ours = report["metrics"]["engine"]["ndcg@10"]
    for model, gap in report["differences"].items():
        assert gap["mean"] == pytest.approx(ours - report["metrics"][model]["ndcg@10"])


def test_the_engine_beats_the_baselines_even_with_random_texts(report: dict[str, Any]) -> None:
    assert all(gap["low"] > 0 for gap in report["differences"].values())


def test_the_demo_judges_as_evaluate_does(report: dict[str, Any], config: Config) -> None:
    tables = ingest_job.ingest(config)
    trial = Rehearsal.run(config, tables, embed(config.embedding, tables.catalog, config.vector_folder))
    rehearsed = trial.report()
    assert rehearsed.pop("probability")["later"]["pairs"] > 0
    assert rehearsed == {key: value for key, value in report.items() if key != "seconds"}


def _last_purchases(events: pl.DataFrame) -> pl.DataFrame:
    """Give each user's last purchase another item, and drop the views that follow it."""
    rng = np.random.default_rng(3)
    events = events.sort("user_id", "timestamp", maintain_order=True).with_row_index()
    last = events.filter(pl.col("event") == "purchase").group_by("user_id").agg(last=pl.col("index").max())
    random = pl.Series("other", [f"i{n:03d}" for n in rng.integers(0, 344, events.height)])
    changed = (
        events.join(last, on="user_id", maintain_order="left")
        .with_columns(random)
        .filter(pl.col("index") <= pl.col("last"))
        .with_columns(item_id=pl.when(pl.col("index") == pl.col("last")).then("other").otherwise("item_id"))
    )
    return changed.select("user_id", "item_id", "timestamp", "event", "value")


def _last_days(events: pl.DataFrame, days: int) -> pl.DataFrame:
    """Give every event of the last days another item."""
    rng = np.random.default_rng(3)
    time = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
    late = time > time.max() - pl.duration(days=days)
    random = pl.Series("other", [f"i{n:03d}" for n in rng.integers(0, 344, events.height)])
    changed = events.with_columns(random).with_columns(item_id=pl.when(late).then("other").otherwise("item_id"))
    return changed.drop("other")


@pytest.mark.parametrize("kind", ["leave_last_out", "time"])
def test_validation_never_looks_at_the_test_events(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    split = {"kind": kind, "folds": 1} | ({"horizon_days": 14} if kind == "time" else {})
    other = _last_purchases(EVENTS) if kind == "leave_last_out" else _last_days(EVENTS, 14)
    reports, tests = [], []
    for name, events in (("real", EVENTS), ("changed", other)):
        config = with_events(tmp_path / name, tiny_model, events, split=split)
        reports.append(evaluate(config, validation=True) | {"seconds": None})
        tests.append(evaluate(config) | {"seconds": None})
    assert reports[0] == reports[1]
    assert tests[0]["metrics"]["engine"]["ndcg@10"] > 2 * tests[1]["metrics"]["engine"]["ndcg@10"]
    assert reports[0]["metrics"] != tests[0]["metrics"]


# Trouble


def _copy(config: Config, section: str, **changes: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=changes)})


@pytest.mark.parametrize("job", [train, evaluate, ingest_job.ingest])
def test_what_cannot_work_is_refused_before_anything_is_read(config: Config, job: Any) -> None:
    nowhere = _copy(config, "data", catalog=config.data.catalog.model_copy(update={"path": "/nowhere.csv"}))
    with pytest.raises(DataError, match=re.escape("/nowhere.csv")):
        job(nowhere)
    ordered = _no_labels(_copy(nowhere, "data", clock="order"))
    with pytest.raises(
        ConfigError, match=r"split\.kind: time needs timestamps, and data.clock is 'order': use leave_la"
    ):
        job(ordered)
    with pytest.raises(ConfigError, match="unknown baseline 'popularty'; did you mean 'popularity'"):
        job(_copy(nowhere, "evaluation", baselines=["popularty"]))
    with pytest.raises(ConfigError, match=r"features\.0: unknown feature 'score'; did you mean 'scores'"):
        job(nowhere.model_copy(update={"features": ["score"]}))
    with pytest.raises(ConfigError, match="scorer: unknown scorer 'tree'; known: gbdt, logistic, mlp"):
        job(nowhere.model_copy(update={"scorer": {"kind": "tree"}}))


def test_the_demo_refuses_an_unknown_baseline_too(config: Config) -> None:
    tables = ingest_job.ingest(config)
    embeddings = embed(config.embedding, tables.catalog, config.vector_folder)
    wrong = _copy(config, "evaluation", baselines=["popularty"])
    with pytest.raises(
        ConfigError, match=r"evaluation\.baselines\.0: unknown baseline 'popularty'; did you mean 'popularity'"
    ):
        Rehearsal.run(wrong, tables, embeddings)
    with pytest.raises(ConfigError, match=r"features: unknown name 'nothing'; known: "):
        fit(Plan.of(config.model_copy(update={"features": ["nothing"]})), tables.interactions, embeddings)


def test_nothing_to_judge_by(tmp_path: Path, tiny_model: Path) -> None:
    """Everyone's last event repeats an earlier one, which `seen: drop` never shows."""
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(6)], "title": [f"soap {n}" for n in range(6)]})
    rows = [(f"u{u}", f"i{(u + t) % 6}", n) for u in range(10) for n, t in enumerate([0, 1, 2, 0])]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    config = load_config(write_tiny_config(tmp_path, tiny_model, items, events))
    with pytest.raises(
        DataError, match="each of the 10 labels after the cut is an item that its user had before, and "
    ):
        evaluate(config)
    assert (
        evaluate(config.model_copy(update={"rules": config.rules.model_copy(update={"seen": "keep"})}))["users"] == 10
    )
