"""The topics of the page: each a module of this folder with a title, a description, cases, and `run`."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Protocol, cast

from benchmarks.speed.measure import Row
from recsys.cli.console import guarded

TOPICS: tuple[str, ...] = (  # modules of this folder, in the order of the page
    "embedding",
    "one_user",
    "everyone",
    "training",
    "threads",
    "index",
    "reading",
    "start",
)
STORE = Path("artifacts/speed")


class Topic(Protocol):
    """A module. `ABOUT` says what is measured and against what; each of `CASES` runs in its own process."""

    TITLE: str
    ABOUT: str
    CASES: tuple[str, ...]

    def run(self, case: str, data: Path) -> list[Row]:
        """Measure one case; `data` is the folder with the real sets."""


def topic(name: str) -> Topic:
    """Return the module of a topic."""
    return cast(Topic, importlib.import_module(f"benchmarks.speed.{name}"))


def result_of(name: str, case: str) -> Path:
    """Return the file of a case's rows, which exists if the case succeeded."""
    return STORE / name / f"{case}.json"


def main() -> None:
    """Run one case: `python -m benchmarks.speed.topic TOPIC CASE DATA`."""
    name, case, data = sys.argv[1:]
    rows = topic(name).run(case, Path(data))
    result_of(name, case).parent.mkdir(parents=True, exist_ok=True)
    result_of(name, case).write_text(json.dumps([row.as_dict() for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    guarded(main)
