"""What several test files share: a config of the made-up shop that trains in a second, and a bundle of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import yaml
from publications import parts
from random_bundles import random_bundle
from tiny_bert import MAX_TOKENS, build_tiny_bert, config_for

from recsys import Recommender
from recsys.embedding.encoders import Encoder, load_encoder
from recsys.engine.bundle import publish

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Shop:
    """The made-up shop with a tiny encoder: `config` publishes to `folder`; `version` is what it published."""

    config: Path
    folder: Path
    version: Path
    told: str


def write_shop_config(folder: Path, model: Path, **changes: object) -> Path:
    """Write configs/shop.yaml with a tiny encoder, a scorer that needs no torch, and output below `folder`."""
    raw = yaml.safe_load((ROOT / "configs" / "shop.yaml").read_text(encoding="utf-8"))
    raw["data"]["catalog"]["path"] = str(ROOT / "data" / "shop" / "items.csv")
    raw["data"]["interactions"]["path"] = str(ROOT / "data" / "shop" / "events.csv")
    raw["embedding"] |= {"model": str(model), "max_tokens": MAX_TOKENS, "device": "cpu", "precision": "float32"}
    raw |= {"output": str(folder / "artifacts"), "scorer": {"kind": "logistic"}} | changes
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return path


def write_tiny_config(folder: Path, model: Path, items: pl.DataFrame, events: pl.DataFrame, **changes: object) -> Path:
    """Write two tables as Parquet and a config for them, as small as it gets, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    items.write_parquet(folder / "items.parquet")
    events.write_parquet(folder / "events.parquet")
    data = {
        "catalog": {"path": str(folder / "items.parquet")},
        "interactions": {"path": str(folder / "events.parquet")},
        "clock": "order",
    }
    retrievers = {"semantic": {"depth": 5}, "covisitation": {"depth": 5}, "popularity": {"depth": 5}}
    features = ["scores", "ranks", "log_popularity", "best_match", "category_share", "brand_last", "history_length"]
    changes = {"retrievers": retrievers, "features": features, "rules": {"seen": "drop"}} | changes
    return write_shop_config(folder, model, data=data, **changes)


def recsys_process(args: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a real process."""
    command = [sys.executable, "-c", "from recsys.cli import main; main()", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="session")
def recommender(shop: Shop) -> Recommender:
    """The shop's bundle, loaded once: threads and tests may share it."""
    return Recommender.load(shop.folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Shop:
    """Train once by the command line; tests must not change the bundle."""
    folder = tmp_path_factory.mktemp("shop")
    config = write_shop_config(folder, tiny_model)
    ran = recsys_process(["train", str(config)], cwd=folder, env=os.environ)
    assert ran.returncode == 0, ran.stderr
    return Shop(config, folder / "artifacts" / "shop", Path(ran.stdout.strip()), ran.stderr)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of a small version that is published and current."""
    return publish(tmp_path / "root", *parts(1))


@pytest.fixture
def root(version: Path) -> Path:
    """The bundle root that holds it."""
    return version.parent.parent


@pytest.fixture(scope="session")
def encoder(tiny_model: Path) -> Encoder:
    return load_encoder(config_for(tiny_model))


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Threads of torch wait for each other, and much so on a busy machine: small models are slowed down."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """20,000 items: a filter of selectivity 0.0001 leaves two."""
    return random_bundle(tmp_path_factory.mktemp("large"), 20_000, 400)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """60 items, so that everything runs out."""
    return random_bundle(tmp_path_factory.mktemp("small"), 60, 30)
