"""The search space of tuning: every setting of a config that carries a `Range` or a `Choice`.

How far a setting may move stands in the annotation of its field: of the config, of a retriever or of a scorer. At most
one feature is left out at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from recsys.config import Choice, Config, Range
from recsys.engine.plan import Plan
from recsys.ranking.scorers.base import is_ready
from recsys.ranking.scorers.registry import SCORERS

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Setting:
    """One dimension of the search: a place in the config, what it holds now, and where it may go."""

    path: str
    start: Any
    span: Range | Choice

    @property
    def point(self) -> Any:
        """The value of this dimension at the start."""
        return 0 if isinstance(self.span, Choice) else self.start

    def suggest(self, trial: optuna.Trial) -> Any:
        """Let a trial suggest a value, rounded to what a person would write."""
        if isinstance(self.span, Choice):
            return self.span.values[trial.suggest_categorical(self.path, range(len(self.span.values)))]
        low, high, as_log = self.span.low, self.span.high, self.span.log
        if isinstance(self.start, int):
            return trial.suggest_int(self.path, math.ceil(low), math.floor(high), log=as_log)
        value = trial.suggest_float(self.path, low, high, log=as_log)
        return value if value == self.start else float(f"{value:.3g}")


def settings_of(place: str, member: Any) -> list[Setting]:
    """List the settings of a built member (or section of the config) that tuning may move."""
    found = []
    for name, hint in get_type_hints(type(member), include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            start = getattr(member, name)
            if isinstance(mark, Range | Choice) and start is not None:
                found += _setting(f"{place}.{name}".lstrip("."), start, mark)
    return found


def _setting(path: str, start: Any, mark: Range | Choice) -> list[Setting]:
    """The setting with its start first among the choices, or with absolute bounds; nothing where it cannot move."""
    if isinstance(mark, Choice):
        start, *values = [list(value) if isinstance(value, tuple) else value for value in (start, *mark.values)]
        return [Setting(path, start, Choice((start, *(value for value in values if value != start))))]
    low, high = (mark.low * start, mark.high * start) if mark.relative else (mark.low, mark.high)
    return [Setting(path, start, Range(low, high, mark.log))] if low <= start <= high and low < high else []


@dataclass(frozen=True)
class Space:
    """Everything that may move for one config. `scorers` holds the settings of each scorer that has any."""

    config: Config
    settings: list[Setting]
    scorers: dict[str, list[Setting]]

    @classmethod
    def of(cls, config: Config) -> Space:
        """Derive the space from a config and the members that it names."""
        plan = Plan.of(config)
        settings = settings_of("", config) + settings_of("split", config.split)
        for name, retriever in plan.retrievers.items():
            settings += settings_of(f"retrievers.{name}", retriever)
        names = config.features
        if len(names) > 1:
            fewer = tuple([other for other in names if other != name] for name in names)
            settings.append(Setting("features", names, Choice((names, *fewer))))
        kind = config.scorer["kind"]
        ready = {name: member() for name, member in SCORERS.items() if is_ready(member())}
        members = ready | {kind: plan.scorer}
        scorers = {name: settings_of(f"scorer.{name}", member) for name, member in members.items()}
        return cls(config, settings, {name: found for name, found in scorers.items() if found or name == kind})

    @property
    def kind(self) -> str:
        """The configured scorer."""
        return str(self.config.scorer["kind"])

    @property
    def start(self) -> dict[str, Any]:
        """The suggestions that give the config as it stands."""
        moving = self.settings + self.scorers[self.kind]
        return {setting.path: setting.point for setting in moving} | {"scorer": self.kind}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Let a trial suggest a point; return what it changes in the config, by dotted path."""
        suggested = [(setting, setting.suggest(trial)) for setting in self.settings]
        changes = {setting.path: value for setting, value in suggested if value != setting.start}
        kind = trial.suggest_categorical("scorer", list(self.scorers))
        own = [(setting, setting.suggest(trial)) for setting in self.scorers[kind]]
        scorer = {setting.path.rpartition(".")[2]: value for setting, value in own
                  if kind != self.kind or value != setting.start}  # fmt: skip
        if kind != self.kind:
            return changes | {"scorer": {"kind": kind} | scorer}
        return changes | {f"scorer.{name}": value for name, value in scorer.items()}

    @property
    def before(self) -> dict[str, Any]:
        """What the config as it stands holds at each path that `suggest` may change."""
        own = {f"scorer.{setting.path.rpartition('.')[2]}": setting.start for setting in self.scorers[self.kind]}
        return {setting.path: setting.start for setting in self.settings} | own | {"scorer": self.config.scorer}
