"""The command line: data on stdout; progress, logs, warnings and errors on stderr."""

from __future__ import annotations

import gc
from collections.abc import Sequence

OBJECTS = 100_000  # between two looks for garbage: importing makes many objects, and all of them stay


def main(args: Sequence[str] | None = None) -> None:
    """Run one command, by default that of the process. Ends in `SystemExit` with one of the exit codes in `--help`."""
    gc.set_threshold(OBJECTS)
    from recsys.cli.app import app
    from recsys.cli.console import guarded

    guarded(lambda: app(args, prog_name="recsys"))
