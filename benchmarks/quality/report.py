"""The page: tables of the results that the jobs stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import machine, read_parts, sections, write_part
from benchmarks.quality.full_ranking import evaluator_of, targets_of
from benchmarks.quality.job import MOST_SETTINGS, SEEDS, VALIDATION_USERS, Job, Result
from benchmarks.quality.models import ENGINE, RIVALS, TOGETHER, pointless
from benchmarks.quality.tasks import TASKS, Habit, load, refit_per_cut
from recsys.arrays import BoolArray, IntArray, LongArray
from recsys.errors import DataError
from recsys.evaluation.protocol import Evaluator, Targets
from recsys.evaluation.significance import paired_interval

K, DEEP = 10, 50
Values = NDArray[np.float64]
Table = list[list[str]]

GAPS = {"no history": (-1, -1), "same day": (0, 0), "1–30 days": (1, 30), "over 30 days": (31, None)}
POPULARITY = {"0 events": (0, 0), "1–4": (1, 4), "5–9": (5, 9), "10–49": (10, 49), "50+": (50, None)}
LENGTHS = {"0 events": (0, 0), "1–4": (1, 4), "5–9": (5, 9), "10–19": (10, 19), "20+": (20, None)}

HEAD = """# Benchmarks

How well the engine recommends, compared with other models. `make bench-quality` writes this part of the page, or only
the sections that it was called for; each says when and where it was measured.

- Every model ranks the whole catalogue; items whose score equals the target's count as ranked ahead of it.
- Settings are chosen by ndcg@10 on the validation cut, one holdout before the test, on at most {validation:,} users.
  Each model tries up to {most} settings, and starts another only within the `--budget` of seconds.
- Then the model is fitted again on everything before the test cut: *refitted*. *Train only* is fitted on what came
  before the validation cut, and its queries are the whole histories.
- Models whose training is random run with {seeds} seeds (*train only*: one): figures are means, with the range of
  ndcg@10 in brackets. The seeds of the engine are those of its scorer; the config fixes those of its retrievers.
- The interval is that of `{engine}`'s ndcg@10 less the model's: 95%, paired bootstrap over users, each with the mean
  over the seeds.
- Each model runs in its own process, so seconds and peak memory are its own; fit and ask are the seconds of one seed.
  {together} share a process, its memory, and all but the scorer: the first of them to reach a cut
  fits retrievers and features there, and only its seconds include them.
"""

WEAK_SPOTS = """## Where targets are lost

Shares of all targets, with 95% intervals (bootstrap over users); [data.md](data.md) explains the stages. The last row
leaves out what a rule removed. By `python -m benchmarks.quality.weak_spots --data DIR`, with the engine of each config.

{losses}

## Cold start

Cells are recall@10 / ndcg@10. Users with 5 events or more get lists as if only their newest events were known. A tenth
of the items is new: hidden from everything that learns, and the only targets. By the same command.
"""


@dataclass(frozen=True, eq=False)
class ModelResult:
    """A model's result on a task with the places of its targets, by habit one array a seed."""

    model: str
    result: Result
    places: dict[Habit, list[IntArray]]

    def per_user(self, targets: Targets, metric: str, k: int, habit: Habit) -> Values:
        """One metric of each user `(U,)`, mean over the seeds."""
        return np.mean([_evaluator(targets, one).per_user("", metric, k) for one in self.places[habit]], axis=0)

    def found(self, habit: Habit = "refitted") -> Values:
        """Whether each target is among the first 10 `(P,)`, mean over the seeds."""
        return np.mean([(one >= 0) & (one < K) for one in self.places[habit]], axis=0)


def _evaluator(targets: Targets, places: IntArray) -> Evaluator:
    return evaluator_of(targets, {"": places}, (K, DEEP))


