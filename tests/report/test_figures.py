"""The figures, as files and inside a page."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from recsys.errors import ConfigError
from recsys.report import figures

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("ending", [".svg", ".png", ".PDF"])
def test_a_figure_becomes_a_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "deep" / f"plot{ending}"
    figures.write(figures.bars({"engine": 0.4, "popularity": 0.1}, highlight=["engine"]), path)
    head = {".svg": b"<?xml", ".png": b"\x89PNG", ".PDF": b"%PDF"}[ending]
    assert path.read_bytes().startswith(head)


@pytest.mark.parametrize(("name", "said"), [("plot.gif", "plot.gif ends in .gif"), ("plot", "plot has no ending")])
def test_other_endings_are_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        figures.check_format(tmp_path / name)


def test_a_figure_in_a_page_takes_its_colours_and_says_what_it_shows() -> None:
    title = 'Sales of "tea" & <cups>'
    drawn = figures.groups(["茶", "cups"], {"engine": [0.5, 0.25], "popularity": [0.1, 0.2]}, axis="recall@10")
    svg = figures.inline(drawn, title)
    assert svg == figures.inline(drawn, title)
    root = ElementTree.fromstring(svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", title)
    assert (root.get("width"), root.get("viewBox") is None) == (None, False)
    texts = {"".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")}
    assert {"茶", "cups", "engine", "popularity", "recall@10"} <= texts
    assert "var(--series-0)" in svg
    assert "var(--ink)" in svg
    assert not any(colour in svg for colour in figures.VARIABLES)


def test_bars_have_the_lengths_of_their_values() -> None:
    axes = figures.bars({"a": 0.5, "b": 0.25}, intervals={"b": (0.2, 0.3)}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.25]
    assert list(axes.lines[0].get_xdata()) == [0.2, 0.3]


def test_reliability_puts_each_bin_at_its_prediction_and_share() -> None:
    bins = [{"mean": 0.01, "observed": 0.02, "count": 50}, {"mean": 0.2, "observed": 0.0, "count": 9}]
    axes = figures.reliability({"later": bins}).axes[0]
    solid, hollow = (dots.get_offsets().tolist() for dots in axes.collections)
    assert solid == [[0.01, 0.02]]
    assert hollow == [[0.2, 0.01]]  # on the lower edge
