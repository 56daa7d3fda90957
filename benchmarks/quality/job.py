"""One model on one task: tuned on validation, refitted, measured on the test cut.

`run.py` starts it in its own process. By hand: `python -m benchmarks.quality.job '[{"model": "ease", …}]'`. The
engine and other scorers on its features are several jobs of one process, which share all but the scorer.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.full_ranking import evaluator_of, rank_targets, targets_of
from benchmarks.quality.models import RIVALS
from benchmarks.quality.protocols import Rival, Task
from benchmarks.quality.tasks import TASKS, Habit, cuts, load
from recsys.cli.console import guarded, note
from recsys.tables.split import Fold

MOST_SETTINGS = 8
VALIDATION_USERS = 5_000
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Job:
    """What to run. `users` limits how many are measured, for a quick look; `budget` is in seconds."""

    task: str
    model: str
    data: str
    store: str
    budget: float
    users: int | None = None

    @property
    def folder(self) -> Path:
        """The folder of the task's results; quick looks have their own."""
        return Path(self.store) / ("all" if self.users is None else f"{self.users}_users") / self.task

    @property
    def about(self) -> Path:
        """The file of the figures. It is written last, so it exists only if the job succeeded."""
        return self.folder / f"{self.model}.json"

    @property
    def done(self) -> bool:
        """Whether there is a result of this very budget."""
        return self.about.is_file() and Result.read(self.about).budget == self.budget

    @property
    def places(self) -> Path:
        """The file of the targets and the place of each, one array a habit and seed."""
        return self.folder / f"{self.model}.npz"


@dataclass(frozen=True)
class Trial:
    """A setting tried on validation."""

    settings: dict[str, Any]
    ndcg: float
    seconds: float


@dataclass(frozen=True)
class Test:
    """The chosen setting under one habit with one seed."""

    habit: Habit
    seed: int
    fit_seconds: float
    ask_seconds: float

    @property
    def key(self) -> str:
        """The name of its array of places."""
        return f"{self.habit}, seed {self.seed}"


@dataclass
class Result:
    """What a job stores beside the places: settings tried and chosen, seconds, and peak memory in MB."""

    budget: float
    trials: list[Trial] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)
    tests: list[Test] = field(default_factory=list)
    tune_seconds: float = 0.0
    peak_mb: float = 0.0

    @classmethod
    def read(cls, file: Path) -> Result:
        """Read a result as `run` wrote it."""
        raw = json.loads(file.read_text(encoding="utf-8"))
        raw |= {"trials": [Trial(**one) for one in raw["trials"]], "tests": [Test(**one) for one in raw["tests"]]}
        return cls(**raw)


def tune(rival: type[Rival], task: Task, fold: Fold, users: int, budget: float) -> list[Trial]:
    """Try settings in order on a sample of users while the budget lasts, the first in any case."""
    targets = targets_of(fold, len(task.tables.catalog), task.drop_seen, users)
    started = time.monotonic()
    trials: list[Trial] = []
    for settings in rival.grid[:MOST_SETTINGS]:
        if trials and time.monotonic() - started > budget:
            break
        begun = time.monotonic()
        fitted = rival(**settings).fit(task, fold, SEEDS[0])
        places = rank_targets(fitted, fold, targets, task.drop_seen)
        figure = float(evaluator_of(targets, {"": places}).per_user("", "ndcg", 10).mean())
        trials.append(Trial(settings, figure, round(time.monotonic() - begun, 2)))
        note(f"{task.name} {rival.__name__} {settings}: {figure:.4f} in {trials[-1].seconds:.0f} s")
    return trials


def run(job: Job) -> None:
    """Run a job and write both files."""
    task, rival = load(job.task, Path(job.data), Path(job.store)), RIVALS[job.model]
    validation, test = cuts(task)
    result = Result(job.budget)
    started = time.monotonic()
    result.trials = tune(rival, task, validation, min(VALIDATION_USERS, job.users or VALIDATION_USERS), job.budget)
    result.tune_seconds = round(time.monotonic() - started, 2)
    result.chosen = max(result.trials, key=lambda trial: trial.ndcg).settings
    targets = targets_of(test, len(task.tables.catalog), task.drop_seen, job.users)
    known_by_habit: dict[Habit, Fold] = {"refitted": test, "train only": validation}
    arrays: dict[str, Any] = {"keys": targets.keys, "users": targets.users}
    for habit in TASKS[job.task].habits:
        for seed in SEEDS if rival.random and habit == "refitted" else SEEDS[:1]:
            begun = time.monotonic()
            fitted = rival(**result.chosen).fit(task, known_by_habit[habit], seed)
            fitted_at = time.monotonic()
            found = rank_targets(fitted, test, targets, task.drop_seen)
            result.tests.append(Test(habit, seed, round(fitted_at - begun, 2), round(time.monotonic() - fitted_at, 2)))
            arrays[result.tests[-1].key] = found
            note(f"{task.name} {job.model}, {result.tests[-1].key}: fitted in {fitted_at - begun:.0f} s")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    result.peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    job.folder.mkdir(parents=True, exist_ok=True)
    np.savez(job.places, **arrays)
    job.about.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")


def main() -> None:
    """Run the jobs of the first argument in turn."""
    for job in json.loads(sys.argv[1]):
        run(Job(**job))


if __name__ == "__main__":
    guarded(main)
