"""What can fail on the tables or the split fails before the encoder is looked for, let alone a text encoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml
from shops import ROOT, Shop, write_shop_config, write_tiny_config

from recsys import evaluate, train
from recsys.audit.audit import audit
from recsys.config import Config, load_config
from recsys.errors import ConfigError, DataError
from recsys.jobs.tune import tune
from recsys.jobs.update import update

NOWHERE = Path("/nowhere/no-such-model")
NO_ENCODER = "embedding.model: the folder /nowhere/no-such-model does not exist"
TOO_LONG = {"kind": "time", "horizon_days": 10_000}
JOBS: dict[str, Callable[[Config], object]] = {
    "train": train, "evaluate": evaluate, "audit": audit, "tune": tune,
    "evaluate --validation": lambda config: evaluate(config, validation=True),
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
def test_an_impossible_split_is_named_before_a_missing_encoder(job: str, tmp_path: Path) -> None:
    events = len(pl.read_csv(ROOT / "data" / "shop" / "events.csv"))
    config = load_config(write_shop_config(tmp_path, NOWHERE, split=TOO_LONG))
    with pytest.raises(DataError, match=rf"the split leaves 0 known events and \d+ labels of {events} events"):
        JOBS[job](config)
    assert not config.vector_folder.exists()


@pytest.mark.parametrize("job", JOBS)
def test_with_a_split_that_works_the_same_config_asks_for_the_encoder(job: str, tmp_path: Path) -> None:
    config = load_config(write_shop_config(tmp_path, NOWHERE))
    with pytest.raises(ConfigError, match=NO_ENCODER):
        JOBS[job](config)


def _repeats(folder: Path, times: int) -> Config:
    """Everybody has one item again and again."""
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["soap", "comb"]})
    rows = [(f"u{user}", "a", time) for user in range(5) for time in range(times)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return load_config(write_tiny_config(folder, NOWHERE, items, events, split={"kind": "leave_last_out"}))


def test_labels_that_the_rules_forbid_are_counted_before_a_missing_encoder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to learn from: each of the 5 labels after 1 cuts is an item that its"):
        train(_repeats(tmp_path, 4))


def test_targets_that_the_rules_forbid_are_counted_before_a_missing_encoder(tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["soap", "comb"]})
    rows = [(f"u{user}", item, time) for user in range(5) for time, item in enumerate("aba")]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    path = write_tiny_config(tmp_path, NOWHERE, items, events, split={"kind": "leave_last_out"})
    with pytest.raises(DataError, match="nothing to judge by: each of the 5 labels after the cut"):
        evaluate(load_config(path))


def test_an_update_reads_the_tables_before_it_looks_for_the_encoder(shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(shop.folder, tmp_path / "artifacts" / shop.folder.name)
    path = write_shop_config(tmp_path, NOWHERE)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["data"]["interactions"]["path"] = str(tmp_path / "gone.csv")
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(DataError, match=r"gone\.csv"):
        update(load_config(path))
