"""The command: prepare data, run what is missing, write the report."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.page import PAGE
from benchmarks.quality.job import Job
from benchmarks.quality.models import RIVALS, TOGETHER, pointless
from benchmarks.quality.report import write
from benchmarks.quality.tasks import TASKS, prepare
from recsys.cli.console import heading, note
from recsys.config import nearest
from recsys.errors import ConfigError, RecsysError

STORE = Path("artifacts/quality")
SPOTS = STORE / "weak_spots.json"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog="Example: python -m benchmarks.quality --tasks beauty --models ease,slist --users 300")
def quality(
    data: Annotated[Path, typer.Option(help="The folder that holds beauty/ and online_retail/.")] = Path(
        "../shared/data"
    ),
    tasks: Annotated[str, typer.Option(help="Which tasks, separated by commas.")] = ",".join(TASKS),
    models: Annotated[str, typer.Option(help="Which models, separated by commas.")] = ",".join(RIVALS),
    budget: Annotated[float, typer.Option(min=0, help="Seconds to tune each model on each task.")] = 60,
    jobs: Annotated[int, typer.Option(min=1, help="Models at a time, which share the cores.")] = 2,
    users: Annotated[int | None, typer.Option(min=1, help="Measure only so many users: a quick look.")] = None,
    again: Annotated[str, typer.Option(help="Models to run again even if they have results.")] = "",
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing, write the report.")] = False,
) -> None:
    """Tune, fit and measure every model on every task, and write docs/benchmarks.md.

    Each model runs in its own process. Results stay in artifacts/quality, and only what is missing is run. The page has
    all results of this budget, and those of `benchmarks.quality.weak_spots`. With --users it is written beside the
    results instead.
    """

    def job_of(task: str, model: str) -> Job:
        return Job(task, model, str(data), str(STORE), budget, users)

    chosen = known_names(models, RIVALS, "--models")
    repeated = known_names(again, RIVALS, "--again")
    wanted: list[Job] = []
    for name in known_names(tasks, TASKS, "--tasks"):
        missing = TASKS[name].missing(data)
        if missing:
            note(f"{name}: left out, {missing} is not there")
            continue
        for model in chosen:
            if reason := pointless(model, TASKS[name].settings(data)):
                note(f"{name}: {model} is left out, {reason}")
                continue
            wanted.append(job_of(name, model))
    failed = [] if report_only else run_all(wanted, repeated, jobs)
    page = PAGE if users is None else STORE / f"{users}_users" / PAGE.name
    limits = f"--budget {budget:g} --jobs {jobs}" + ("" if users is None else f" --users {users}")
    everything = (job_of(task, model) for task in TASKS for model in RIVALS)
    spots = json.loads(SPOTS.read_text(encoding="utf-8")) if SPOTS.exists() else {}
    write(page, [job for job in everything if job.done], f"python -m benchmarks.quality {limits}", spots)
    note(f"The report is in {page}.")
    if failed:
        names = ", ".join(f"{job.model} on {job.task}" for job in failed)
        raise RecsysError(f"{len(failed)} of {len(wanted)} runs failed (see above): {names}")


def known_names(text: str, known: Mapping[str, object], option: str) -> list[str]:
    """Split names at commas. Raises `ConfigError` for one that is not known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ConfigError(f"{option}: unknown name {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    return names


def run_all(wanted: Sequence[Job], repeated: Sequence[str], at_once: int) -> list[Job]:
    """Run the jobs that have no result or are to be repeated; return those that failed."""
    open_jobs = [job for job in wanted if job.model in repeated or not job.done]
    for name in dict.fromkeys(TASKS[job.task].data for job in open_jobs):
        heading(f"Preparing {name}")
        job = next(job for job in open_jobs if TASKS[job.task].data == name)
        prepare(TASKS[job.task], Path(job.data), Path(job.store))
    threads = str(max(1, (os.cpu_count() or 1) // at_once))
    environment = os.environ | dict.fromkeys(THREADS, threads)
    shared: dict[tuple[str, str], list[Job]] = {}
    for job in open_jobs:
        shared.setdefault((job.task, TOGETHER[0] if job.model in TOGETHER else job.model), []).append(job)
    counter = itertools.count(1)

    def one(some: list[Job]) -> None:
        for job in some:
            job.about.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.quality.job", json.dumps([asdict(job) for job in some])]
        subprocess.run(command, env=environment, check=False)
        for job in some:
            outcome = "done" if job.done else "failed"
            note(f"[{next(counter)} of {len(open_jobs)}] {job.task} {job.model}: {outcome}")

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, shared.values()))
    return [job for job in open_jobs if not job.done]