def write(page: Path, jobs: Sequence[Job], command: str, spots: Mapping[str, Any]) -> None:
    """Write the sections of jobs that have results. Other sections of the page stay.

    Args:
        page: The file.
        jobs: The jobs, grouped by task.
        command: The command that ran them, for the page.
        spots: What `weak_spots.py` stored, by data set; may be empty.
    """
    parts = [head(), *(section(name, list(some), command) for name, some in groupby(jobs, key=lambda job: job.task))]
    if spots:
        parts.append(weak_spots(spots))
    written = sections(read_parts(page)[0]) | sections("\n".join(parts))
    if len(written) == 1:
        written[""] += "\n\nThere are no results yet."
    order = ["", *TASKS, *sections(WEAK_SPOTS)]
    write_part(page, "\n\n".join(written[name] for name in dict.fromkeys(order) if name in written), speed=False)


def head() -> str:
    """Return the head of the page: how to read it."""
    return HEAD.format(
        validation=VALIDATION_USERS,
        most=MOST_SETTINGS,
        seeds=len(SEEDS),
        engine=ENGINE,
        together=", ".join(f"`{model}`" for model in TOGETHER),
    )


def section(name: str, jobs: Sequence[Job], command: str) -> str:
    """Return the section of one task: its tables, and what was run, where and when."""
    store = Path(jobs[0].store)
    task = load(name, Path(jobs[0].data), store)
    test = refit_per_cut(task, store)
    targets = targets_of(test, len(task.tables.catalog), task.drop_seen, jobs[0].users, clock="time")
    models = [read_result(job, targets) for job in jobs]
    models.sort(key=lambda one: -one.per_user(targets, "ndcg", K, "refitted").mean())
    recipe = TASKS[name]
    counts = (
        f"{len(targets.users):,} users, {len(targets.keys):,} targets, {len(task.tables.catalog):,} items, "
        f"{len(test.known):,} events before the cut."
    )
    ended = datetime.fromtimestamp(max(job.about.stat().st_mtime for job in jobs), UTC)
    lines = [f"## {name}", "", f"{recipe.about}. {counts}", "",
             f"By `{command}` on {machine()}, {ended:%Y-%m-%d}.", ""]  # fmt: skip
    done = {job.model for job in jobs}
    if left := [model for model in RIVALS if model not in done and not pointless(model, task.config)]:
        lines += [f"Without results here: {', '.join(left)}.", ""]
    for habit in recipe.habits:
        if len(recipe.habits) > 1:
            lines += [f"### {habit.capitalize()}", ""]
        lines += [markdown(quality(models, targets, habit)), ""]
    for title, table in slices(models, targets):
        lines += [f"### {title}", "", markdown(table), ""]
    lines += ["### Settings chosen", "", markdown(settings(models)), ""]
    return "\n".join(lines)


def read_result(job: Job, targets: Targets) -> ModelResult:
    """Read what a job stored. Raises `DataError` if its targets are not those of today's data."""
    result = Result.read(job.about)
    with np.load(job.places) as arrays:
        if not np.array_equal(arrays["keys"], targets.keys):
            raise DataError(
                f"{job.places} holds {len(arrays['keys'])} targets that are not the {len(targets.keys)} of the data: "
                f"the data changed since; run it with --again {job.model}"
            )
        places: dict[Habit, list[IntArray]] = {}
        for test in result.tests:
            places.setdefault(test.habit, []).append(arrays[test.key])
    return ModelResult(job.model, result, places)


def quality(models: Sequence[ModelResult], targets: Targets, habit: Habit) -> Table:
    """The main table."""
    rows = [["model", "recall@10", "ndcg@10", "recall@50", "mrr@10", f"{ENGINE} less model", "tune s", "fit s", "ask s",
             "peak GB", "settings tried"]]  # fmt: skip
    engine = next((one.per_user(targets, "ndcg", K, habit) for one in models if one.model == ENGINE), None)
    for one in models:
        figures = [one.per_user(targets, metric, k, habit)
                   for metric, k in (("recall", K), ("ndcg", K), ("recall", DEEP), ("mrr", K))]  # fmt: skip
        cells = [f"{figure.mean():.4f}" for figure in figures]
        seeds = [_evaluator(targets, places).per_user("", "ndcg", K).mean() for places in one.places[habit]]
        if len(seeds) > 1:
            cells[1] += f" ({min(seeds):.4f}–{max(seeds):.4f})"
        tests = [test for test in one.result.tests if test.habit == habit]
        times = [one.result.tune_seconds, *(np.mean([(t.fit_seconds, t.ask_seconds) for t in tests], axis=0))]
        rows.append([one.model, *cells, _interval(engine, figures[1], one.model), *(f"{s:.0f}" for s in times),
                     f"{one.result.peak_mb / 1024:.1f}", str(len(one.result.trials))])  # fmt: skip
    return rows


