"""What the files in `pipelines/` share: one stage as a process, with the exit codes of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from recsys.cli.console import guarded, progress, show_json
from recsys.config import Config, load_config
from recsys.progress import Progress


def job(stage: Callable[[Config, Progress], Mapping[str, Any]], about: str | None) -> None:
    """Run a stage on the config that the command line names, and print its summary as one line of JSON on stdout."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("config", help="the YAML of the run, such as configs/demo.yaml")

    def work() -> None:
        config = load_config(parser.parse_args().config)
        with progress() as report:
            summary = stage(config, report)
        show_json(summary, indent=None)

    guarded(work)
