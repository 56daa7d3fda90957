"""The made-up shop and other small shops as configs and processes, for tests of any package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import yaml
from tiny_bert import MAX_TOKENS

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Shop:
    """The made-up shop with a tiny encoder: `config` publishes to `folder`, `version` is the folder it published."""

    config: Path
    folder: Path
    version: Path
    stderr: str


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


def write_tiny_config(folder: Path, model: Path, items: pl.DataFrame, events: pl.DataFrame, clock: str = "order",
                      **changes: object) -> Path:  # fmt: skip
    """Write two tables as Parquet and a config for them, as small as it gets, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    items.write_parquet(folder / "items.parquet")
    events.write_parquet(folder / "events.parquet")
    data = {
        "catalog": {"path": str(folder / "items.parquet")},
        "interactions": {"path": str(folder / "events.parquet")},
        "clock": clock,
    }
    retrievers = {"semantic": {"depth": 5}, "covisitation": {"depth": 5}, "popularity": {"depth": 5}}
    features = ["scores", "ranks", "log_popularity", "best_match", "category_share", "brand_last", "history_length"]
    changes = {"retrievers": retrievers, "features": features, "rules": {"seen": "drop"}} | changes
    return write_shop_config(folder, model, data=data, **changes)


def recsys_process(args: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a real process."""
    command = [sys.executable, "-c", "from recsys.cli import main; main()", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False, **options)  # type: ignore[call-overload,no-any-return]
