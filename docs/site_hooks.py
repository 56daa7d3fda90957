"""Hooks of mkdocs: pages outside docs/ and the notebook join the site, and links work as they do in the repository."""

from __future__ import annotations

import json
import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {  # a file of the repository: its page on the site
    "README.md": "index.md",
    "docs/README.md": "contents.md",
    "data/README.md": "data_format.md",
    "examples/ranking_service/README.md": "ranking_service.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
NOTEBOOK, TUTORIAL = "docs/tutorial.ipynb", "tutorial.md"
SOURCES = {page: source for source, page in PAGES.items()}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, TUTORIAL, content=notebook_page(ROOT / NOTEBOOK)))
    return files


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown: its texts, its code, and what it stored of each cell's outputs."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```{'console' if source.startswith('!') else 'python'}\n{source}\n```")
        for output in cell["outputs"]:
            shown = output.get("data") or {"text/plain": output["text"]}
            plain, page = "".join(shown["text/plain"]).rstrip(), "".join(shown.get("text/html", ""))
            parts.append(page or f"```text\n{plain}\n```")
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite relative links of one page, outside of code blocks."""
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [_relink(markdown[end : fence.start()], page), fence[0]]
        end = fence.end()
    return "".join([*parts, _relink(markdown[end:], page)])


def _relink(text: str, page: Page) -> str:
    return LINK.sub(lambda link: _link(link, page.file.src_uri), text)


def _link(link: re.Match[str], page: str) -> str:
    """Return the link as the site needs it; the text alone where the site has no page for the file.

    Raises `PluginError` for a file that the repository lacks.
    """
    source = SOURCES.get(page, f"docs/{page}")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
    if not os.path.exists(ROOT / target):
        raise PluginError(f"{source} links to {target}, which does not exist")
    if target == NOTEBOOK:
        found = TUTORIAL
    elif target in PAGES:
        found = PAGES[target]
    elif target.startswith("docs/") and (ROOT / target).is_file():
        found = target.removeprefix("docs/")
    else:
        return link["text"]
    relative = posixpath.relpath(found, posixpath.dirname(page) or ".")
    return f"[{link['text']}]({relative}{link['anchor'] or ''})"
