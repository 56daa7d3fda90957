"""One line of a report on a machine or a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OK, WARN, FAIL = "OK", "WARN", "FAIL"


@dataclass(frozen=True)
class Check:
    """The result of one check: OK, WARN (works, with a limitation to know of) or FAIL."""

    name: str
    status: str
    text: str


@dataclass(frozen=True)
class Finding(Check):
    """A check, with the numbers behind its text."""

    numbers: Mapping[str, Any] = field(default_factory=dict)
