"""What a topic of the page is: a module of this folder with a title, a few words, cases, and `run`."""

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
    "start",
)
STORE = Path("artifacts/speed")


class Topic(Protocol):
    """A module. `ABOUT` says what is measured and against what; `CASES` run each in a process of their own."""

    TITLE: str
    ABOUT: str
    CASES: tuple[str, ...]

    def run(self, case: str, data: Path) -> list[Row]:
        """Measure one case; `data` is the folder with the real sets."""


def topic(name: str) -> Topic:
    """The module of a topic."""
    return cast(Topic, importlib.import_module(f"benchmarks.speed.{name}"))


def result_of(name: str, case: str) -> Path:
    """Where a case's rows lie; written when it ended well."""
    return STORE / name / f"{case}.json"


def main() -> None:
    """Run one case: `python -m benchmarks.speed.topic TOPIC CASE DATA`."""
    name, case, data = sys.argv[1:]
    rows = topic(name).run(case, Path(data))
    result_of(name, case).parent.mkdir(parents=True, exist_ok=True)
    result_of(name, case).write_text(json.dumps([row.as_dict() for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    guarded(main)
