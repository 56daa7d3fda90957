"""The command line: data on stdout; progress, logs, warnings and errors on stderr."""

from __future__ import annotations

from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run one command, by default that of the process. Ends in `SystemExit` with one of the exit codes in `--help`."""
    from recsys.cli.app import app
    from recsys.cli.console import guarded

    guarded(lambda: app(args, prog_name="recsys"))
