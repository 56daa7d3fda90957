"""Progress of long work: a function of the stage, the steps done and the steps in all."""

from __future__ import annotations

from collections.abc import Callable


def quiet(stage: str, done: int, total: int) -> None:
    """Show no progress."""


Progress = Callable[[str, int, int], None]


def named(progress: Progress, name: str) -> Progress:
    """Report the stages of one part of a run under the name of the part."""
    return lambda stage, done, total: progress(f"{name}: {stage}", done, total)
