"""One line a table: rows read, kept, refused and left out, by reason; a warning where much is lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.config import nearest
from recsys.tables.sources.folding import FURTHER_ROW

log = logging.getLogger(__name__)

MUCH = 0.2  # share of the rows of a table from which on leaving them out is a warning
MOST_REASONS = 6
KIND = "event: "
UNKNOWN_ITEM = "item_id: not in the catalogue"
WORD_FOR_MISSING = "a word such as nan or None"


def log_table(table: str, report: Mapping[str, Any], kinds: Sequence[str] = ()) -> None:
    """Log how many rows of a table were read, kept, refused and left out.

    Args:
        table: `catalog` or `interactions`.
        report: Counts by `rows`, `kept`, `refused`, `dropped` (these two by reason) and, of a log, `duplicates`.
        kinds: The kinds of events that the config keeps; the one nearest to a kind left out is named.
    """
    log.info("%s: %s", table, outcome(report))
    for warning in warnings(report, kinds):
        log.warning("%s: %s", table, warning)


def outcome(report: Mapping[str, Any]) -> str:
    """Say what became of a table's rows: `480 rows read, 63 kept; left out: 417 item_id: not in the catalogue`."""
    parts = [f"{report['rows']:,} rows read, {report['kept']:,} kept"]
    if report["refused"]:
        parts.append(f"refused: {_counts(report['refused'])}")
    if report["dropped"]:
        parts.append(f"left out: {_counts(report['dropped'])}")
    if report.get("duplicates"):
        parts.append(f"{report['duplicates']:,} duplicates")
    if unread := report.get("unreadable", {}):
        parts.append("cells that cannot be read, taken as missing: " + _counts(unread))
    return "; ".join(parts)


def warnings(report: Mapping[str, Any], kinds: Sequence[str] = ()) -> list[str]:
    """Say which rules left out a large share of a table's rows, and what may be meant."""
    said = []
    for reason, count in report["dropped"].items():
        share = count / report["rows"]
        similar = _similar_kind(reason, kinds)
        if reason.endswith(FURTHER_ROW) or (share < MUCH and not similar):
            continue
        advice = f"; {similar}" if similar else ""
        if reason == UNKNOWN_ITEM:
            advice = "; check that both tables write item ids alike"
        if reason.endswith(WORD_FOR_MISSING):
            advice = "; to keep them as ids, set `missing: []` under data"
        said.append(f"{count:,} of {report['rows']:,} rows ({share:.0%}) are left out: {reason}{advice}")
    return said


def _similar_kind(reason: str, kinds: Sequence[str]) -> str:
    """What to write where a kind left out is nearly one that is kept; empty where none is."""
    kind = reason.removeprefix(KIND)
    if kind == reason or not kinds:
        return ""
    by_case = {kept.casefold(): kept for kept in kinds}
    near = by_case.get(kind.strip().casefold())
    hint = f"did you mean {near!r}?" if near else nearest(kind, list(kinds)).removeprefix("; ")
    return f"{hint} To keep it, list {kind!r} under data.interactions.events" if hint else ""


def _counts(reasons: Mapping[str, int]) -> str:
    shown = [f"{count:,} {reason}" for reason, count in list(reasons.items())[:MOST_REASONS]]
    more = len(reasons) - MOST_REASONS
    return ", ".join(shown) + (f" and {more} more reasons" if more > 0 else "")
