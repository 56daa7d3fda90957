"""The report as one self-contained HTML file: no script, no request, light and dark, for screens, paper and readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from recsys.report import drawings, listings, sentences

SECTIONS = {
    "quality": "How good",
    "whom": "For whom",
    "items": "For which items",
    "lost": "What to try",
    "popularity": "Popular and rare",
    "probabilities": "Probabilities",
    "data": "The data",
    "business": "The business",
    "changes": "What changed",
}


@dataclass(frozen=True)
class Drawing:
    """A figure in the page: its title in words, and its SVG."""

    title: str
    svg: str


def render(report: Mapping[str, Any]) -> str:
    """Return the page of a report as `recsys.report.collect.collect` returns it. All text of the shop is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from recsys.report.figures import inline

    files = resources.files("recsys.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string((files / "page.html").read_text(encoding="utf-8"))
    figures = {name: Drawing(title, Markup(inline(drawn, title))) for name, title, drawn in drawings.draw_all(report)}
    tables = listings.list_all(report)
    return page.render(
        report=report,
        k=sentences.main_k(report["quality"]),
        css=Markup((files / "page.css").read_text(encoding="utf-8")),
        sections=SECTIONS.items(),
        figures=_Optional(figures),
        tables=_Optional(tables, listings.Listing("", [], [])),
        column_tables=[name for name in tables if name.startswith("columns_")],
        sentences=_Optional({name: list(lines) for name, lines in _said(report)}, ()),
        tiles=listings.tiles(report),
    )


class _Optional(dict[str, Any]):
    """Parts of the page by name; one that the data do not give is `absent`."""

    def __init__(self, parts: Mapping[str, Any], absent: Any = None) -> None:
        super().__init__(parts)
        self._absent = absent

    def __missing__(self, name: str) -> Any:
        return self._absent


def _said(report: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[str]]]:
    quality = report["quality"]
    for name in ("verdict", "whom", "which", "lost", "popularity"):
        yield name, getattr(sentences, name)(quality)
    if "probability" in quality:
        yield "calibration", sentences.calibration(quality["probability"])
    yield "data", sentences.data(report)
    for name in ("together", "returns", "due"):
        if name in report["business"]:
            yield name, getattr(sentences, name)(report["business"][name])
    yield "changes", sentences.changes(report)
