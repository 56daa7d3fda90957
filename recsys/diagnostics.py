"""One line of a report on a machine or a run."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "OK", "WARN", "FAIL"


@dataclass(frozen=True)
class Check:
    """What was looked at and how it stands: OK, WARN (works, but know this) or FAIL."""

    name: str
    status: str
    text: str
