"""Each pipeline as a scheduler runs it: a process that prints one line of JSON."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from shops import ROOT, write_shop_config

STAGES = ["ingest", "embed", "index", "train", "evaluate", "candidates"]


def run(stage: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "pipelines" / f"{stage}.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return write_shop_config(tmp_path_factory.mktemp("pipelines"), tiny_model)


@pytest.fixture(scope="module")
def results(config: Path) -> dict[str, dict]:
    """Run every stage in order on the made-up shop; return their summaries."""
    summaries = {}
    for stage in STAGES:
        ran = run(stage, config)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count("\n") == 1
        summaries[stage] = json.loads(ran.stdout)
    return summaries


def test_ingest(results: dict[str, dict]) -> None:
    assert results["ingest"]["catalog"]["kept"] == 344
    assert results["ingest"]["interactions"]["kinds"] == {"purchase": 7838, "view": 1944}


def test_embed(results: dict[str, dict]) -> None:
    assert {key: results["embed"][key] for key in ("items", "dimension", "found")} == {
        "items": 344,
        "dimension": 32,
        "found": 0,
    }


def test_index(results: dict[str, dict]) -> None:
    indexes = results["index"]["indexes"]
    assert set(indexes) == {"Flat", "semantic"}
    assert indexes["Flat"]["recall@100"] == 1
    assert indexes["semantic"]["floor"] == 0.98
    assert indexes["Flat"]["bytes"] == 0, "an exact index is the vectors"


def test_train_and_candidates(results: dict[str, dict]) -> None:
    assert Path(results["train"]["bundle"]).name == results["train"]["model_version"]
    assert results["train"]["counts"] == {"users": 600, "items": 344, "events": 9782}
    assert results["candidates"]["model_version"] == results["train"]["model_version"]
    assert (
        pl.read_parquet(Path(results["candidates"]["folder"]) / "*.parquet").height
        == results["candidates"]["rows"]
        == 60_000
    )


def test_candidates_under_conditions_have_a_folder_of_their_own(results: dict[str, dict], config: Path) -> None:
    ran = run("candidates", config, "--where", "price <= 20", "--exclude", "i001", "--cap", "brand=30")
    assert ran.returncode == 0, ran.stderr
    summary = json.loads(ran.stdout)
    plain = Path(results["candidates"]["folder"])
    assert Path(summary["folder"]).parent == plain.parent
    assert Path(summary["folder"]).name == f"{plain.name}-{summary['conditions']}"
    listed = pl.read_parquet(Path(summary["folder"]) / "*.parquet")["item_id"].unique()
    items = pl.read_csv(ROOT / "data" / "shop" / "items.csv")
    assert set(listed) <= set(items.filter((pl.col("price") <= 20) & (pl.col("item_id") != "i001"))["item_id"])
    ran = run("candidates", config, "--cap", "brand")
    assert (ran.returncode, ran.stderr) == (7, "error: --cap: expected COLUMN=MOST with a whole number, got 'brand'\n")


def test_evaluate(results: dict[str, dict]) -> None:
    assert results["evaluate"]["metrics"]["engine"]["ndcg@10"] > results["evaluate"]["metrics"]["item_knn"]["ndcg@10"]


@pytest.mark.parametrize("stage", STAGES)
def test_exit_codes_are_those_of_the_command_line(stage: str, tmp_path: Path) -> None:
    ran = run(stage, tmp_path / "none.yaml")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr == f"error: config {tmp_path / 'none.yaml'} does not exist\n"


def test_usage() -> None:
    ran = run("train")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "config" in ran.stderr


def test_nothing_imports_a_pipeline() -> None:
    assert sorted(path.stem for path in (ROOT / "pipelines").glob("*.py")) == sorted(STAGES)
    assert not (ROOT / "pipelines" / "__init__.py").exists()
    for path in ROOT.glob("[!.]*/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "pipelines" for name in names), path
