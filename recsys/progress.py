"""Progress of long work: a function of the stage, the steps done and the steps in all."""

from __future__ import annotations

from collections.abc import Callable


def quiet(stage: str, done: int, total: int) -> None:
    """Show no progress."""


Progress = Callable[[str, int, int], None]
