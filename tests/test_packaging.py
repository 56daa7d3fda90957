"""The wheel: what it holds, what it says of itself, and that its types can be used."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import recsys

ROOT = Path(__file__).parents[1]

USER = """
from recsys import Recommender, RecommenderHandle, errors, evaluate, forget, train, tune, update
from recsys.config import Config, load_config

config: Config = load_config("shop.yaml")
version = train(config)
recommender: Recommender = Recommender.load(version)
names: list[str] = [item.title for item in recommender.recommend("u029", k=10).items]
report = evaluate(config)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves folders in the tree."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "recsys", folder / "source" / "recsys", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build, str(folder)]
    ran = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True, timeout=3600, check=False)
    assert ran.returncode == 0, ran.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_is_whole_and_holds_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "recsys").rglob("*.py")}
    heads = {f"recsys/assistant/heads/{path.name}" for path in (ROOT / "recsys" / "assistant" / "heads").iterdir()}
    about = f"recsys-{recsys.__version__}.dist-info"
    assert {name for name in names if not name.startswith(about)} == modules | heads | {
        "recsys/py.typed",
        "recsys/cli/demo.yaml",
        *(path.relative_to(ROOT).as_posix() for path in (ROOT / "recsys" / "assistant" / "language").glob("*.yaml")),
        "recsys/report/page.css",
        "recsys/report/page.html",
    }
    assert f"{about}/licenses/LICENSE" in names


def test_the_metadata(wheel: Path) -> None:
    about = email.message_from_bytes(zipfile.ZipFile(wheel).read(f"recsys-{recsys.__version__}.dist-info/METADATA"))
    assert about["Version"] == recsys.__version__
    assert about["License-Expression"] == "MIT"
    assert about["Author"] == "The recsys authors"
    base = {line.split(">")[0] for line in about.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert base == {"filelock", "numpy", "polars", "pydantic", "pyyaml", "rich", "threadpoolctl", "typer", "xxhash"}


def test_the_demo_has_one_config() -> None:
    assert (ROOT / "configs" / "demo.yaml").resolve() == ROOT / "recsys" / "cli" / "demo.yaml"


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    pinned = {line.split("==")[0].lower().replace("_", "-")
              for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}  # fmt: skip
    names = {re.split(r"[\[>]", name)[0].lower() for name in wanted if not name.startswith("recsys[")}
    assert names - pinned == {"faiss-gpu"}  # faiss-cpu is the tested one


def test_a_strict_type_checker_reads_the_installed_types(wheel: Path, tmp_path: Path) -> None:
    """Without the libraries that the package itself imports, whose types would take mypy half a minute."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "use.py").write_text(USER, encoding="utf-8")
    (tmp_path / "misuse.py").write_text(USER.replace("list[str]", "list[bytes]"), encoding="utf-8")
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\nfollow_imports = silent\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-site-packages", "use.py", "misuse.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ | {"MYPYPATH": str(tmp_path / "site")},
                         capture_output=True, text=True, timeout=3600, check=False)  # fmt: skip
    errors = [line for line in ran.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, ran.stdout + ran.stderr
    assert errors[0].startswith("misuse.py:8: error: List comprehension has incompatible type")
