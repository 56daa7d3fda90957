"""The harness of benchmarks/speed: what it reports is what was measured."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import pytest

from benchmarks import page
from benchmarks.speed import measure, reading, report, synthetic, topic
from benchmarks.speed.measure import Row, alternately, growth_mb
from recsys.types import State


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (Row("a", 90, "users/s", "limit", 100, ">= 0.85"), True),
        (Row("a", 80, "users/s", "limit", 100, ">= 0.85"), False),
        (Row("a", 3, "ms", "search", 2, "<= 1.5"), True),
        (Row("a", 3.1, "ms", "search", 2, "<= 1.5"), False),
        (Row("a", 1.9, "ms", wanted="<= 2 ms"), True),
        (Row("a", 2.1, "ms", wanted="<= 2 ms"), False),
        (Row("a", 2.1, "ms", "search", 2), None),
    ],
)
def test_what_was_wanted_is_compared_with_the_ratio_or_else_the_figure(row: Row, reached: bool | None) -> None:
    assert row.reached is reached


def test_rivals_take_turns_and_the_order_turns_round() -> None:
    called: list[str] = []
    seconds = alternately({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=3, warm=1)
    assert "".join(called) == "abbaabba"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_growth_sees_what_was_let_go_again() -> None:
    _filled(90)  # an earlier, greater peak must not count; so large, memory goes back to the system at once
    assert 55 < growth_mb(lambda: _filled(60)) < 70


def _filled(megabytes: int) -> None:
    # Pages of its own: an array may come from memory that the process holds already, and then nothing grows.
    np.frombuffer(mmap.mmap(-1, megabytes * measure.MEGABYTE), dtype=np.uint8)[:] = 1


def test_each_part_of_the_page_leaves_the_other(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.md"
    page.write_part(file, "# Speed\n\nold", speed=True)
    page.write_part(file, "# Benchmarks\n", speed=False)
    page.write_part(file, "# Speed\n\nnew\n", speed=True)
    text = file.read_text()
    assert text.startswith("# Benchmarks\n\n<!--")
    assert text.endswith("-->\n\n# Speed\n\nnew\n")
    assert "old" not in text


def test_the_page_tells_results_and_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(topic, "STORE", tmp_path)
    for name in topic.TOPICS:
        first, *others = topic.topic(name).CASES
        rows = [
            Row("ours, exact", 80.0, "users/s", "the limit", 100.0, ">= 0.85", size=size, ours_mb=12.0)
            for size in (1_000, 10_000)
        ]
        file = topic.result_of(name, first)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([row.as_dict() for row in rows]))
        text = report.write().read_text()
        assert "| ours, exact | 80 users/s | the limit | 100 users/s | 0.80 | >= 0.85: **missed** | 12 |  |" in text
        assert all(other in text.partition(topic.topic(name).TITLE)[2] for other in others)
        assert f"plots/speed_{name}.svg" in text
        assert (tmp_path / "plots" / f"speed_{name}.svg").stat().st_size > 1000


def test_what_is_made_is_what_a_shop_could_have() -> None:
    events, vectors, catalog = synthetic.interactions(300, 200, 5_000), synthetic.vectors(200), synthetic.catalog(200)
    assert len(events) == 5_000
    State(catalog, events, vectors, int(events.time.max()) + 1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    count = np.sort(np.bincount(events.item, minlength=200))[::-1]
    assert count[:20].sum() > 2 * count[100:120].sum()
    assert (synthetic.vectors(200) == vectors).all()


@pytest.mark.parametrize("quotes", [False, True])
def test_every_bad_row_that_is_planted_is_found_for_what_it_is(tmp_path: Path, quotes: bool) -> None:
    planted = reading.write(tmp_path, 3_000, quotes)
    assert sorted(planted) == sorted(reading.reasons(quotes))
    reading.read_and_check(tmp_path, "dirty.csv", planted, 3_000)
    reading.read_and_check(tmp_path, "clean.csv", {}, 3_000)
    with pytest.raises(AssertionError, match="3000 of 3000 rows"):
        reading.read_and_check(tmp_path, "dirty.csv", planted | {"value: not a number": 0}, 3_000)
    assert len(reading.scan_and_parse(tmp_path / "clean.csv", quotes)) == 3_000


def test_a_topic_without_results_keeps_its_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(topic, "STORE", tmp_path)
    page.write_part(tmp_path / "page.md", "# Speed\n\nhere\n\n## Start\n\n| old | 1 s |\n", speed=True)
    file = topic.result_of("reading", "1m")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([Row("dirty log", 2.0, "s").as_dict()]))
    text = report.write().read_text()
    assert "| old | 1 s |" in text
    assert "| dirty log | 2 s |" in text
    assert "here" in text
