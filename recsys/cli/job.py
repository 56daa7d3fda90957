"""What the files in `pipelines/` share: one stage as a process, with the exit codes of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from recsys.cli.console import guarded, progress, show_json
from recsys.config import load_config


def job(stage: Callable[..., Mapping[str, Any]], about: str | None, **options: str) -> None:
    """Run a stage on the config that the command line names, and print its summary as one line of JSON on stdout.

    Args:
        stage: Called with the config, a `Progress`, and the options that were given, as keywords.
        about: The help text.
        options: Options of this stage and what they mean.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("config", help="the YAML of the run, such as configs/demo.yaml")
    for name, meaning in options.items():
        parser.add_argument(f"--{name}", help=meaning)

    def work() -> None:
        given = vars(parser.parse_args())
        config = load_config(given.pop("config"))
        with progress() as report:
            summary = stage(config, report, **given)
        show_json(summary, indent=None)

    guarded(work)
