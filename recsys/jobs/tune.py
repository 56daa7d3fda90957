"""Choose a config's settings on validation data within a budget; the test events are cut off before anything else."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from recsys.config import Config, Range, parse_config, read_config
from recsys.engine.embeddings import Embeddings, embed
from recsys.engine.plan import Plan
from recsys.engine.training import Fitter, fit
from recsys.errors import ConfigError, RecsysError
from recsys.evaluation.significance import paired_interval
from recsys.extras import require
from recsys.jobs.cuts import judged_cut
from recsys.jobs.evaluate import ENGINE, judge
from recsys.jobs.ingest import ingest
from recsys.jobs.search_space import Space, settings_of
from recsys.progress import Progress, quiet
from recsys.retrieval.base import Arrays, Fitted, Retriever
from recsys.storage import atomic
from recsys.tables.split import Fold, holdout
from recsys.types import State

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

K = 10
METRIC = f"ndcg@{K}"
JUDGED_USERS = 4_000
TRAIN_USERS = 10_000
BUDGET_SECONDS = 600.0
RANDOM_TRIALS = 3
CACHE_BYTES = 1 << 30


def changed(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's mapping with changes by dotted path; `raw` itself stays as it is."""
    raw = dict(raw)
    for path, value in changes.items():
        inner = raw
        *sections, key = path.split(".")
        for section in sections:
            inner[section] = dict(inner[section])
            inner = inner[section]
        inner[key] = value
    return raw


class FitCache:
    """A fitter that learns each statistic once a cut: settings that act only at query time need no other fit.

    Holds at most `CACHE_BYTES` of arrays and drops the least recently used first.
    """

    def __init__(self) -> None:
        self._arrays: OrderedDict[tuple[Any, ...], Arrays] = OrderedDict()

    def __call__(self, retriever: Retriever, state: State) -> Fitted:
        """Fit, or restore from an earlier fit with the same learning settings at the same cut."""
        ranged = {setting.path for setting in settings_of("", retriever) if isinstance(setting.span, Range)}
        learning = [(f.name, repr(getattr(retriever, f.name))) for f in fields(retriever) if f.name not in ranged]
        # Not the count of the events: a cut with hidden items may have as many as an earlier one without.
        key = (type(retriever), *learning, zlib.crc32(state.interactions.item.tobytes()))
        if key in self._arrays:
            self._arrays.move_to_end(key)
            return retriever.restore(self._arrays[key], state.vectors)
        fitted = retriever.fit(state)
        self._arrays[key] = fitted.arrays()
        while sum(a.nbytes for arrays in self._arrays.values() for a in arrays.values()) > CACHE_BYTES:
            self._arrays.popitem(last=False)
        return fitted


@dataclass(frozen=True)
class Trial:
    """One config that was tried: what it changed, and its validation ndcg@10 or why there is none."""

    changes: dict[str, Any]
    seconds: float
    ndcg: float | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {METRIC: self.ndcg, "seconds": self.seconds, "changes": self.changes, "error": self.error}


@dataclass(frozen=True)
class Tuned:
    """The result of tuning.

    Attributes:
        config: The chosen config.
        trials: Every trial in order; the first is the config as it stood.
        chosen: The place of the best trial.
        before: What the config held at each path that a trial changed.
        difference: The paired bootstrap interval (95%) of the chosen trial's ndcg@10 less the start's. As the best of
            many trials it is too favourable.
        users: How many users were judged.
        seconds: How long the trials took.
        budget_seconds: How long they were allowed to take.
    """

    config: Config
    trials: list[Trial]
    chosen: int
    before: dict[str, Any]
    difference: dict[str, float]
    users: int
    seconds: float
    budget_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: what `tuning.json` holds."""
        best = self.trials[self.chosen]
        return {
            "name": self.config.name,
            "users": self.users,
            "seconds": self.seconds,
            "budget_seconds": self.budget_seconds,
            "start": {METRIC: self.trials[0].ndcg},
            "chosen": {"trial": self.chosen, METRIC: best.ndcg, "changes": best.changes},
            "before": self.before,
            "difference": self.difference,
            "trials": [{"trial": number} | trial.to_dict() for number, trial in enumerate(self.trials)],
        }

    def write(self, original: Path, out: Path) -> None:
        """Write the YAML file `original` with the chosen settings, its `${NAME}` as they stand; comments are lost."""
        start, best, gap = self.trials[0], self.trials[self.chosen], self.difference
        text = yaml.safe_dump(changed(read_config(original), best.changes), sort_keys=False, allow_unicode=True)
        head = f"""\
