"""Reading a config: a wrong setting is an error with its file, its line and the nearest known name.

`${NAME}` in any string is replaced by that environment variable. Relative paths count from the folder in which the
command runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import TypeAdapter

from recsys import config_models
from recsys.config_models import (
    CatalogConfig,
    Choice,
    Config,
    DataConfig,
    EmbeddingConfig,
    EvaluationConfig,
    FinetuneConfig,
    InteractionsConfig,
    LeaveLastOut,
    Model,
    Range,
    ReviewsConfig,
    ReviewTableConfig,
    RulesConfig,
    TableConfig,
    TimeSplit,
)
from recsys.errors import ConfigError
from recsys.registry import Problem, SettingError, construct, family, nearest, unknown, validate

if TYPE_CHECKING:
    from recsys.yaml_lines import YamlFile

__all__ = [
    "CatalogConfig",
    "Choice",
    "Config",
    "DataConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "FinetuneConfig",
    "InteractionsConfig",
    "LeaveLastOut",
    "Model",
    "Range",
    "ReviewTableConfig",
    "ReviewsConfig",
    "RulesConfig",
    "TableConfig",
    "TimeSplit",
    "check_members",
    "construct",
    "load_config",
    "nearest",
    "parse_config",
    "parse_stored_config",
    "read_config",
]


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
    if config.data.catalog is not None:
        yield from _source_problems("catalog", config.data.catalog)
    yield from _source_problems("interactions", config.data.interactions)
    for place, one in enumerate(config.finetune.objectives if "finetune" in config.model_fields_set else ()):
        settings = {key: value for key, value in one.items() if key != "kind"}
        try:
            construct(family("objective"), one.get("kind", ""), settings, f"finetune.objectives.{place}")
        except SettingError as error:
            yield from error.problems
    named: list[tuple[tuple[str | int, ...], str, str]] = []
    named += [(("embedding", "encoder"), "encoder", config.embedding.encoder)]
    named += [(("evaluation", "baselines", place), "baseline", name)
              for place, name in enumerate(config.evaluation.baselines)]  # fmt: skip
    for where, kind, name in named:
        if name not in family(kind):
            yield Problem(where, unknown(kind, name, family(kind)))


def _source_problems(section: str, table: TableConfig) -> Iterator[Problem]:
    """Find settings that neither a table nor its source has, and values that the source refuses."""
    path, sources, name = ("data", section), family("source"), table.source
    if name not in sources:
        yield Problem((*path, "source"), unknown("source", name, sources))
        return
    member: Any = sources[name]
    known = (
        [field.name for field in dataclasses.fields(member) if field.init] if dataclasses.is_dataclass(member) else []
    )
    keys = [*type(table).model_fields, *known]
    for key in table.options:
        if key not in known:
            yield Problem((*path, key), f"unknown key{nearest(key, keys)}")
    options = {key: value for key, value in table.options.items() if key in known}
    try:
        construct(sources, name, options, ".".join(path))
    except SettingError as error:
        yield from error.problems


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
    models = [m for m in vars(config_models).values() if inspect.isclass(m) and issubclass(m, Model)]
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
