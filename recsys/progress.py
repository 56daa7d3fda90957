"""Progress of long work: who reports it and who shows it agree on one function."""

from __future__ import annotations

from collections.abc import Callable


def quiet(stage: str, done: int, total: int) -> None:
    """Show no progress."""


Progress = Callable[[str, int, int], None]