# {original.name}, tuned on {datetime.now(UTC):%Y-%m-%d} by {len(self.trials)} trials in {self.seconds:.0f} seconds \
(budget {self.budget_seconds:.0f}).
# Validation {METRIC}, {self.users:,} users: {start.ndcg:.4f} before, {best.ndcg:.4f} after; \
95% interval of the difference {gap["low"]:+.4f} to {gap["high"]:+.4f}.
# The best of many trials looks better than it is. Changed: {", ".join(best.changes) or "nothing"}.
"""
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(out, head + text)


def tune(config: Config, budget_seconds: float = BUDGET_SECONDS, progress: Progress = quiet, *,
         trials: int | None = None) -> Tuned:  # fmt: skip
    """Search settings on the validation cut.

    The first trial is the config as it stands, so the choice is never worse on validation. Each trial learns from at
    most `TRAIN_USERS` users a cut and is judged on one sample of at most `JUDGED_USERS` users, by the same code as
    `evaluate`. `tuning.json` in `config.folder` reports every trial. The sampler is optuna's TPE (Bergstra et al.
    2011), seeded by `config.seed`.

    Args:
        config: The run.
        budget_seconds: No trial begins that would end after so many seconds, at the mean of those before. Reading and
            encoding come on top.
        progress: Shows progress.
        trials: How many trials at most; None for as many as the budget allows.

    Returns:
        The chosen config, every trial, and the gain.

    Raises:
        ConfigError: the budget or the number of trials is not positive, or optuna is not installed.
        RecsysError: what the first trial raises. A later trial that raises one is reported as failed.
    """
    study = _study(config.seed)
    if not budget_seconds > 0:
        raise ConfigError(f"the tuning budget must be more than 0 seconds, and is {budget_seconds:g}: try 600")
    if trials is not None and trials < 1:
        raise ConfigError(
            f"tuning needs at least 1 trial, and is allowed {trials}: the first is the config as it stands"
        )
    tables = ingest(config, progress)
    judged_cut(Plan.of(config), tables, validation=True)
    embeddings = embed(config.embedding, tables.catalog, config.vector_folder)
    bench = Bench.of(config, holdout(tables.interactions, config.split), embeddings)
    space = Space.of(config)
    study.enqueue_trial(space.start)
    done: list[Trial] = []
    began, spent = time.monotonic(), 0.0
    while not done or (len(done) != trials and spent + spent / len(done) <= budget_seconds):
        asked = study.ask()
        trial, values = bench.attempt(config, space.suggest(asked))
        if not done:
            start = best = values
            chosen = 0
        elif trial.ndcg is not None and trial.ndcg > best.mean():
            best, chosen = values, len(done)
        done.append(trial)
        study.tell(asked, trial.ndcg, state=_state(failed=trial.ndcg is None))
        spent = time.monotonic() - began
        outcome = trial.error or f"{METRIC} {trial.ndcg:.4f}"
        log.info("trial %d: %s; best %.4f (trial %d)", len(done) - 1, outcome, best.mean(), chosen)
        progress("tuning, seconds", min(round(spent), round(budget_seconds)), round(budget_seconds))
    tuned = Tuned(
        config=parse_config(changed(config.model_dump(mode="json"), done[chosen].changes)),
        trials=done,
        chosen=chosen,
        before={path: space.before[path] for trial in done for path in trial.changes},
        difference=paired_interval(best, start, config.seed),
        users=len(start),
        seconds=round(spent, 1),
        budget_seconds=budget_seconds,
    )
    atomic.write(config.folder / "tuning.json", json.dumps(tuned.to_dict(), indent=1))
    return tuned


@dataclass(frozen=True)
class Bench:
    """What all trials share: the validation cut with its sample of users, the item vectors, and earlier fits."""

    fold: Fold
    embeddings: Embeddings
    fitter: Fitter = field(default_factory=FitCache)

    @classmethod
    def of(cls, config: Config, test: Fold, embeddings: Embeddings) -> Bench:
        """Cut once before the test cut, and sample the users."""
        fold = holdout(test.known, config.split, test.as_of)
        users = fold.labelled_users
        if len(users) > JUDGED_USERS:
            users = np.random.default_rng(config.seed).choice(users, JUDGED_USERS, replace=False)
            fold = replace(fold, labels=fold.labels.take(np.isin(fold.labels.user, users)))
        return cls(fold, embeddings)

    def attempt(self, config: Config, changes: dict[str, Any]) -> tuple[Trial, NDArray[np.float64]]:
        """Try a config with changes; return the trial, and the values of its users where it did not fail.

        Raises:
            RecsysError: what the config raises without changes.
        """
        began = time.monotonic()
        try:
            values = self.judge(parse_config(changed(config.model_dump(mode="json"), changes)))
        except RecsysError as error:
            if not changes:
                raise
            return Trial(changes, round(time.monotonic() - began, 2), error=str(error)), np.zeros(0)
        return Trial(changes, round(time.monotonic() - began, 2), float(values.mean())), values

    def judge(self, config: Config) -> NDArray[np.float64]:
        """Fit a config and return its ndcg@10 for each user `(U,)`."""
        evaluation = config.evaluation.model_copy(update={"k": [K], "baselines": []})
        fewer = min(config.train_users, TRAIN_USERS)
        plan = Plan.of(config.model_copy(update={"train_users": fewer}))
        model = fit(plan, self.fold.known, self.embeddings, self.fold.as_of, fitter=self.fitter)
        evaluator = judge(evaluation, config.data.clock, self.fold, self.embeddings, model)
        return evaluator.per_user(ENGINE, "ndcg", K)


def _study(seed: int) -> optuna.Study:
    require("tune", "tuning")
    require("train", "tuning")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The start is a good guess already, so few trials are random.
    sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _state(failed: bool) -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    return TrialState.FAIL if failed else TrialState.COMPLETE
