"""A bundle whose indexes are approximate: what its manifest says of them, and that its answers hold."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from shops import recsys_process, write_shop_config
from tampering import change, refused

from recsys import Recommender, train, update
from recsys.artifacts import bundle, versions
from recsys.config import load_config
from recsys.errors import ArtifactError
from recsys.retrieval import index_spec
from recsys.retrieval.index import Index
from recsys.retrieval.index_spec import IndexSpec


@pytest.fixture(scope="module")
def small() -> pytest.MonkeyPatch:
    """Let `auto` think that 344 items are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_spec, "MAX_EXACT_NUMBERS", 0)
        yield patch


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, small: pytest.MonkeyPatch
) -> tuple[Path, Path, list[int]]:
    """The config, the version, and how often vectors were indexed, by their width."""
    folder, widths, build = tmp_path_factory.mktemp("indexes"), [], IndexSpec.build

    def counted(spec: IndexSpec) -> Index:
        widths.append(spec.vectors.shape[1])
        return build(spec)

    members = {"semantic": {"depth": 20}, "tower": {"width": 8, "epochs": 1, "depth": 20}, "popularity": {"depth": 5}}
    members["exact"] = {"kind": "semantic", "depth": 20, "index": "Flat"}
    config = write_shop_config(folder, tiny_model, retrievers=members)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IndexSpec, "build", counted)
        return config, train(load_config(config)), widths


def test_the_manifest_tells_what_each_index_finds_and_costs(trained: tuple[Path, Path, list[int]]) -> None:
    indexes = bundle.load(trained[1]).manifest["indexes"]
    assert indexes.keys() == {"semantic", "tower", "exact"}
    assert indexes["exact"] == {"factory": "Flat", "search": "", "recall@100": 1.0}
    for name, codes in (("semantic", 32), ("tower", 9)):
        assert indexes[name].keys() == {"factory", "search", "recall@100", "ndcg@10", "ndcg@10 exact"}
        assert indexes[name]["factory"] == f"IVF16,PQ{codes}x4fs"
        assert indexes[name]["recall@100"] >= 0.98
        assert indexes[name]["ndcg@10"] == pytest.approx(indexes[name]["ndcg@10 exact"], abs=0.02)
        assert indexes[name]["ndcg@10"] > 0


def test_inspect_shows_it(trained: tuple[Path, Path, list[int]]) -> None:
    ran = recsys_process(["inspect", "--bundle", str(trained[1])], cwd=trained[1], env=os.environ)
    shown = " ".join(ran.stdout.split())
    assert "semantic IVF16,PQ32x4fs nprobe=" in shown, ran.stderr
    assert "exact Flat (recall@100 1.0000)" in shown


def test_vectors_are_indexed_once_a_run_and_a_tower_at_each_cut(trained: tuple[Path, Path, list[int]]) -> None:
    widths = trained[2]
    assert widths.count(32) == 2, "semantic and exact, however many cuts there are"
    assert widths.count(9) > 2


def test_answers_hold_what_is_asked_for_under_filters(trained: tuple[Path, Path, list[int]]) -> None:
    loaded = Recommender.load(trained[1])
    assert not loaded._model.retrieval.fitted["semantic"].index.exact
    price = dict(loaded.catalog.frame.select("item_id", "price").iter_rows())
    for limit in (5, 15, 1000):
        answer = loaded.recommend(loaded.user_ids[0], 10, where=f"price < {limit}")
        assert len(answer.items) == min(10, sum(value is not None and value < limit for value in price.values()))
        assert all(price[item.item_id] < limit for item in answer.items)


def test_an_update_measures_again(trained: tuple[Path, Path, list[int]], tmp_path: Path) -> None:
    config = load_config(trained[0])
    root = Path(shutil.copytree(config.folder, tmp_path / "artifacts" / config.folder.name))
    version = update(config.model_copy(update={"output": str(root.parent)}))
    indexes = bundle.load(version).manifest["indexes"]
    assert indexes["semantic"].keys() == {"factory", "search", "recall@100"}
    assert min(index["recall@100"] for index in indexes.values()) >= 0.98
    assert Recommender.load(version).recommend(Recommender.load(version).user_ids[0], 5).items


def test_below_the_floor_nothing_is_published(tmp_path: Path, tiny_model: Path) -> None:
    poor = {"semantic": {"depth": 20, "index": "IVF16,Flat", "search": "nprobe=1"}}
    config = load_config(write_shop_config(tmp_path, tiny_model, retrievers=poor))
    message = (
        r"'IVF16,Flat' finds 0\.\d+ of the true 100 nearest items, below the floor of 0.98: .* or use `index: auto`"
    )
    with pytest.raises(ArtifactError, match=message):
        train(config)
    assert not versions.list_versions(config.folder)


def test_an_index_that_looks_into_more_lists_than_it_has(trained: tuple[Path, Path, list[int]], tmp_path: Path) -> None:
    version = Path(shutil.copytree(trained[1], tmp_path / "version"))

    def widened(data: np.ndarray) -> np.ndarray:
        finder = faiss.deserialize_index(np.array(data))
        finder.nprobe = 1 << 50
        return faiss.serialize_index(finder)

    change(version, "retrievers/semantic/index", widened)
    assert f"the index looks into {1 << 50} of 16 lists: it is damaged" in refused(version)
