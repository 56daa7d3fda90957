"""The command: run what is missing, one case after the other, and write the page."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.speed.report import write
from benchmarks.speed.topic import TOPICS, result_of, topic
from recsys.cli.console import heading, note
from recsys.config import nearest
from recsys.errors import ConfigError, RecsysError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog="Example: python -m benchmarks.speed --topics one_user,start --cases 10k")
def speed(
    data: Annotated[Path, typer.Option(help="The folder that holds the real sets.")] = Path("../shared/data"),
    topics: Annotated[str, typer.Option(help="Which topics, separated by commas.")] = ",".join(TOPICS),
    cases: Annotated[str, typer.Option(help="Only cases whose names start so, separated by commas.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Also run cases that have results.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing, write the page.")] = False,
) -> None:
    """Measure speed and memory against rivals and limits, and write the second part of docs/benchmarks.md.

    Cases run in turn, each in its own process; run nothing else meanwhile. Results stay in artifacts/speed, and only
    what is missing is run.
    """
    failed = []
    for name in [part.strip() for part in topics.split(",") if part.strip()]:
        if name not in TOPICS:
            raise ConfigError(
                f"--topics: unknown name {name!r}{nearest(name, list(TOPICS))}; known: {', '.join(TOPICS)}"
            )
        for case in topic(name).CASES:
            skipped = report_only or (cases and not case.startswith(tuple(cases.split(","))))
            if skipped or (result_of(name, case).exists() and not again):
                continue
            heading(f"{name}: {case}")
            begun = time.monotonic()
            result_of(name, case).unlink(missing_ok=True)
            subprocess.run([sys.executable, "-m", "benchmarks.speed.topic", name, case, str(data)], check=False)
            if not result_of(name, case).exists():
                failed.append(f"{name} {case}")
            note(f"{'failed' if failed and failed[-1] == f'{name} {case}' else 'done'} "
                 f"in {time.monotonic() - begun:.0f} s")  # fmt: skip
    note(f"The page is {write()}.")
    if failed:
        raise RecsysError(f"{len(failed)} cases failed (see above): {', '.join(failed)}")
