"""Members of other packages: registered here, offered by an installed distribution, and needed by a bundle."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from members import add_member
from shops import recsys_process, write_shop_config

from recsys import extend
from recsys.artifacts import bundle
from recsys.artifacts.extensions import KEY, describe_extensions, require_extensions
from recsys.config import load_config
from recsys.errors import ArtifactError, ConfigError
from recsys.evaluation.metrics import METRICS
from recsys.ranking.features import FEATURES, Feature
from recsys.registry import Family
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.registry import RETRIEVERS

MODULE = '''
"""Six members, as a package of somebody else would hold them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recsys import extend
from recsys.embedding.transformer import TransformerEncoder
from recsys.ranking.features import Feature
from recsys.ranking.scorers.logistic import Logistic
from recsys.retrieval.popularity import Popularity


@dataclass(frozen=True)
class Trending(Popularity):
    """What everybody does, under another name and with a setting of its own."""

    name: ClassVar[str] = "trending"
    days: int = 7


@dataclass(frozen=True)
class Sharp(Logistic):
    name: ClassVar[str] = "sharp"
    c: float = 0.5


class Shouting(TransformerEncoder):
    def encode_batches(self, texts):
        return super().encode_batches([text.upper() for text in texts])


def title_length(context, prepared):
    return prepared["length"][context.item]


def lengths(state):
    return {"length": np.array([len(title) for title in state.catalog.titles], np.float32)}


titles = Feature("title_length", title_length, lengths)


def precision(hits, n_relevant, k):
    return hits[:, :k].sum(axis=1) / k