def _interval(engine: Values | None, theirs: Values, model: str) -> str:
    if engine is None or model == ENGINE:
        return ""
    return "{mean:+.4f} ({low:+.4f} to {high:+.4f})".format(**paired_interval(engine, theirs, 0))


def slices(models: Sequence[ModelResult], targets: Targets) -> Iterable[tuple[str, Table]]:
    """Return tables of slices of a task, each with its number of targets or users."""
    events = targets.item_events[targets.item]
    if targets.gap_days is not None:
        title = "Recall of targets at 10, by calendar days since the user's event before"
        yield title, _by_target(models, targets.gap_days, GAPS)
    yield "Recall of targets at 10, by the item's events before the cut", _by_target(models, events, POPULARITY)
    ndcg = {one.model: one.per_user(targets, "ndcg", K, "refitted") for one in models}
    yield "ndcg@10, by events in the user's history", _sliced(ndcg, targets.known_events, LENGTHS, "users")


def _by_target(models: Sequence[ModelResult], value: LongArray, spans: dict[str, tuple[int, int | None]]) -> Table:
    return _sliced({one.model: one.found() for one in models}, value, spans, "targets")


def _sliced(figures: dict[str, Values], value: LongArray, spans: dict[str, tuple[int, int | None]], of: str) -> Table:
    masks: dict[str, BoolArray] = {
        name: (value >= low) & (value <= (value.max() if high is None else high)) for name, (low, high) in spans.items()
    }
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    rows = [["model", *masks], [of, *(f"{int(mask.sum()):,}" for mask in masks.values())]]
    for model, figure in figures.items():
        rows.append([model, *(f"{figure[mask].mean():.4f}" for mask in masks.values())])
    return rows


def settings(models: Sequence[ModelResult]) -> Table:
    """Return the table of chosen settings and their figure on validation."""
    rows = [["model", "ndcg@10 on validation", "settings"]]
    for one in models:
        best = max(trial.ndcg for trial in one.result.trials)
        chosen = ", ".join(f"{key} {json.dumps(value)}" for key, value in one.result.chosen.items())
        rows.append([one.model, f"{best:.4f}", chosen or "the usual ones"])
    return rows


def weak_spots(spots: Mapping[str, Any]) -> str:
    """Return the sections on lost targets, cold users and new items; `weak_spots.py` describes `spots`."""
    stages: Table = [["stage", *spots]]
    for stage in next(iter(spots.values()))["losses"]:
        losses = [one["losses"][stage] for one in spots.values()]
        stages.append([stage, *("{share:.1%} ({low:.1%} to {high:.1%})".format(**loss) for loss in losses)])
    stages.append(["targets among the candidates", *(f"{one['candidate_recall']:.1%}" for one in spots.values())])
    lines = [WEAK_SPOTS.format(losses=markdown(stages))]
    for name, one in spots.items():
        counts = ", ".join(f"{count:,} {what}" for what, count in one["counts"].items())
        lines += [f"### Cold start: {name}", "", f"{counts}.", ""]
        lines += [markdown(_cold("what is known of users", one["users"])), ""]
        lines += [markdown(_cold("new items", one["items"])), ""]
    return "\n".join(lines)


def _cold(title: str, figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    models = list(dict.fromkeys(model for row in figures.values() for model in row))
    rows = [[title, *models]]
    for name, row in figures.items():
        rows.append([name, *(" / ".join(f"{value:.4f}" for value in row.get(model, {}).values()) for model in models)])
    return rows


def markdown(rows: Table) -> str:
    """Return a Markdown table. The first row is its head; all columns but the first are right-aligned."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return "\n".join(lines)
