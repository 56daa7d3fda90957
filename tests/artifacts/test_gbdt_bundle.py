"""A bundle whose scorer is someone else's model: stored as text, served and explained without its library."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from shops import Shop, recsys_process, write_shop_config
from tampering import change, refused

from recsys import Recommender, train
from recsys.artifacts.versions import MANIFEST
from recsys.config import load_config
from recsys.errors import ConfigError
from recsys.jobs.search_space import Space

WITHOUT = """
import sys
for name in ("lightgbm", "sklearn", "scipy", "torch"):
    sys.modules[name] = None
from recsys import Recommender
answer = Recommender.load(sys.argv[1]).recommend("u029", explain=True)
print([(item.item_id, item.score, item.reasons) for item in answer.items])
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return write_shop_config(tmp_path_factory.mktemp("gbdt"), tiny_model, scorer={"kind": "gbdt", "min_data": 20})


@pytest.fixture(scope="module")
def published(config: Path) -> Path:
    return train(load_config(config))


@pytest.fixture
def version(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "version"))


def test_the_text_model_is_what_is_stored_and_lightgbm_agrees(published: Path) -> None:
    manifest = json.loads((published / MANIFEST).read_text(encoding="utf-8"))
    assert [name for name in manifest["files"] if name.startswith("scorer/")] == ["scorer/text.npy"]
    text = np.load(published / "scorer" / "text.npy", allow_pickle=False)
    assert text.dtype == np.uint8
    rival = lightgbm.Booster(model_str=text.tobytes().decode())
    model = Recommender.load(published)._model
    rows = np.random.default_rng(0).normal(size=(500, rival.num_feature())).astype(np.float32)
    np.testing.assert_allclose(model.scorer.score(rows), rival.predict(rows), rtol=1e-6, atol=1e-6)


def test_it_serves_and_explains_without_any_training_library(published: Path) -> None:
    answer = Recommender.load(published).recommend("u029", explain=True)
    command = [sys.executable, "-c", WITHOUT, str(published)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.stderr == ""
    assert ran.stdout.strip() == str([(item.item_id, item.score, item.reasons) for item in answer.items])
    assert any(item.reasons for item in answer.items)


def test_without_lightgbm_training_says_what_to_install_and_tuning_leaves_it_out(
    config: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"gbdt", "logistic", "mlp"} <= Space.of(load_config(shop.config)).scorers.keys()
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    message = "scorer 'gbdt' needs lightgbm, which is not installed: pip install 'recsys[gbdt]'"
    with pytest.raises(ConfigError, match=f"{re.escape(message)}$"):
        train(load_config(config))
    assert Space.of(load_config(shop.config)).scorers.keys() == {"logistic", "mlp"}


def test_contributions_and_base_sum_to_the_score(published: Path) -> None:
    recommender = Recommender.load(published)
    item = recommender.recommend("u029").items[0]
    found = recommender.explain("u029", [item.item_id])[0]
    assert found.score == pytest.approx(item.score)
    assert found.base + sum(found.contributions.values()) == pytest.approx(found.score, abs=1e-5)


def test_a_tampered_text_is_refused_by_its_checksum(version: Path) -> None:
    file = version / "scorer" / "text.npy"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"leaf_value=0", b"leaf_value=9", 1))
    assert file.read_bytes() != content
    assert refused(version) == f"bundle file {file} differs from its checksum; train again or restore it"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"num_cat=0", b"num_cat=1", "scorer/text is no model of a 'gbdt' scorer: tree 0: num_cat is '1', and should"),
        (b"end of trees", b"end of", "the header: the text does not end with 'end of trees'"),
        (b"version=v4", b"version=v9", "the header: version is 'v9', and should be 'v4'"),
    ],
)
def test_a_text_with_a_fresh_checksum_is_still_not_trusted(version: Path, old: bytes, new: bytes, problem: str) -> None:
    assert old in np.load(version / "scorer" / "text.npy").tobytes()
    change(version, "scorer/text", lambda text: np.frombuffer(text.tobytes().replace(old, new, 1), dtype=np.uint8))
    told = refused(version)
    assert told.startswith(f"bundle {version} does not fit together: ")
    assert problem in told
    assert told.endswith("; train again")


def test_trees_of_other_features(version: Path) -> None:
    change(version, "scorer/text", lambda text: np.frombuffer(
        text.tobytes().replace(b"max_feature_idx=", b"max_feature_idx=9", 1), dtype=np.uint8))  # fmt: skip
    told = refused(version)
    assert "lacks a part (ValueError('rows of " in told
    assert "features, and the trees were learned from 9" in told


@pytest.mark.parametrize("command", ["evaluate", "score", "explain"])
def test_the_command_line_takes_it(config: Path, published: Path, command: str) -> None:
    arguments = {
        "evaluate": ["evaluate", str(config)],
        "score": ["score", "u029", "--bundle", str(published)],
        "explain": ["explain", "u029", Recommender.load(published).recommend("u029").items[0].item_id,
                    "--bundle", str(published)],
    }[command]  # fmt: skip
    ran = recsys_process(arguments)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout
