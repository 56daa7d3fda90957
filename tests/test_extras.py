"""The base install: a published bundle serves without the extras; what lacks one says in one line which to install."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from shops import Shop

from recsys.errors import ConfigError
from recsys.extras import EXTRAS, missing, require

USER, ITEM = "u029", "i001"
BLOCKED = [*EXTRAS["train"], *EXTRAS["tune"], *EXTRAS["int8"], *EXTRAS["gbdt"], "sentence_transformers",
           "huggingface_hub", "joblib", "pandas", "matplotlib"]  # fmt: skip
BASE = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r})); "  # what is None there cannot be imported


def base_process(*args: object, code: str = "from recsys.cli import main; main()", block: str = BASE):
    """Run code in a process in which no package of an extra can be imported."""
    command = [sys.executable, "-c", block + code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)


def test_a_bundle_serves_without_extras(shop: Shop, tmp_path: Path) -> None:
    code = f"""
import json
from recsys import Recommender
recommender = Recommender.load({str(shop.folder)!r})
users = recommender.user_ids[:20].to_list()
answer = recommender.recommend({USER!r}, 5, explain=True)
print(json.dumps({{
    "items": len(answer.items), "reasons": len(answer.items[0].reasons),
    "similar": len(recommender.similar_items({ITEM!r}, 4)),
    "batch": len(recommender.recommend_batch(users, 7)), "why": recommender.why_not({USER!r}, {ITEM!r}, 5).stage,
}}))
"""
    ran = base_process(code=code)
    assert ran.returncode == 0, ran.stderr
    served = json.loads(ran.stdout)
    assert (served["items"], served["similar"]) == (5, 4)
    assert served["reasons"] > 0
    assert served["batch"] == 20 * 7
    assert served["why"]
    ran = base_process("candidates", "--bundle", shop.folder, "--out", tmp_path / "out", "--k", 5, "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["users"] > 20


@pytest.mark.parametrize(
    ("args", "purpose"),
    [
        (["train"], "recsys train needs scipy, sklearn, torch and transformers, which are"),
        (["train", "--tune"], "tuning needs optuna, which is"),
        (["evaluate"], "recsys evaluate needs scipy, sklearn, torch and transformers, which are"),
        (["update"], "recsys update needs scipy, sklearn, torch and transformers, which are"),
        (["audit"], "recsys audit needs scipy, sklearn, torch and transformers, which are"),
        (
            ["search", "green tea", "--config"],
            "encoding texts, as a search does, needs torch and transformers, which are",
        ),
    ],
)
def test_commands_name_the_extra_in_one_line(shop: Shop, args: list[str], purpose: str) -> None:
    ran = base_process(*args, shop.config)
    extra = "tune" if "--tune" in args else "train"
    assert (ran.returncode, ran.stdout) == (ConfigError.exit_code, "")
    assert ran.stderr == f"error: {purpose} not installed: pip install 'recsys[{extra}]'\n"


def test_without_faiss_it_says_which_of_the_two(shop: Shop) -> None:
    ran = base_process("score", USER, "--bundle", shop.folder, block="import sys; sys.modules['faiss'] = None; ")
    assert (ran.returncode, ran.stdout) == (ConfigError.exit_code, "")
    assert ran.stderr == ("error: searching vectors needs faiss, which is not installed: pip install 'recsys[cpu]', "
                          "or 'recsys[gpu]' on a machine with an NVIDIA GPU\n")  # fmt: skip


def test_the_service_names_its_extra() -> None:
    block = f"import runpy, sys; sys.modules.update(dict.fromkeys({EXTRAS['service']!r})); "
    code = "sys.argv[1:] = []; runpy.run_module('examples.ranking_service', run_name='__main__')"
    ran = base_process(code=code, block=block)
    assert (ran.returncode, ran.stdout) == (ConfigError.exit_code, "")
    assert ran.stderr == ("error: the ranking service needs fastapi, uvicorn and prometheus_client, which are not "
                          "installed: pip install 'recsys[service]'\n")  # fmt: skip


def test_doctor_of_a_machine_that_only_serves(tmp_path: Path) -> None:
    ran = base_process("doctor")
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^WARN  training: this machine can serve only; missing: scipy, sklearn, torch, transformers; "
                     r"pip install 'recsys\[train\]'", ran.stdout, re.MULTILINE)  # fmt: skip


def test_the_line_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    require("train", "training")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert missing("torch", "numpy", "no_such_module") == ["torch", "no_such_module"]
    require("train", "counting", "scipy")
    with pytest.raises(
        ConfigError, match=r"^fitting needs torch, which is not installed: pip install 'recsys\[train\]'$"
    ):
        require("train", "fitting")


def test_pyproject_has_every_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"].keys() >= EXTRAS.keys()
