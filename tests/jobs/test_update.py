"""`recsys update`: counts are made again, learned parts are kept, and what is new is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from shops import ROOT, recsys_process, write_shop_config
from tiny_bert import build_tiny_bert

from recsys import Recommender, train, update
from recsys.artifacts import bundle, versions
from recsys.artifacts.persistence import restore
from recsys.config import Config, load_config
from recsys.embedding.registry import load_encoder
from recsys.embedding.texts import item_texts
from recsys.embedding.whitening import Whitening
from recsys.engine.embeddings import embed
from recsys.engine.plan import Plan
from recsys.engine.training import fit
from recsys.errors import ArtifactError, ConfigError
from recsys.jobs import evaluate as evaluate_job
from recsys.jobs import ingest as ingest_job
from recsys.retrieval import tower_network
from recsys.tables.split import holdout
from recsys.types import Catalog

ITEMS = pl.read_csv(ROOT / "data" / "shop" / "items.csv")
EVENTS = pl.read_csv(ROOT / "data" / "shop" / "events.csv").filter(pl.col("user_id") < "u100")
NEW, CHANGED = ITEMS["item_id"].to_list()[40:60], "i005"
CUT = EVENTS["timestamp"].sort()[int(0.9 * EVENTS.height)]


def tables(now: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The shop as it is, or as it was: a tenth less of events, 20 items less, and another text of one item."""
    if now:
        return ITEMS, EVENTS
    items = ITEMS.filter(~pl.col("item_id").is_in(NEW))
    title = pl.when(pl.col("item_id") == CHANGED).then(pl.lit("another title")).otherwise("title")
    events = EVENTS.filter((pl.col("timestamp") < CUT) & ~pl.col("item_id").is_in(NEW))
    return items.with_columns(title=title), events


def write(folder: Path, model: Path, now: bool, **changes: Any) -> Path:
    """Write tables and config; `embedding` and the like are merged into the config's own sections."""
    folder.mkdir(exist_ok=True)
    path = write_shop_config(folder, model)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, table in zip(("items", "events"), tables(now), strict=True):
        table.write_csv(folder / f"{name}.csv")
    raw["data"]["catalog"]["path"] = str(folder / "items.csv")
    raw["data"]["interactions"]["path"] = str(folder / "events.csv")
    for section, change in changes.items():
        raw[section] = {**raw[section], **change} if isinstance(change, dict) and section != "split" else change
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return path


