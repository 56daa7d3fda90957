"""The whole report of the made-up shop: its numbers, its page, and what it says."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from shops import write_shop_config
from tiny_bert import build_tiny_bert

from recsys.cli import main
from recsys.config import load_config
from recsys.errors import ArtifactError
from recsys.report.changes import read_previous
from recsys.report.page import SECTIONS, render


class Page(HTMLParser):
    """Ids, links and everything that a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            if name in ("href", "xlink:href", "src", "srcset", "data", "action"):
                (self.links if (value or "").startswith("#") else self.loads).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_shop_config(folder, build_tiny_bert(folder / "bert"))


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    out, err = capsys.readouterr()
    assert not stopped.value.code, err
    return out


@pytest.fixture(scope="module")
def written(config: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The report's numbers, as the second report of the run prints them."""
    folder = load_config(config).folder
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            main(["report", str(config), "--show-users"])
        assert not stopped.value.code
    found: dict[str, object] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found | {"html": (folder / "report.html").read_text(encoding="utf-8")}


def test_the_page_loads_nothing_and_every_section_is_there(written: dict[str, object]) -> None:
    page = Page(str(written["html"]))
    assert page.loads == []
    assert not page.tags & {"script", "iframe", "link", "img"}
    assert set(SECTIONS) <= page.ids
    assert {link[1:] for link in page.links} <= page.ids
    assert len(str(written["html"]).encode()) < 5_000_000


def test_the_page_says_the_numbers_that_evaluate_measured(written: dict[str, object], config: Path) -> None:
    measured = json.loads((load_config(config).folder / "evaluation.json").read_text(encoding="utf-8"))
    page = Page(str(written["html"]))
    assert written["quality"] == measured
    for metrics in measured["metrics"].values():
        assert f"{metrics['ndcg@10']:.4f}" in page.text
    gap = measured["differences"]["item_knn"]
    assert f"The engine ranks better than item_knn: {gap['mean']:+.4f} ndcg@10" in page.text
    assert "Espresso beans" in page.text


def test_the_second_report_says_what_changed(written: dict[str, object]) -> None:
    changes: dict[str, object] = written["changes"]  # type: ignore[assignment]
    assert changes["settings"] == []
    before_and_now = changes["metrics"]["ndcg@10"]  # type: ignore[index]
    assert before_and_now["before"] == before_and_now["now"]
    assert "no setting changed" in Page(str(written["html"])).text


def test_customers_stand_in_the_page_alone(written: dict[str, object], config: Path) -> None:
    due: dict[str, object] = written["business"]["due"]  # type: ignore[index]
    assert due["users"] == []
    assert due["due"]
    assert "days since the last" in Page(str(written["html"])).text


def test_text_of_the_shop_is_escaped(written: dict[str, object]) -> None:
    hostile = '<script>alert(1)</script>"&'
    found = json.loads(json.dumps(written).replace("Espresso beans", hostile.replace('"', '\\"')))
    found["quality"]["slices"]["categories"] = {hostile: found["quality"]["slices"]["categories"]["Kitchen"]}
    page = Page(render(found | {"name": hostile}))
    assert "script" not in page.tags
    assert page.text.count(hostile) >= 2


def test_evaluate_and_inspect_draw(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "models.svg"
    run(capsys, "evaluate", str(config), "--plot", str(plot))
    assert "ndcg@10" in plot.read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(config), "--plot", str(tmp_path / "models.bmp")])
    assert stopped.value.code == 3
    assert "models.bmp ends in .bmp" in capsys.readouterr().err


def test_a_damaged_earlier_report_is_told(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"made": 1}', encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"report.json is damaged \(KeyError\('quality'\)\): delete it"):
        read_previous(tmp_path)
    assert read_previous(tmp_path / "elsewhere") is None
