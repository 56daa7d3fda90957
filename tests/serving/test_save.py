"""A recommender is saved as a new version, and pickled as the path of its bundle."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import polars as pl
import pytest
from shops import ROOT, Shop

from recsys import Recommender
from recsys.artifacts import bundle, versions
from recsys.errors import ArtifactError
from recsys.serving.recommendations import Recommendations

USERS = ["u000", "u029", "nobody"]


def answers(recommender: Recommender) -> list[Recommendations]:
    return [recommender.recommend(user, 30, explain=True) for user in USERS]


def comparable(found: list[Recommendations]) -> list[dict]:
    return [answer.to_dict() | {"model_version": "", "request_id": ""} for answer in found]


def test_a_saved_recommender_answers_as_before(recommender: Recommender, tmp_path: Path) -> None:
    root = tmp_path / "shelf" / "shop"
    version = recommender.save(root)
    assert (version.parent.parent, version.name) == (root, versions.current_version(root))
    saved = Recommender.load(root)
    assert saved.version == version.name != recommender.version
    assert comparable(answers(saved)) == comparable(answers(recommender))
    different = {"model_version", "created_at", "files"}
    assert {key: value for key, value in saved.manifest.items() if key not in different} == {
        key: value for key, value in recommender.manifest.items() if key not in different
    }
    second = saved.save(root)
    assert versions.list_versions(root) == [version.name, second.name]
    assert Recommender.load(root).version == second.name


def test_added_items_are_saved(recommender: Recommender, tmp_path: Path) -> None:
    copy = recommender.add_items(pl.DataFrame({"item_id": ["new0", "new1"], "title": ["green soap", "red soap"]}))
    copy.save(tmp_path)
    saved = Recommender.load(tmp_path)
    assert comparable(answers(saved)) == comparable(answers(copy))
    assert saved.manifest["counts"] == recommender.manifest["counts"] | {"items": 346}
    assert saved.score("u029", ["new0"]).equals(copy.score("u029", ["new0"]))
    again = saved.add_items(pl.DataFrame({"item_id": ["new2"], "title": ["soap"]}))
    assert again.version.startswith(f"{saved.version}+1-")


def test_where_nothing_can_be_saved(recommender: Recommender, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match=rf"could not write the bundle in {re.escape(str(tmp_path / 'file'))}: "):
        recommender.save(tmp_path / "file")


def test_a_recommender_is_pickled_as_its_path(recommender: Recommender) -> None:
    content = pickle.dumps(recommender)
    assert len(content) < 1000
    assert comparable(answers(pickle.loads(content))) == comparable(answers(recommender))  # noqa: S301
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        frame = pool.submit(recommender.recommend_batch, ["u029"], 5).result()
    assert frame.equals(recommender.recommend_batch(["u029"], 5))


def test_items_in_memory_are_not_pickled(recommender: Recommender, tmp_path: Path) -> None:
    copy = recommender.add_items(pl.DataFrame({"item_id": ["new0"], "title": ["green soap"]}))
    with pytest.raises(ArtifactError, match=rf"version {re.escape(copy.version)} holds added items in memory"):
        pickle.dumps(copy)
    copy.save(tmp_path)
    assert pickle.loads(pickle.dumps(Recommender.load(tmp_path))).catalog.ids[-1] == "new0"  # noqa: S301


def test_a_bundle_loads_and_serves_where_fcntl_cannot_be_imported(shop: Shop) -> None:
    """As on Windows: neither reading nor answering may need what POSIX alone has."""
    script = """
import sys
sys.modules |= dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios"), None)  # an import of these now fails
import recsys
recommender = recsys.Recommender.load(sys.argv[1])
print(len(recommender.recommend("u029", 7)), recommender.recommend_batch(["u029"], 3).height, "filelock" in sys.modules)
with recsys.RecommenderHandle(sys.argv[1]) as handle:
    print(handle.recommender.version)
"""
    command = [sys.executable, "-c", script, str(shop.folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["7", "3", "False", bundle.load(shop.folder).version]