def configured(folder: Path, model: Path, now: bool, **changes: Any) -> Config:
    return load_config(write(folder, model, now, **changes))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well a tower learns is no matter here."""
    monkeypatch.setattr(tower_network, "MIN_STEPS", 3)


TOWER = {"tower": {"epochs": 1, "width": 8, "depth": 20}}


@pytest.mark.parametrize(
    "split", [{"kind": "leave_last_out", "folds": 1}, {"kind": "time", "horizon_days": 14, "folds": 1}]
)
def test_an_update_is_a_full_rebuild_but_for_what_was_learnt(tmp_path: Path, tiny_model: Path, split: dict) -> None:
    """Without whitening nothing but scorer and tower is learnt, so everything else must be what `train` makes."""
    embedding = {"whitening": False, "user_text": True}
    changes = {"split": split, "embedding": embedding, "retrievers": TOWER, "cold_share": 0}
    config = configured(tmp_path / "one", tiny_model, now=False, **changes)
    before = bundle.load(train(config))
    assert configured(tmp_path / "one", tiny_model, now=True, **changes) == config
    updated = bundle.load(update(config))
    rebuilt = bundle.load(train(configured(tmp_path / "two", tiny_model, now=True, **changes)))
    assert updated.arrays.keys() == rebuilt.arrays.keys()
    for name, array in rebuilt.arrays.items():
        if name.startswith(("scorer/", "calibration/")):
            np.testing.assert_array_equal(updated.arrays[name], before.arrays[name], err_msg=name)
        elif not name.startswith("retrievers/tower/"):
            np.testing.assert_allclose(updated.arrays[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    for name, table in rebuilt.tables.items():
        assert updated.tables[name].equals(table), name
    assert updated.manifest["counts"] == rebuilt.manifest["counts"]
    assert updated.manifest["data_window"] == rebuilt.manifest["data_window"]
    old_row = {item: row for row, item in enumerate(before.tables["catalog"]["item_id"])}
    for row, item in enumerate(updated.tables["catalog"]["item_id"]):
        if item not in NEW and item != CHANGED:
            was = before.arrays["retrievers/tower/items"][old_row[item]]
            np.testing.assert_array_equal(updated.arrays["retrievers/tower/items"][row], was)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path, str]:
    """A shop trained as it was and updated to what it is, by the command line; its vector store was lost between."""
    folder = tmp_path_factory.mktemp("grown")
    first = train(configured(folder, tiny_model, now=False))
    shutil.rmtree(folder / "artifacts" / "vectors")
    path = write(folder, tiny_model, now=True)
    ran = recsys_process(["update", str(path)])
    assert ran.returncode == 0, ran.stderr
    return first, Path(ran.stdout.strip()), ran.stderr


def test_only_what_is_new_reaches_the_encoder(grown: tuple[Path, Path, str]) -> None:
    first, second, printed = grown
    stored = [np.load(path) for path in (second.parents[2] / "vectors").rglob("*.npy")]
    news = bundle.load(second).manifest["update"]
    old, new = (item_texts(Catalog(bundle.load(v).tables["catalog"]), _config(v).embedding.text) for v in grown[:2])
    assert sum(map(len, stored)) == news["encoded"] == len(set(new) - set(old)) <= len(NEW) + 1
    before, now = tables(now=False), tables(now=True)
    assert news == {
        "from": first.name,
        "events": now[1].height - before[1].height,
        "users": now[1]["user_id"].n_unique() - before[1]["user_id"].n_unique(),
        "items": len(NEW),
        "gone_users": 0,
        "gone_items": 0,
        "texts": 1,
        "encoded": news["encoded"],
    }
    assert f"20 items; 1 changed texts, {news['encoded']} texts encoded. Gone: 0 users, 0 items" in printed
    assert bundle.load(second.parents[1]).version == second.name


def _config(version: Path) -> Config:
    return Recommender.load(version).config


def test_the_whitening_is_kept(grown: tuple[Path, Path, str]) -> None:
    first, second = (bundle.load(version) for version in grown[:2])
    config = _config(grown[1])
    for name in ("mean", "projection"):
        np.testing.assert_array_equal(second.arrays[f"whitening/{name}"], first.arrays[f"whitening/{name}"])
    texts = item_texts(Catalog(second.tables["catalog"]), config.embedding.text)
    raw = load_encoder(config.embedding).encode(texts)
    whitened = Whitening.from_arrays(first.group("whitening")).apply(raw)
    np.testing.assert_allclose(second.arrays["vectors"], whitened, atol=1e-5)


def test_an_update_of_nothing_changes_no_answer(grown: tuple[Path, Path, str]) -> None:
    second = Recommender.load(grown[1])
    third = Recommender.load(update(second.config))
    news = third.manifest["update"]
    assert (news.pop("from"), set(news.values())) == (second.version, {0})
    assert third.recommend_batch(k=5).drop("model_version").equals(second.recommend_batch(k=5).drop("model_version"))


def test_what_is_gone_is_told(grown: tuple[Path, Path, str], tmp_path: Path) -> None:
    second = Recommender.load(grown[1])
    few = EVENTS.filter(pl.col("user_id") != "u029")
    few.write_csv(tmp_path / "events.csv")
    data = second.config.data
    less = data.interactions.model_copy(update={"path": str(tmp_path / "events.csv")})
    config = second.config.model_copy(update={"data": data.model_copy(update={"interactions": less})})
    third = Recommender.load(update(config))
    assert third.manifest["update"]["gone_users"] == 1
    assert third.manifest["update"]["events"] == few.height - EVENTS.height
    assert third.recommend("u029").fallback
    assert update(second.config)  # and back again


def test_an_updated_bundle_ranks_as_a_trained_one(tmp_path: Path, tiny_model: Path) -> None:
    """What the shop learnt 28 days ago, updated to now, against all learnt now."""
    split = {"kind": "time", "horizon_days": 14, "folds": 1}
    config = configured(tmp_path, tiny_model, now=True, split=split)
    now = ingest_job.ingest(config)
    embeddings = embed(config.embedding, now.catalog, config.vector_folder)
    test = holdout(now.interactions, config.split)
    earlier = test.as_of - 28 * 86_400_000_000

    def until(moment: int) -> None:
        kept = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%SZ").dt.epoch("us") < moment
        EVENTS.filter(kept).write_csv(tmp_path / "events.csv")

    def ndcg(model: Any) -> float:
        return float(
            evaluate_job.judge(config.evaluation, config.data.clock, test, embeddings, model)
            .per_user(evaluate_job.ENGINE, "ndcg", 10)
            .mean()
        )

    until(earlier)
    train(config)
    until(test.as_of)
    updated = ndcg(restore(config, bundle.load(update(config))))
    trained = ndcg(fit(Plan.of(config), test.known, embeddings, test.as_of))
    assert updated == pytest.approx(trained, abs=0.02)
    assert trained > 0.3, "there is something to lose"


# Refusals


def test_settings_that_what_was_learnt_does_not_fit(grown: tuple[Path, Path, str], tmp_path: Path) -> None:
    config = _config(grown[1])
    before = versions.list_versions(config.folder)
    changed = config.model_copy(update={"features": config.features[1:], "history": 50})
    with pytest.raises(ConfigError, match=r"2 settings differ from those that bundle .*: history was 200 and is 50; "
                                          r"features was \['scores', .* Train again: recsys train CONFIG"):  # fmt: skip
        update(changed)
    deeper = config.model_copy(update={"retrievers": config.retrievers | {"repeat": {"depth": 31}}})
    with pytest.raises(ConfigError, match=r"1 settings differ .*: retrievers.repeat.depth was 30 and is 31\. Train"):
        update(deeper)
    assert versions.list_versions(config.folder) == before


def test_another_encoder_and_no_bundle(grown: tuple[Path, Path, str], tmp_path: Path) -> None:
    config = _config(grown[1])
    other = build_tiny_bert(tmp_path / "other", seed=1)
    embedding = config.embedding.model_copy(update={"model": str(other)})
    with pytest.raises(ArtifactError, match="they must not mix; install the model"):
        update(config.model_copy(update={"embedding": embedding}))
    with pytest.raises(ArtifactError, match="holds no bundle"):
        update(config.model_copy(update={"output": str(tmp_path)}))


def test_the_command_tells_json_and_exit_codes(grown: tuple[Path, Path, str], tmp_path: Path) -> None:
    path = grown[1].parents[3] / "shop.yaml"
    ran = recsys_process(["update", str(path), "--json"])
    result = json.loads(ran.stdout)
    assert Path(result["bundle"]).name == result["version"]
    assert result["update"]["encoded"] == 0
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["history"] = 7
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    failed = recsys_process(["update", str(tmp_path / "other.yaml")])
    assert failed.returncode == ConfigError.exit_code
    assert "history was 200 and is 7" in failed.stderr
