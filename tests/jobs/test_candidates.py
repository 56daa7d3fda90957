"""Candidates for everyone: exact columns, whole shards, and a job that goes on after it was killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from shops import Shop

from recsys import Recommender
from recsys.errors import ArtifactError, RequestError
from recsys.jobs.candidates import PLAN, SUCCESS, write_candidates

K, SHARD = 8, 90  # 600 users in 7 files
SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "rank": pl.Int32,
    "score": pl.Float32,
    "probability": pl.Float32,
    "source": pl.String,
    "model_version": pl.String,
    "generated_at": pl.Datetime("us", "UTC"),
}
WRITE = """
import sys
from pathlib import Path
from recsys import Recommender
from recsys.jobs.candidates import write_candidates
loaded = Recommender.load(sys.argv[1])
"""


@pytest.fixture(scope="module")
def whole(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted run writes."""
    return write_candidates(recommender, tmp_path_factory.mktemp("whole") / "deep" / "out", K, SHARD)


def read(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "*.parquet")


def shards(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def same(folder: Path, other: Path) -> bool:
    return read(folder).drop("generated_at").equals(read(other).drop("generated_at"))


def test_columns_and_rows(whole: Path, recommender: Recommender) -> None:
    for path in sorted(whole.glob("*.parquet")):
        assert dict(pl.read_parquet_schema(path)) == SCHEMA
    frame = read(whole)
    assert frame.height == 600 * K
    assert frame["user_id"].unique(maintain_order=True).to_list() == recommender.user_ids.to_list()
    per_user = frame.group_by("user_id").agg(pl.col("rank"), items=pl.col("item_id").n_unique())
    assert per_user["items"].unique().to_list() == [K]
    assert all(ranks == list(range(1, K + 1)) for ranks in per_user["rank"].to_list())
    assert frame.null_count().sum_horizontal().item() == 0
    assert frame["model_version"].unique().to_list() == [recommender.version]
    proposers = set(recommender.config.retrievers) | {"popularity_fill"}
    assert {name for source in frame["source"].unique() for name in source.split("+")} <= proposers
    assert sorted(shards(whole)) == [f"part-{n:05d}.parquet" for n in range(7)]


def test_candidates_are_what_the_service_answers(whole: Path, recommender: Recommender) -> None:
    written, answered = read(whole), recommender.recommend_batch(k=K)
    for name in ("user_id", "item_id", "rank", "source", "model_version"):
        assert written[name].equals(answered[name]), name
    np.testing.assert_allclose(written["score"], answered["score"], rtol=1e-4, atol=1e-4)


def test_the_marker_tells_the_totals_and_comes_last(whole: Path, recommender: Recommender, tmp_path: Path) -> None:
    done = json.loads((whole / SUCCESS).read_text())
    assert done == {
        "model_version": recommender.version, "k": K, "shard_users": SHARD, "users": 600, "rows": 600 * K, "shards": 7,
    }  # fmt: skip
    seen: list[tuple[int, bool]] = []

    def watch(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("candidates", 600)
        seen.append((done, (tmp_path / SUCCESS).exists()))

    write_candidates(recommender, tmp_path, 2, 250, watch)
    assert (tmp_path / SUCCESS).exists()
    assert not any(done for _, done in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == 600
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        PLAN, SUCCESS, *(f"part-{n:05d}.parquet" for n in range(3)),
    ]  # fmt: skip


def test_a_second_run_writes_nothing_again(recommender: Recommender, tmp_path: Path, whole: Path) -> None:
    write_candidates(recommender, tmp_path, K, SHARD)
    before = shards(tmp_path)
    (tmp_path / SUCCESS).unlink()
    (tmp_path / "part-00003.parquet").unlink()
    write_candidates(recommender, tmp_path, K, SHARD)
    after = shards(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"part-00003.parquet"}
    assert same(tmp_path, whole)


def test_killed_and_run_again(shop: Shop, recommender: Recommender, tmp_path: Path, whole: Path) -> None:
    script = (
        WRITE + f"write_candidates(loaded, Path(sys.argv[2]), {K}, {SHARD}, lambda *step: print(*step, flush=True))"
    )
    kept: dict[str, int] = {}
    for lines in (1, 3, 5):  # SIGKILL after so many steps, a moment later
        command = [sys.executable, "-c", script, str(shop.folder), str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for _ in range(lines):
                assert process.stdout.readline()
            time.sleep(0.003)
            process.send_signal(signal.SIGKILL)
        now = shards(tmp_path)
        assert kept.items() <= now.items()
        for name in now:
            assert pl.read_parquet(tmp_path / name).equals(pl.read_parquet(tmp_path / name))
            assert pl.read_parquet(tmp_path / name)["user_id"].n_unique() == (60 if "6" in name else SHARD)
        kept = now
    write_candidates(recommender, tmp_path, K, SHARD)
    assert kept.items() <= shards(tmp_path).items()
    assert (tmp_path / SUCCESS).exists()
    assert same(tmp_path, whole)


def test_killed_before_a_shard_gets_its_name(shop: Shop, recommender: Recommender, tmp_path: Path, whole: Path) -> None:
    script = (
        WRITE
        + f"""
import os, signal
real = os.replace
def dying(source, target):
    if "part-00002" in str(target):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = dying
write_candidates(loaded, Path(sys.argv[2]), {K}, {SHARD})
"""
    )
    command = [sys.executable, "-c", script, str(shop.folder), str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=3600).returncode == -signal.SIGKILL
    kept = shards(tmp_path)
    assert sorted(kept) == ["part-00000.parquet", "part-00001.parquet"]
    assert not (tmp_path / SUCCESS).exists()
    left = next(tmp_path.glob(".part-00002.parquet.*"))  # what the dead process was writing
    left.write_bytes(left.read_bytes()[:100])
    write_candidates(recommender, tmp_path, K, SHARD)
    assert kept.items() <= shards(tmp_path).items()
    assert same(tmp_path, whole)


def test_a_folder_of_another_run_is_refused(recommender: Recommender, tmp_path: Path) -> None:
    write_candidates(recommender, tmp_path, 2, 300)
    before = shards(tmp_path)
    with pytest.raises(
        ArtifactError, match=r"of another run: k was 2 and is 3; shard_users was 300 and is 200; choose"
    ):
        write_candidates(recommender, tmp_path, 3, 200)
    plan = json.loads((tmp_path / PLAN).read_text())
    (tmp_path / PLAN).write_text(json.dumps(plan | {"model_version": "older"}))
    message = f"model_version was 'older' and is '{recommender.version}'; choose an empty folder"
    with pytest.raises(ArtifactError, match=re.escape(message)):
        write_candidates(recommender, tmp_path, 2, 300)
    for text in ("{", "[1]", "7"):
        (tmp_path / PLAN).write_text(text)
        with pytest.raises(ArtifactError, match=r"_PLAN\.json is damaged .*choose an empty folder"):
            write_candidates(recommender, tmp_path, 2, 300)
    (tmp_path / PLAN).unlink()
    with pytest.raises(ArtifactError, match="holds Parquet files that this job did not write; choose an empty folder"):
        write_candidates(recommender, tmp_path, 2, 300)
    assert shards(tmp_path) == before


def test_a_damaged_shard_is_named(recommender: Recommender, tmp_path: Path) -> None:
    write_candidates(recommender, tmp_path, 2, 300)
    path = tmp_path / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ArtifactError, match=r"part-00001\.parquet is damaged .*; delete it and run again"):
        write_candidates(recommender, tmp_path, 2, 300)
    path.unlink()
    write_candidates(recommender, tmp_path, 2, 300)
    assert read(tmp_path).height == 1200


def test_no_room(shop: Shop, recommender: Recommender, tmp_path: Path, whole: Path) -> None:
    script = (
        WRITE
        + f"""
import resource
from recsys.errors import ArtifactError, RequestError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_candidates(loaded, Path(sys.argv[2]), {K}, {SHARD})
except ArtifactError as error:
    print(error)
"""
    )
    command = [sys.executable, "-c", script, str(shop.folder), str(tmp_path)]
    message = subprocess.run(command, check=True, timeout=3600, capture_output=True, text=True).stdout
    assert message.startswith(f"could not write candidates to {tmp_path}: ")
    assert "make room, or set another output folder, and run again" in message
    assert os.listdir(tmp_path) == [PLAN]
    write_candidates(recommender, tmp_path, K, SHARD)
    assert same(tmp_path, whole)


def test_a_file_where_the_folder_should_be(recommender: Recommender, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(ArtifactError, match="could not write candidates to"):
        write_candidates(recommender, tmp_path / "out", 2)


CONDITIONS: dict[str, Any] = {
    "where": "price <= 30", "caps": {"brand": 2}, "exclude": ["i001", "gone"], "pinned": ["i044"],
    "boosts": {"i101": 2.0}, "diversity": 0.2, "unknown": "ignore",
}  # fmt: skip


def test_conditions_are_those_of_a_batch_and_part_of_the_plan(recommender: Recommender, tmp_path: Path) -> None:
    write_candidates(recommender, tmp_path, K, 300, **CONDITIONS)
    written, answered = read(tmp_path), recommender.recommend_batch(k=K, **CONDITIONS)
    assert written["item_id"].equals(answered["item_id"])
    assert written["probability"].null_count() == answered["probability"].null_count()
    assert written.height == 600 * K
    before = shards(tmp_path)
    write_candidates(recommender, tmp_path, K, 300, **CONDITIONS | {"where": "price <= 30.0"})
    assert shards(tmp_path) == before, "the same condition in other words"
    for other in ({}, CONDITIONS | {"where": "price <= 29"}, CONDITIONS | {"pinned": ["i045"]}):
        with pytest.raises(ArtifactError, match=r"of another run: conditions was '[0-9a-f]{16}' and is "):
            write_candidates(recommender, tmp_path, K, 300, **other)
    with pytest.raises(RequestError, match="where: the catalogue has no column 'cost'"):
        write_candidates(recommender, tmp_path / "other", K, where="cost < 1")
    assert not (tmp_path / "other").exists()


def test_short_lists_are_counted_with_the_reason(recommender: Recommender, tmp_path: Path) -> None:
    few = recommender.catalog.ids.to_list()[:5]
    write_candidates(recommender, tmp_path, K, 300, candidates=few)
    assert json.loads((tmp_path / SUCCESS).read_text())["short"] == {
        "lists": 600,
        "reason": "8 were asked for; the catalogue holds 344 items, 5 of them may be shown; the others were seen "
        "before by their user",
    }
    assert read(tmp_path).height == 3000