'''
POINTS = """
[recsys.retrievers]
trending = acme_recsys:Trending
[recsys.features]
title_length = acme_recsys:titles
[recsys.scorers]
sharp = acme_recsys:Sharp
[recsys.encoders]
shouting = acme_recsys:Shouting
[recsys.metrics]
precision = acme_recsys:precision
"""
EXTENSIONS = [
    {"family": family, "name": name, "module": "acme_recsys", "distribution": "acme-recsys", "version": "1.2"}
    for family, name in (
        ("retriever", "trending"), ("feature", "title_length"), ("scorer", "sharp"), ("encoder", "shouting"),
    )
]  # fmt: skip


def install(site: Path, distribution: str = "acme-recsys", version: str = "1.2", points: str = POINTS) -> Path:
    """What an installer leaves of a package: its module, and its metadata with the entry points."""
    about = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(points)
    (about / "RECORD").write_text(f"acme_recsys.py,,\n{about.name}/METADATA,,\n{about.name}/entry_points.txt,,\n")
    (about / "top_level.txt").write_text("acme_recsys\n")
    (site / "acme_recsys.py").write_text(MODULE)
    return site


def process(args: list[str], *sites: Path) -> Any:
    return recsys_process(args, env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (Path.cwd(), *sites)))})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    path = write_shop_config(tmp_path_factory.mktemp("extended"), tiny_model)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["retrievers"]["trending"] = {"depth": 10, "days": 3}
    raw["features"] = [*raw["features"], "title_length"]
    raw["scorer"] = {"kind": "sharp"}
    raw["embedding"]["encoder"] = "shouting"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(config: Path, site: Path) -> Path:
    ran = process(["train", str(config)], site)
    assert ran.returncode == 0, ran.stderr
    return Path(ran.stdout.strip())


# Entry points


def test_yaml_names_members_of_an_installed_package(trained: Path, site: Path) -> None:
    manifest = json.loads((trained / "manifest.json").read_text(encoding="utf-8"))
    assert manifest[KEY] == EXTENSIONS
    assert manifest["config"]["retrievers"]["trending"] == {"depth": 10, "days": 3}
    root = str(trained.parents[1])
    ran = process(["score", "u029", "--json", "--bundle", root], site)
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)["items"]) == 10
    ran = process(["search", "soap", "--json", "--bundle", root], site)
    assert ran.returncode == 0, ran.stderr


def test_metrics_of_an_installed_package_are_reported(config: Path, site: Path) -> None:
    ran = process(["evaluate", str(config), "--json"], site)
    assert ran.returncode == 0, ran.stderr
    measured = json.loads(ran.stdout)["metrics"]["engine"]
    assert measured["precision@5"] == pytest.approx(measured["recall@5"] / 5)  # one target a user


def test_without_the_package_bundle_and_config_say_what_is_missing(trained: Path, config: Path) -> None:
    ran = process(["score", "u029", "--bundle", str(trained.parents[1])])
    assert ran.returncode == ArtifactError.exit_code
    message = " ".join(ran.stderr.split())
    assert "needs the retriever 'trending' of acme_recsys (acme-recsys 1.2), which is not here: pip install" in message
    assert "acme-recsys==1.2" in message
    ran = process(["train", str(config)])
    assert ran.returncode == ConfigError.exit_code
    message = " ".join(ran.stderr.split())
    line = 1 + config.read_text(encoding="utf-8").splitlines().index("  trending:")
    assert f"line {line}: retrievers.trending: unknown retriever 'trending'" in message


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package on this process's path; families look again."""
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("acme_recsys", None)


def looks_again(monkeypatch: pytest.MonkeyPatch, *families: Family[Any]) -> None:
    for family in families:
        family._discover()
        monkeypatch.setattr(family, "_points", None)
        monkeypatch.setattr(family, "_entries", dict(family._entries))


def test_a_package_is_imported_when_a_name_is_looked_up(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks_again(monkeypatch, RETRIEVERS)
    assert list(RETRIEVERS)[-1] == "trending"
    assert "trending" in RETRIEVERS
    assert "acme_recsys" not in sys.modules
    assert RETRIEVERS["trending"](days=3).depth == 50  # type: ignore[call-arg]
    assert "acme_recsys" in sys.modules
    assert str(RETRIEVERS.origin("trending")) == "acme_recsys (acme-recsys 1.2)"
    assert RETRIEVERS.origin("semantic") is None
    with pytest.raises(KeyError, match="trendin"):
        RETRIEVERS.origin("trendin")


def test_a_package_that_takes_a_name_is_refused_with_both_homes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "greedy", "0.3", "[recsys.retrievers]\nsemantic = acme_recsys:Trending\n")
    monkeypatch.syspath_prepend(tmp_path)
    looks_again(monkeypatch, RETRIEVERS)
    message = r"'semantic' is registered twice: by recsys\.retrieval\.semantic and by acme_recsys \(greedy 0\.3\)"
    with pytest.raises(ConfigError, match=message):
        list(RETRIEVERS)


def test_two_packages_with_one_name_are_refused(installed: Path, tmp_path: Path, monkeypatch: Any) -> None:
    install(tmp_path, "later", "2.0", "[recsys.retrievers]\ntrending = later:Trending\n")
    monkeypatch.syspath_prepend(tmp_path)
    looks_again(monkeypatch, RETRIEVERS)
    message = r"'trending' is registered twice: by later \(later 2\.0\) and by acme_recsys \(acme-recsys 1\.2\)"
    with pytest.raises(ConfigError, match=message):
        "trending" in RETRIEVERS  # noqa: B015


def test_a_package_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "broken", "1.0", "[recsys.metrics]\nbroken = no_such_module:metric\n")
    monkeypatch.syspath_prepend(tmp_path)
    looks_again(monkeypatch, METRICS)
    message = r"metric 'broken' of no_such_module \(broken 1\.0\) cannot be imported from 'no_such_module:metric': Mod"
    with pytest.raises(ConfigError, match=message):
        METRICS["broken"]


# Registered by a call


def test_decorators_and_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    looks_again(monkeypatch, RETRIEVERS, FEATURES, METRICS)

    @extend.retriever
    @dataclass(frozen=True)
    class Mine(Popularity):
        name: ClassVar[str] = "mine"

    @extend.metric
    def first(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
        return hits[:, 0].astype(float)

    @extend.metric(name="second_place")
    def second(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
        return hits[:, 1].astype(float)

    rows = Feature("rows", lambda context, prepared: context.item)
    assert extend.feature(rows, name="rows") is rows
    assert (RETRIEVERS["mine"], FEATURES["rows"]) == (Mine, rows)
    assert (METRICS["first"], METRICS["second_place"]) == (first, second)
    assert list(METRICS) == ["recall", "ndcg", "mrr", "hit_rate", "first", "second_place"]
    assert RETRIEVERS.origin("mine") == (__name__, None, None)
    again = replace(rows)
    extend.feature(again, name="rows")  # a notebook's cell runs twice
    assert FEATURES["rows"] is again


def test_what_cannot_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    looks_again(monkeypatch, RETRIEVERS, FEATURES)
    rows = Feature("rows", lambda context, prepared: context.item)
    message = rf"feature 'due' is registered twice: by recsys\.ranking\.features and by {__name__}; rename one of them"
    with pytest.raises(ConfigError, match=message):
        extend.feature(rows, name="due")
    with pytest.raises(ConfigError, match=r"feature name 'Big Name' must match \[a-z\]"):
        extend.feature(rows, name="Big Name")
    with pytest.raises(ConfigError, match="has no name: give it an attribute `name`, or register it with name="):
        extend.feature(object())
    with pytest.raises(ConfigError, match=r"a retriever must be a dataclass, whose fields are its settings; .*Plain"):
        extend.retriever(type("Plain", (), {"name": "plain"}))
    FEATURES.extend(rows, "rows", "somewhere")
    with pytest.raises(ConfigError, match=f"'rows' is registered twice: by somewhere and by {__name__}"):
        extend.feature(replace(rows), name="rows")
    with pytest.raises(ConfigError, match=r"'due' is registered twice: by recsys\.ranking\.features and by recsys"):
        FEATURES.register(rows, "due")


# What a bundle needs


def needing(version: Path, records: Any) -> bundle.Bundle:
    loaded = bundle.load(version)
    return replace(loaded, manifest={**loaded.manifest, KEY: records})


def test_a_member_of_this_process_is_recorded_without_a_package(
    config: Path, installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path
) -> None:
    looks_again(monkeypatch, RETRIEVERS)
    add_member(monkeypatch, RETRIEVERS, "mine", Popularity)
    run = load_config(write_shop_config(tmp_path, tiny_model, retrievers={"a": {"kind": "mine"}, "repeat": {}}))
    assert describe_extensions(run) == [
        {"family": "retriever", "name": "mine", "module": "members", "distribution": None, "version": None}
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"distribution": None, "version": None, "name": "mine"},
            "needs the retriever 'mine' of acme_recsys, which is not here: import acme_recsys, which registers it, "
            "before the bundle is loaded",
        ),
        (
            {"distribution": "numpy"},
            "which is not here: numpy is installed, and does not offer it by an entry point in 'recsys.retrievers': "
            "import acme_recsys before the bundle is loaded",
        ),
        (
            {"name": "semantic"},
            "and here that name belongs to recsys itself: pip install acme-recsys==1.2",
        ),
    ],
)
def test_a_need_that_cannot_be_met(version: Path, changes: dict[str, Any], message: str) -> None:
    loaded = needing(version, [EXTENSIONS[0] | changes])
    with pytest.raises(ArtifactError) as raised:
        require_extensions(loaded, ("retriever",))
    assert str(raised.value).startswith(f"bundle {version} needs the retriever ")
    assert str(raised.value).endswith(message)
    require_extensions(loaded, ("scorer",))  # who asks for nothing else needs nothing else


def test_another_version_is_told_and_another_package_refused(
    version: Path, installed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks_again(monkeypatch, RETRIEVERS)
    require_extensions(needing(version, [EXTENSIONS[0]]), ("retriever",))
    assert not caplog.records
    require_extensions(needing(version, [EXTENSIONS[0] | {"version": "1.1"}]), ("retriever",))
    assert "made with retriever trending of acme_recsys (acme-recsys 1.1), and here it is" in caplog.text
    other = needing(version, [EXTENSIONS[0] | {"distribution": "other"}])
    with pytest.raises(
        ArtifactError, match=r"that name belongs to acme_recsys \(acme-recsys 1\.2\): pip install other"
    ):
        require_extensions(other, ("retriever",))


WRONG = [EXTENSIONS[0] | {key: value} for key, value in (("family", "os"), ("name", 3), ("module", None))]


@pytest.mark.parametrize("record", ["trending", {}, None, *WRONG])
def test_a_damaged_record(version: Path, record: Any) -> None:
    with pytest.raises(ArtifactError, match="is damaged: its manifest lists the extension"):
        require_extensions(needing(version, [record]), ("retriever",))


def test_nothing_is_imported_because_a_bundle_names_it(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("canary", "canary:run", "canary.run"):
        record = EXTENSIONS[0] | {"name": name, "module": "canary", "distribution": None, "version": None}
        with pytest.raises(ArtifactError, match="import canary, which registers it"):
            require_extensions(needing(version, [record]), ("retriever",))
    assert "canary" not in sys.modules
