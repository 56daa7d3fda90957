"""Progress where nobody looks at a bar: lines on stderr, at most one in ten seconds, with the time that is left."""

from __future__ import annotations

import logging

import pytest

from recsys.cli import console
from recsys.formatting import left
from recsys.progress import named


def test_lines_say_what_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    caplog.set_level(logging.INFO, "recsys")
    with console.progress() as report:
        for second in range(0, 41):
            now = 100.0 + second
            report("candidates", 10 * second, 1_000)
    assert [record.getMessage() for record in caplog.records] == [
        "candidates: 100 of 1,000, about 90 s left",
        "candidates: 200 of 1,000, about 80 s left",
        "candidates: 300 of 1,000, about 70 s left",
        "candidates: 400 of 1,000, about 60 s left",
    ]


def test_a_stage_without_a_pace_says_no_time(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    caplog.set_level(logging.INFO, "recsys")
    with console.progress() as report:
        report("fit", 0, 1)
        now = 160.0
        report("fit", 1, 1)
        now = 175.0
        report("next", 5, 10)
    assert [record.getMessage() for record in caplog.records] == ["fit: 1 of 1", "next: 5 of 10"]


def test_a_part_has_its_name_before_its_stages() -> None:
    steps: list[tuple[str, int, int]] = []
    named(lambda *step: steps.append(step), "for the probabilities")("scorer", 3, 80)
    assert steps == [("for the probabilities: scorer", 3, 80)]


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.4, "about 4 s left"), (99, "about 99 s left"), (200, "about 3 min left")]
)
def test_time_left_in_words(seconds: float, said: str) -> None:
    assert left(seconds) == said
