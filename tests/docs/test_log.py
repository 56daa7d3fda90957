"""The log keeps its form: newest first, one heading an entry, three paragraphs, a table of contents."""

from __future__ import annotations

import re
from pathlib import Path

LOG = (Path(__file__).resolve().parents[2] / "docs" / "log.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^## (\d{4}-\d\d-\d\d) · ([^·\n]+) · ([^·\n]+)$", re.MULTILINE)


def test_entries_have_setup_result_and_decision() -> None:
    entries = re.split(r"^## ", LOG, flags=re.MULTILINE)[1:]
    assert len(entries) == len(HEADING.findall(LOG))
    for entry in entries:
        places = [entry.find(f"\n**{part}.** ") for part in ("Setup", "Result", "Decision")]
        places[1] = entry.find("\n**Result.**")  # a table may follow at once
        assert -1 not in places, entry.splitlines()[0]
        assert places == sorted(places), entry.splitlines()[0]


def test_newest_come_first() -> None:
    dates = [date for date, _, _ in HEADING.findall(LOG)]
    assert dates == sorted(dates, reverse=True)


def test_the_table_of_contents_lists_every_entry_in_order() -> None:
    listed = re.findall(r"^\| (\d{4}-\d\d-\d\d) \| \[(.+?)\]\(#\S+\) \| (.+?) \|$", LOG, re.MULTILINE)
    assert listed == HEADING.findall(LOG)
