"""One line of a report on a machine or a run."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "OK", "WARN", "FAIL"


@dataclass(frozen=True)
class Check:
    """The result of one check: OK, WARN (works, with a limitation to know of) or FAIL."""

    name: str
    status: str
    text: str
