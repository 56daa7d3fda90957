"""The run that people are forgotten in: made once, copied for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from forgetting import ALIKE, GONE, Run, republished
from shops import ROOT, write_shop_config

from recsys import Recommender, train
from recsys.artifacts import bundle
from recsys.config import load_config
from recsys.jobs.candidates import write_candidates


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    """The shop with behaviour texts, refused rows, two versions that name everybody, and published lists."""
    folder = tmp_path_factory.mktemp("forget")
    events = (ROOT / "data" / "shop" / "events.csv").read_text(encoding="utf-8")
    bad = [f"{GONE},i162,yesterday,purchase,3", f"{ALIKE},i162,tomorrow,purchase,3", f"u1,i162,{GONE},purchase,3",
           f"{GONE},i162,2025-01-01T00:00:00Z,click,3", ",i162,2025-01-01T00:00:00Z,purchase,3"]  # fmt: skip
    (folder / "events.csv").write_text(events + "\n".join(bad) + "\n", encoding="utf-8")
    path = write_shop_config(folder, tiny_model)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["embedding"]["user_text"] = True
    raw["data"]["interactions"]["path"] = str(folder / "events.csv")
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    config = load_config(path)
    train(config)
    version = republished(config.folder, bundle.load(config.folder))
    write_candidates(Recommender.load(version), config.folder / "candidates" / version.name, k=5, shard_users=200)
    return Run(config, path)


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    return made.moved(tmp_path)
