"""The command line: data on stdout; progress, logs, warnings and errors on stderr."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence

OBJECTS = 100_000  # allocations between two garbage collections: imports make many objects, and all of them stay


def main(args: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    Args:
        args: The arguments. Default: those of the process.

    Raises:
        SystemExit: Always, with one of the exit codes that `--help` lists.
    """
    try:
        gc.set_threshold(OBJECTS)
        # Read when an OpenMP library is loaded: idle threads sleep instead of spinning, which on a busy machine takes
        # the cores from the threads they wait for.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from recsys.cli.interrupt import interruptible

        with interruptible():
            from recsys.cli.app import app
            from recsys.cli.console import guarded

            guarded(lambda: app(args, prog_name="recsys"))
    except KeyboardInterrupt:  # before or after `guarded`, which handles all others
        raise SystemExit(130) from None
