"""Times rivals in turn, and measures memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

MEGABYTE = 2**20


@dataclass(frozen=True)
class Row:
    """One figure of ours beside that of a rival or a limit, both in `unit`.

    `wanted` is what the ratio ours / theirs (or, where there is no rival, ours) should reach, such as `>= 0.85`.
    `size` (items, users or events) is the horizontal axis of the topic's plot; 0 leaves the row out. `ours_mb` and
    `theirs_mb` are the most by which memory grew meanwhile.
    """

    what: str
    ours: float
    unit: str
    rival: str = ""
    theirs: float | None = None
    wanted: str = ""
    size: int = 0
    ours_mb: float | None = None
    theirs_mb: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def figure(self) -> float:
        """The figure that `wanted` refers to."""
        return self.ours if self.ratio is None else self.ratio

    @property
    def reached(self) -> bool | None:
        """Whether the figure is what was wanted; None if nothing was."""
        if not self.wanted:
            return None
        sign, limit = self.wanted.split()[:2]
        return self.figure >= float(limit) if sign == ">=" else self.figure <= float(limit)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def alternately(works: Mapping[str, Callable[[], object]], rounds: int = 5, warm: int = 1) -> dict[str, list[float]]:
    """Time each work once a round, in turn, reversing the order every other round: seconds by name.

    Whatever slows the machine for a while slows all of them. The first `warm` rounds do not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + warm):
        names = list(works)[:: -1 if number % 2 else 1]
        for name in names:
            gc.collect()
            begun = time.perf_counter()
            works[name]()
            if number >= warm:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(values))


def growth_mb(work: Callable[[], object]) -> float:
    """Return the most megabytes by which this process grows while it works (Linux; elsewhere NaN)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again from now
        before = _status("VmRSS")
    except OSError:
        work()
        return float("nan")
    work()
    return (_status("VmHWM") - before) / MEGABYTE


def own_mb() -> float:
    """Return the megabytes of this process without mapped pages of files (Linux)."""
    return _status("RssAnon") / MEGABYTE


def peak_mb() -> float:
    """Return the most megabytes that this process ever had in memory (Linux)."""
    return _status("VmHWM") / MEGABYTE


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
