"""What earlier releases published: it loads and answers as it did, or is refused with the way to renew it.

The bundles lie in `published/`, each with the answers of the code that wrote it; see the README there.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from shops import Shop, recsys_process

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent
PUBLISHED = FOLDER / "published"
NAMES = sorted(path.parent.name for path in PUBLISHED.glob("*/expected.json"))
REFUSED = {
    "1-17d3a87": "has schema version 1 as it was at first, without a checksum of the manifest: its scores would differ "
    "from those it gave; train again, or use the recsys that wrote it",
    "1-9ca1e16": "items come from a tower before its scores were log odds (it holds no projection); train again",
}  # the others load; nothing may ever join these
QUICK = "2-1a99edf-mlp"  # its config trains in seconds
TOLERANCE = 1e-5
MOST_BYTES = 160_000
TRAINING_ONLY = ("torch", "transformers", "sentence_transformers", "onnxruntime", "sklearn", "scipy")

ASK_ALL = """
import json, sys
sys.modules |= dict.fromkeys(sys.argv[1].split(), None)  # an import of these now fails
from publish_fixture import PUBLISHED, answers
from recsys import Recommender, errors
outcomes = {}
for name in sys.argv[2:]:
    try:
        outcomes[name] = {"answers": answers(Recommender.load(PUBLISHED / name / "bundle"))}
    except errors.ArtifactError as error:
        outcomes[name] = {"refused": str(error)}
print(json.dumps(outcomes))
"""


def environment() -> dict[str, str]:
    """This process's, in which the script beside this file and this very recsys can be imported."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (FOLDER, ROOT)))}


def manifest(root: Path) -> dict[str, Any]:
    version = (root / "CURRENT").read_text(encoding="utf-8").strip()
    return json.loads((root / "versions" / version / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def outcomes() -> Mapping[str, Mapping[str, Any]]:
    """What today's code makes of each stored bundle, where nothing that trains or encodes can be imported."""
    command = [sys.executable, "-c", ASK_ALL, " ".join(TRAINING_ONLY), *NAMES]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment())
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_a_published_bundle_answers_as_it_did_or_says_how_to_renew_it(
    name: str, outcomes: Mapping[str, Mapping[str, Any]]
) -> None:
    stored, outcome = manifest(PUBLISHED / name / "bundle"), outcomes[name]
    if "refused" in outcome:
        assert stored["model_version"] in outcome["refused"]
        assert REFUSED[name] in outcome["refused"]
    else:
        expected = json.loads((PUBLISHED / name / "expected.json").read_text(encoding="utf-8"))
        assert_same(outcome["answers"], expected)


def assert_same(got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for ours, theirs in zip(answers_of(got), answers_of(expected), strict=True):
        assert {**ours, "items": None} == {**theirs, "items": None}  # the user, the item, `fallback`
        assert [row[0] for row in ours["items"]] == [row[0] for row in theirs["items"]]
        assert numbers(ours) == pytest.approx(numbers(theirs), rel=TOLERANCE, abs=TOLERANCE, nan_ok=True), theirs


def numbers(answer: Mapping[str, Any]) -> list[float]:
    """Scores and probabilities of all items; NaN for a probability that an item has not."""
    return [math.nan if number is None else number for row in answer["items"] for number in row[1:]]


def answers_of(everything: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*everything["recommend"], *everything["score"], everything["similar_items"]]


def test_what_loads_today_goes_on_loading(outcomes: Mapping[str, Mapping[str, Any]]) -> None:
    assert {name for name, outcome in outcomes.items() if "refused" in outcome} == REFUSED.keys()


def test_a_bundle_of_every_schema_version_is_stored(shop: Shop) -> None:
    current = manifest(shop.folder)["schema_version"]
    stored = {name: manifest(PUBLISHED / name / "bundle")["schema_version"] for name in NAMES}
    assert current in stored.values(), (
        f"no bundle of schema version {current} is stored: add one as {PUBLISHED / 'README.md'} says"
    )
    assert set(stored.values()) == set(range(1, current + 1))


@pytest.mark.parametrize("name", [NAMES[0], NAMES[-1]])
def test_the_command_line_treats_it_alike(name: str, outcomes: Mapping[str, Mapping[str, Any]], tmp_path: Path) -> None:
    bundle = shutil.copytree(PUBLISHED / name / "bundle", tmp_path / "bundle")
    expected = json.loads((PUBLISHED / name / "expected.json").read_text(encoding="utf-8"))["recommend"][0]
    user = str(expected["user_id"])
    ran = recsys_process(
        ["score", user, "--bundle", str(bundle), "-k", "12", "--json"], cwd=tmp_path, env=environment()
    )
    if "refused" in outcomes[name]:
        assert (ran.returncode, ran.stdout) == (5, "")
        assert re.search(rf"schema version {manifest(bundle)['schema_version']}\b", " ".join(ran.stderr.split()))
    else:
        assert ran.returncode == 0, ran.stderr
        told = json.loads(ran.stdout)["items"]
        assert [item["item_id"] for item in told] == [row[0] for row in expected["items"]]
        scores = [row[1] for row in expected["items"]]
        assert [item["score"] for item in told] == pytest.approx(scores, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_names_no_folder_of_the_machine_that_made_it(name: str) -> None:
    files = [path for path in (PUBLISHED / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for path in files:
        assert not re.search(rb"(?<![\w.])/(tmp|work|root|home|Users|mnt)/", path.read_bytes()), path
    config = manifest(PUBLISHED / name / "bundle")["config"]
    assert (config["embedding"]["model"], config["output"]) == ("tiny", "artifacts")


def test_the_script_publishes_a_bundle_of_the_current_schema_and_its_answers(shop: Shop, tmp_path: Path) -> None:
    shutil.copy(PUBLISHED / QUICK / "config.yaml", tmp_path)
    command = [sys.executable, "-c", "import sys, pathlib, publish_fixture as p; p.publish(pathlib.Path(sys.argv[1]))"]
    ran = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False,
                         env=environment())  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert manifest(tmp_path / "bundle")["schema_version"] == manifest(shop.folder)["schema_version"]
    told, expected = (answers_of(json.loads((folder / "expected.json").read_text(encoding="utf-8")))
                      for folder in (tmp_path, PUBLISHED / QUICK))  # fmt: skip
    assert [len(answer["items"]) for answer in told] == [len(answer["items"]) for answer in expected]
    assert [answer.get("user_id") for answer in told] == [answer.get("user_id") for answer in expected]
