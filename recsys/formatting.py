"""Numbers, times and sizes in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

BARS = " ▁▂▃▄▅▆▇█"


def ago(days: float | None) -> str:
    """Tell how long ago something was: `today`, `5 days ago`, `3 months ago`."""
    if days is None:
        return "some time ago"
    if days < 1:
        return "within a day"
    if days < 60:
        return f"{plural(round(days), 'day')} ago"
    return f"{round(days / 30.44)} months ago"


def left(seconds: float) -> str:
    """Tell how long something will go on: `about 40 s left`, `about 3 min left`."""
    return f"about {seconds / 60:,.0f} min left" if seconds >= 100 else f"about {seconds:,.0f} s left"


def percent(probability: float | None) -> str:
    """Tell a probability: `31%`, `2.4%`, `<0.1%`; nothing for None."""
    if probability is None:
        return ""
    if probability < 0.001:
        return "<0.1%"
    return f"{probability:.0%}" if probability >= 0.0995 else f"{probability:.1%}"


def plural(count: int, noun: str) -> str:
    """Put a number before a noun: `1 user`, `2,467 users`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def moment(time: int, clock: str) -> str:
    """Tell a stored time: a date, or the plain number where it only orders events."""
    return str(time) if clock == "order" else f"{datetime.fromtimestamp(time / 1_000_000, UTC):%Y-%m-%d}"


def instant(time: int, clock: str) -> str | int:
    """Give a stored time to a program: ISO 8601, or the plain number where it only orders events."""
    return time if clock == "order" else datetime.fromtimestamp(time / 1_000_000, UTC).isoformat()


def counted(reasons: Mapping[str, int]) -> str:
    """List reasons with their counts: `19,774 not a product, 8,869 quantity: zero`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "none"


def size(count: float) -> str:
    """Tell a number of bytes."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def values(column: Mapping[str, Any]) -> str:
    """The most common values of a column with their counts, or examples where no value comes twice."""
    common = [f"{one['value']} ({one['count']:,})" for one in column["most_common"]]
    return " · ".join(common or column["examples"])


def spread(histogram: Mapping[str, Any]) -> str:
    """A histogram in one line: its bars between its ends, in the unit of what was counted."""
    if not histogram:
        return ""
    counts, (low, *_, high) = histogram["counts"], histogram["edges"]
    most = max(counts)
    bars = "".join(BARS[0 if not count else 1 + round((len(BARS) - 2) * count / most)] for count in counts)
    ends = [_end(value, histogram["of"]) for value in (low, high)]
    unit = {"letters": " letters", "entries": " entries"}.get(histogram["of"], "")
    return f"{ends[0]} {bars} {ends[1]}{unit}" if ends[0] != ends[1] else f"{ends[0]}{unit}"


def _end(value: float, of: str) -> str:
    return moment(int(value) * 1_000_000, "time") if of == "seconds" else f"{value:.4g}"
