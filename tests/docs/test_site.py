"""The site is whole: it builds strictly, its links lead somewhere, a browser fetches nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("mkdocs", reason="needs the extra docs")

ROOT = Path(__file__).resolve().parents[2]
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}


class Tags(HTMLParser):
    """The links and the fetched addresses of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.classes |= set(given.get("class", "").split())
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in FETCHED and FETCHED[tag] in given and given.get("rel") != "canonical":
            self.fetched.append(given[FETCHED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def pages(site: Path) -> Iterator[tuple[Path, Tags]]:
    for path in sorted(site.rglob("*.html")):
        tags = Tags()
        tags.feed(path.read_text(encoding="utf-8"))
        yield path, tags


def is_elsewhere(address: str) -> bool:
    return urlsplit(address).netloc != ""


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    found = {address for _, tags in pages(site) for address in tags.fetched if is_elsewhere(address)}
    assert found == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//[^)]*|@import[^;]*", styles) == []


def test_no_page_makes_the_theme_fetch_mermaid(site: Path) -> None:
    assert [path.name for path, tags in pages(site) if "mermaid" in tags.classes] == []


def test_links_lead_to_files(site: Path) -> None:
    broken = []
    for path, tags in pages(site):
        if path.name == "404.html":  # its links count from the root of a server
            continue
        for link in [*tags.links, *tags.fetched]:
            target = unquote(urlsplit(link).path)
            if not urlsplit(link).scheme and target and not (path.parent / target).resolve().exists():
                broken.append((path.name, link))
    assert broken == []


@pytest.mark.parametrize("name", ["recommend", "recommend_batch", "score", "explain", "why_not", "add_items"])
def test_the_reference_documents_the_calls(site: Path, name: str) -> None:
    page = (site / "reference" / "recommender.html").read_text(encoding="utf-8")
    assert f'id="recsys.Recommender.{name}"' in page


@pytest.mark.parametrize("name", ["fit", "train", "evaluate", "tune", "update", "forget"])
def test_the_reference_documents_the_jobs(site: Path, name: str) -> None:
    page = (site / "reference" / "jobs.html").read_text(encoding="utf-8")
    assert f'id="recsys.{name}"' in page


def test_the_tutorial_shows_code_and_outputs(site: Path) -> None:
    page = (site / "tutorial.html").read_text(encoding="utf-8")
    assert 'recsys</span><span class="o">.</span><span class="n">fit' in page
    assert page.count('class="dataframe"') >= 3
    assert "Read 9,782 events of 600 users on 344 items." in page
    assert (site / "tutorial.ipynb").is_file(), "to download"


def test_the_checks_see_what_they_look_for() -> None:
    tags = Tags()
    tags.feed('<script src="https://a.example/x.js"></script><pre class="mermaid"></pre><a href="b.html">b</a>')
    assert (tags.fetched, tags.links) == (["https://a.example/x.js"], ["b.html"])
    assert "mermaid" in tags.classes
    assert is_elsewhere("//a.example/x.js")
    assert not is_elsewhere("../x.js")
