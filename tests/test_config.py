"""The YAML of a run: what is refused, and that every refusal says where, what and what instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import yaml
from members import add_member
from pydantic import Field
from shops import ROOT, write_shop_config

from recsys import config as module
from recsys.config import (
    Config,
    Model,
    check_members,
    construct,
    load_config,
    nearest,
    parse_config,
    parse_stored_config,
)
from recsys.engine.plan import Plan
from recsys.errors import ConfigError
from recsys.evaluation.baselines import BASELINES
from recsys.ranking.features import FEATURES
from recsys.ranking.scorers.registry import SCORERS
from recsys.registry import FAMILIES, family
from recsys.retrieval.registry import RETRIEVERS
from recsys.tables.sources.registry import SOURCES

CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SHOP = yaml.safe_load((ROOT / "configs" / "shop.yaml").read_text(encoding="utf-8"))


def shop(**changes: Any) -> dict[str, Any]:
    return SHOP | changes


def refused(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_config(raw, "run.yaml")
    return str(raised.value)


def full() -> dict[str, Any]:
    """The shop's config with every key of every model written out."""
    return parse_config(SHOP).model_dump(mode="json")


def places(raw: dict[str, Any], model: type[Model] = Config, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of every model, by its path in the YAML."""
    found = []
    for key in model.model_fields:
        found.append((*at, key))
        inner = raw.get(key)
        annotation = type(getattr(parse_config(SHOP), key, None)) if not at else None
        if isinstance(inner, dict) and annotation and issubclass(annotation, Model):
            found += places(inner, annotation, (key,))
        if at == ("data",) and key in ("catalog", "interactions"):
            found += places(inner or {}, type(getattr(parse_config(SHOP).data, key)), (*at, key))
    return found


def with_typo(path: tuple[str, ...], typo: str) -> dict[str, Any]:
    raw = full()
    inner = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[typo] = inner.pop(path[-1])
    return raw


def test_the_walk_sees_every_model() -> None:
    models = [m for m in vars(module).values() if isinstance(m, type) and issubclass(m, Model) and m is not Model]
    keys = {key for m in models if m.__name__ != "TimeSplit" for key in m.model_fields}
    assert {path[-1] for path in places(full())} == keys


@pytest.mark.parametrize("path", [p for p in places(full()) if len(p[-1]) > 3 and p != ("split", "kind")], ids=".".join)
def test_a_typo_in_any_key_names_the_nearest(path: tuple[str, ...]) -> None:
    key = path[-1]
    for typo in {key[:-2] + key[-1] + key[-2], key[:2] + key[2:3] * 2 + key[3:], key[:-1]} - {key}:
        message = refused(with_typo(path, typo))
        assert f"unknown key; did you mean {key!r}?" in message, message
        assert re.search(rf"^run\.yaml: \S*{typo}: ", message, re.MULTILINE)


def test_a_key_near_nothing_gets_no_hint() -> None:
    assert refused(shop(zzzzzz=1)) == "run.yaml: zzzzzz: unknown key"
    assert nearest("zzzz", ["title"]) == ""


def test_a_key_of_another_section_is_not_its_own_hint() -> None:
    message = refused(shop(horizon_days=7))
    assert message.startswith("run.yaml: horizon_days: unknown key")
    assert "did you mean 'horizon_days'" not in message


def test_every_problem_is_told_at_once() -> None:
    message = refused(shop(seed="seven", histroy=3))
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": "seven"}, "run.yaml: seed: Input should be a valid integer"),
        ({"seed": "seven"}, "(got 'seven')"),
        ({"history": 0}, "run.yaml: history: Input should be greater than or equal to 1 (got 0)"),
        ({"features": "scores"}, "run.yaml: features: Input should be a valid list (got 'scores')"),
        ({"features": []}, "run.yaml: features: List should have at least 1 item"),
        ({"retrievers": {}}, "run.yaml: retrievers: Dictionary should have at least 1 item"),
        ({"retrievers": {"semantic": None}}, "run.yaml: retrievers.semantic: Input should be a valid dictionary"),
        ({"retrievers": {"Big Name": {}}}, "String should match pattern '^[a-z][a-z0-9_]*$' (got 'Big Name')"),
        ({"rules": {"seen": "hide"}}, "run.yaml: rules.seen: Input should be 'drop' or 'keep' (got 'hide')"),
        ({"evaluation": {"k": []}}, "run.yaml: evaluation.k: List should have at least 1 item"),
        ({"evaluation": {"k": [5, 0]}}, "run.yaml: evaluation.k.1: Input should be greater than or equal to 1"),
        ({"split": {"kind": "by_luck"}}, "run.yaml: split: Input tag 'by_luck'"),
        ({"split": {"kind": "time", "horizon_days": -1}}, "Input should be greater than 0 (got -1)"),
        ({"embedding": {"max_tokens": 9999}}, "run.yaml: embedding.max_tokens: Input should be less than"),
        ({"data": {"catalog": {}, "interactions": {}, "tolerated": 2}}, "data.tolerated: Input should be less than"),
        (
            {"data": {"catalog": {}, "interactions": {"events": {"view": 0}}}},
            "data.interactions.events.view: Input should be greater than 0 (got 0)",
        ),
        ({"data": {"catalog": {}}}, "run.yaml: data.interactions: this key is required"),
        ({"split": {}}, "run.yaml: split: Unable to extract tag"),
    ],
)
def test_a_wrong_value_tells_place_and_value(changes: dict[str, Any], message: str) -> None:
    assert message in refused(shop(**changes))


@pytest.mark.parametrize("key", ["name", "data", "split", "retrievers", "features", "scorer"])
def test_a_required_key(key: str) -> None:
    assert refused({k: v for k, v in SHOP.items() if k != key}) == f"run.yaml: {key}: this key is required"


def test_keys_that_are_no_text() -> None:
    assert "run.yaml: 1" in refused(shop() | {1: 2})  # type: ignore[dict-item]


def test_a_config_cannot_be_changed() -> None:
    config = parse_config(SHOP)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 8  # type: ignore[misc]


def test_a_config_comes_back_from_its_own_json() -> None:
    assert parse_config(full()) == parse_config(SHOP)


# Files


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("name: shop")
    with pytest.raises(ConfigError, match=re.escape(f"does not exist; did you mean {tmp_path / 'shop.yaml'}?")):
        load_config(tmp_path / "shp.yaml")
    with pytest.raises(ConfigError, match=r"nothing-like-it\.yaml does not exist$"):
        load_config(tmp_path / "nothing-like-it.yaml")
    with pytest.raises(ConfigError, match=r"none/shop\.yaml does not exist$"):
        load_config(tmp_path / "none" / "shop.yaml")
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [unclosed", "is not valid YAML: .*line 1"),
        (b"a: b: c", "is not valid YAML"),
        (b"\tname: x", "is not valid YAML"),
        (b"name: \xff\xfe", "is not valid YAML"),
        (b"name: !!python/object/apply:os.system ['touch hacked']", "is not valid YAML"),
        (b"", "must hold a mapping of keys, and holds NoneType"),
        (b"- a\n- b", "must hold a mapping of keys, and holds list"),
        (b"just text", "must hold a mapping of keys, and holds str"),
    ],
)
def test_a_file_that_is_no_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"config {path} ") + message):
        load_config(path)
    assert not (tmp_path / "hacked").exists()


def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = shop(output="${RECSYS_OUT}/a-${RECSYS_RUN}")
    raw["data"] = {"catalog": {"path": ["${RECSYS_OUT}/x", "$HOME/plain"]}, "interactions": {}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("RECSYS_OUT", "/somewhere")
    monkeypatch.delenv("RECSYS_RUN", raising=False)
    with pytest.raises(
        ConfigError,
        match=r"run\.yaml, line \d+: output: the environment variable RECSYS_RUN is not set; try RECSYS_RUN=",
    ):
        load_config(path)
    monkeypatch.setenv("RECSYS_RUN", "7")
    config = load_config(path)
    assert config.folder == Path("/somewhere/a-7/shop")
    assert config.data.catalog.path == ["/somewhere/x", "$HOME/plain"]


LINES = """\
name: shop
data:
  catalog: {source: csv, path: items.csv, colums: {title: name}}
  interactions: {source: csv, path: "${EVENTS}"}
base: &base
  depth: 60
split:
  kind: time
  horizon_days: -1
retrievers:
  semantic:
    depth: 60
    dpeth: 60
  repeat: {depth: many}
features:
  - scores
  - rank
scorer: {kind: mlp, hidden: [32, a]}
embedding:
  max_tokens: ${TOKENS}
"""


def test_every_problem_of_a_file_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS", "events.csv")
    monkeypatch.setenv("TOKENS", "9999")
    path = tmp_path / "run.yaml"

    def problems(text: str) -> list[str]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as raised:
            load_config(path)
        lines = str(raised.value).splitlines()
        assert all(line.startswith(f"{path}, line ") for line in lines)
        return [line.removeprefix(f"{path}, line ") for line in lines]

    found = problems(LINES)
    assert [line.split(" ")[:2] for line in found] == [
        ["20:", "embedding.max_tokens:"], ["9:", "split.time.horizon_days:"], ["5:", "base:"],
    ]  # fmt: skip
    assert found[0].endswith("(got '9999')")
    sound = LINES.replace("-1", "7").replace("base: &base\n  depth: 60\n", "")
    found = problems(sound.replace("${TOKENS}", "64"))
    known = "depth, decay, newest, query, index, search, floor"
    assert found[0] == (
        f"11: retrievers.semantic.dpeth: unknown setting of 'semantic'; did you mean 'depth'? known: {known}"
    )
    assert [line.split(" ")[:2] for line in found[1:]] == [
        ["12:", "retrievers.repeat.depth:"], ["16:", "scorer.hidden.1:"], ["15:", "features.1:"],
        ["3:", "data.catalog.colums:"],
    ]  # fmt: skip
    assert found[-1] == "3: data.catalog.colums: unknown key; did you mean 'columns'?"
    assert problems("name: shop\ndata:\n  catalog: {}\n" + sound[sound.index("split:") :])[0] == (
        "2: data.interactions: this key is required"
    )


@dataclass(frozen=True)
class Delimited:
    """A source with a setting."""

    name: ClassVar[str] = "delimited"
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","


def test_settings_of_a_source_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    add_member(monkeypatch, SOURCES, "delimited", Delimited)

    def data(**settings: Any) -> dict[str, Any]:
        return shop(data=SHOP["data"] | {"catalog": {"source": "delimited", "path": "x"} | settings})

    assert parse_config(data(separator=";")).data.catalog.options == {"separator": ";"}
    assert parse_config(data(separator=";")).model_dump()["data"]["catalog"]["separator"] == ";"
    assert refused(data(seprator=";")) == ("run.yaml: data.catalog.seprator: unknown key; did you mean 'separator'?")
    assert refused(data(separator=";;")).startswith("run.yaml: data.catalog.separator: String should have at most 1")
    assert refused(data(source="parquet", separator=";")).startswith("run.yaml: data.catalog.separator: unknown key")


def test_a_setting_taken_over_from_an_anchor_names_the_line_of_the_anchor(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    raw = yaml.safe_dump(shop(retrievers={}), sort_keys=False).replace("retrievers: {}\n", "")
    path.write_text("retrievers:\n  one: &one {kind: repeat, dept: 3}\n  two: {<<: *one, newest: x}\n" + raw)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert [line.split(": ")[0].rpartition(" ")[2] for line in str(raised.value).splitlines()] == ["2", "2", "3"]


def test_a_key_that_is_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: shop\nretrievers:\n  repeat: {depth: 3}\n  semantic: {}\n  repeat: {depth: 4}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml, line 5: the key 'repeat' is written twice, first in line 3; "):
        load_config(path)


# Families


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"retrievers": {"semantc": {}}},
            "retrievers.semantc: unknown retriever 'semantc'; did you mean 'semantic'? known: ",
        ),
        ({"retrievers": {"a": {"kind": "repeet"}}}, "retrievers.a: unknown retriever 'repeet'; did you mean 'repeat'?"),
        ({"retrievers": {"a": {"kind": None}}}, "retrievers.a: unknown retriever None; known: "),
        ({"retrievers": {"a": {"kind": ["repeat"]}}}, "retrievers.a: unknown retriever ['repeat']"),
        (
            {"retrievers": {"repeat": {"dept": 3}}},
            "retrievers.repeat.dept: unknown setting of 'repeat'; did you mean 'depth'? known: depth, decay, newest",
        ),
        ({"retrievers": {"repeat": {"depth": "all"}}}, "retrievers.repeat.depth: Input should be a valid integer"),
        ({"retrievers": {"semantic": {"query": "x"}}}, "retrievers.semantic.query: Input should be 'pool' or 'text'"),
        ({"scorer": {}}, "scorer: unknown scorer ''; known: "),
        ({"scorer": {"kind": "logistik"}}, "scorer: unknown scorer 'logistik'; did you mean 'logistic'?"),
        ({"scorer": {"kind": "mlp", "hiden": [3]}}, "scorer.hiden: unknown setting of 'mlp'; did you mean 'hidden'?"),
        ({"scorer": {"kind": "mlp", "hidden": ["a"]}}, "scorer.hidden.0: Input should be a valid integer"),
        ({"features": ["scores", "rank"]}, "features.1: unknown feature 'rank'; did you mean 'ranks'? known: scores, "),
        ({"features": ["scores", "due", "scores"]}, "features.2: 'scores' is listed 2 times; once is enough"),
        ({"embedding": {"encoder": "transfomer"}}, "embedding.encoder: unknown encoder 'transfomer'; did you mean "),
        (
            {"data": SHOP["data"] | {"catalog": {"source": "cvs", "path": "x"}}},
            "data.catalog.source: unknown source 'cvs'; did you mean 'csv'? known: ",
        ),
        (
            {"evaluation": {"baselines": ["repeat", "popularty"]}},
            "evaluation.baselines.1: unknown baseline 'popularty'; did you mean 'popularity'? known: popularity, ",
        ),
        (
            {"split": {"kind": "time"}, "data": SHOP["data"] | {"clock": "order"}},
            "split.kind: time needs timestamps, and data.clock is 'order': use leave_last_out",
        ),
        (
            {"split": {"kind": "random"}},
            "split.kind: random forgets when events happened, and data.clock is 'time': use time or leave_last_out, or "
            "set `clock: order` where the times mean nothing",
        ),
        (
            {"features": ["scores", "due"], "data": SHOP["data"] | {"clock": "order"}},
            "features.1: 'due' measures time, and data.clock is 'order': leave it out",
        ),
        (
            {
                "retrievers": {"lately": {"kind": "popularity", "half_life_days": 7}},
                "data": SHOP["data"] | {"clock": "order"},
            },
            "retrievers.lately: 'lately' measures time, and data.clock is 'order': leave it out",
        ),
        (
            {"retrievers": {"texts": {"kind": "semantic", "query": "text"}}},
            "retrievers.texts: query: 'text' needs the encoded texts of users: set embedding.user_text to true",
        ),
        (
            {"features": ["cls_pair"]},
            "features.0: 'cls_pair' needs the encoded texts of users: set embedding.user_text to true",
        ),
    ],
)
def test_an_unknown_member_or_setting(changes: dict[str, Any], message: str) -> None:
    assert f"run.yaml: {message}" in refused(shop(**changes))
    with pytest.raises(ConfigError) as raised:
        check_members(parse_stored_config(shop(**changes), "a bundle"))
    assert message in str(raised.value)


def test_every_problem_of_every_member_is_told_at_once() -> None:
    members = {"semantic": {"dpeth": 3, "dcay": 1}, "repeat": {"depth": "x"}, "repeet": {}}
    message = refused(
        shop(retrievers=members, features=["scores", "rank"], scorer={"kind": "mlp", "hiden": 1, "epochs": "x"})
    )
    assert [line.split(": ")[1] for line in message.splitlines()] == [
        "retrievers.semantic.dpeth", "retrievers.semantic.dcay", "retrievers.repeat.depth", "retrievers.repeet",
        "scorer.hiden", "scorer.epochs", "features.1",
    ]  # fmt: skip


def test_the_seed_of_the_run_is_that_of_retrievers_without_their_own() -> None:
    retrievers = {"tower": {}, "own": {"kind": "tower", "seed": 3}, "repeat": {}}
    built = Plan.of(parse_config(shop(retrievers=retrievers, seed=11))).retrievers
    assert (built["tower"].seed, built["own"].seed) == (11, 3)  # type: ignore[attr-defined]


def test_every_family_can_be_looked_up() -> None:
    assert {kind: bool(family(kind)) for kind in FAMILIES} == dict.fromkeys(FAMILIES, True)


def test_construct_builds_from_settings() -> None:
    built = construct(RETRIEVERS, "covisitation", {"window": 3}, "here")
    assert built == RETRIEVERS["covisitation"](window=3)  # type: ignore[call-arg]


# The configs that ship


@pytest.mark.parametrize("path", CONFIGS, ids=[str(p.relative_to(ROOT / "configs")) for p in CONFIGS])
def test_every_config_that_ships_builds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_DATA", "/data")
    config = load_config(path)
    plan = Plan.of(config)
    assert list(plan.retrievers) == list(config.retrievers)
    assert type(plan.scorer) is SCORERS[config.scorer["kind"]]
    assert set(config.features) <= FEATURES.keys()
    assert len(set(config.features)) == len(config.features)
    assert set(config.evaluation.baselines) <= BASELINES.keys()


def test_the_tests_own_config_builds(tmp_path: Path) -> None:
    assert Plan.of(load_config(write_shop_config(tmp_path, tmp_path))).features
