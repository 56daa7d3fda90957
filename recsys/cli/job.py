"""What the files in `pipelines/` share: one stage as a process, with the exit codes of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from recsys.cli.console import guarded, progress, show_json
from recsys.config import load_config


def job(stage: Callable[..., Mapping[str, Any]], about: str | None,
        add_options: Callable[[argparse.ArgumentParser], None] | None = None) -> None:  # fmt: skip
    """Run a stage on the config that the command line names, and print its summary as one line of JSON on stdout.

    Args:
        stage: Called with the config and a progress; with `add_options` also with the parsed arguments.
        about: What the job does.
        add_options: Adds the options of this job to its command line.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("config", help="the YAML of the run, such as configs/demo.yaml")
    if add_options is not None:
        add_options(parser)

    def work() -> None:
        arguments = parser.parse_args()
        config = load_config(arguments.config)
        with progress() as report:
            summary = stage(config, report, *([] if add_options is None else [arguments]))
        show_json(summary, indent=None)

    guarded(work)
