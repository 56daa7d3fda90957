"""The guides are true: their Python runs, their commands parse, and what is not run says why."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from members import isolate_families

from recsys.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "data/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
)
# A block that is not run needs a marker in the page and a place here, so that none goes missing in silence.
NOT_RUN = {"README.md": 1, "docs/databases.md": 1, "docs/library.md": 2}

FENCE = re.compile(r"^```(\w*)\s*$")
MARKER = re.compile(r"<!-- not run: (?P<why>\S.*?) -->")
PAGE_MARKER = re.compile(r"^<!-- not run on this page: (?P<why>\S.*?) -->$", re.MULTILINE)
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Block:
    """One fenced block: `line` is that of its first line of code, `not_run` why it is left out."""

    language: str
    code: str
    line: int
    not_run: str | None


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    whole_page = PAGE_MARKER.search(text)
    lines = text.splitlines()
    numbers = iter(range(len(lines)))
    for start in numbers:
        fence = FENCE.match(lines[start])
        if fence is None:
            continue
        end = next(number for number in numbers if lines[number] == "```")
        before = next((line for line in reversed(lines[:start]) if line.strip()), "")
        marker = MARKER.fullmatch(before.strip()) or (whole_page if fence[1] == "python" else None)
        why = marker["why"] if marker else None
        yield Block(fence[1], "\n".join(lines[start + 1 : end]), start + 2, why)


def read(page: str) -> list[Block]:
    return list(blocks_of((ROOT / page).read_text(encoding="utf-8")))


def python_of(page: str) -> list[Block]:
    return [block for block in read(page) if block.language == "python"]


def commands_of(text: str) -> Iterator[list[str]]:
    """Yield the words of each command line in a block; pipes and `&&` separate commands."""
    for line in text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        for separator, group in itertools.groupby(words, lambda word: word in ("|", "&&", ";")):
            if not separator:
                yield list(itertools.dropwhile(ASSIGNMENT.fullmatch, group))


def shell_commands(program: str) -> list[Any]:
    """Every call of a program in the shell blocks of all pages, as test parameters."""
    found = []
    command = re.compile(rf"(\$ )?([A-Z_]+=\S* )*{program} ")
    for page in PAGES:
        for block in read(page):
            if block.language not in ("", "bash", "console", "sh") or block.not_run:
                continue
            for number, line in enumerate(block.code.splitlines()):
                if not command.match(line):
                    continue
                found += [
                    pytest.param(words[1:], id=f"{page}:{block.line + number}")
                    for words in commands_of(line)
                    if words and words[0] == program
                ]
    return found


@pytest.fixture
def workplace(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like a clone after `recsys train configs/shop.yaml`: what a guide does there harms nobody."""
    isolate_families(monkeypatch)
    shutil.copytree(shop.folder.parent, tmp_path / "artifacts")
    config = yaml.safe_load(shop.config.read_text(encoding="utf-8")) | {"output": "artifacts"}
    for folder in ("configs", "data", "exports"):
        (tmp_path / folder).mkdir()
    (tmp_path / "configs" / "shop.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    shutil.copytree(ROOT / "data" / "shop", tmp_path / "data" / "shop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if any(not block.not_run for block in python_of(page))])
def test_python_runs(page: str, workplace: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "guide"}
    for block in python_of(page):
        if not block.not_run:
            code = "\n" * (block.line - 1) + block.code  # so that a traceback names the line of the page
            exec(compile(code, str(ROOT / page), "exec", dont_inherit=True), namespace)


@pytest.mark.parametrize("args", shell_commands("recsys"))
def test_commands_parse(args: list[str]) -> None:
    parse(args)
    configs = [arg for arg in args if arg.startswith("configs/")]
    assert [config for config in configs if not (ROOT / config).is_file()] == []


def parse(args: list[str]) -> None:
    """Parse a command line as `recsys` does, without running it. Raises what click raises for wrong usage."""
    root = typer.main.get_command(app)
    context = root.make_context("recsys", list(args), resilient_parsing=False)
    name, command, rest = root.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
    assert command is not None
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (["recommnd", "u1"], "No such command 'recommnd'"),
        (["score", "u1", "--wher", "x"], "No such option: --wher"),
        (["train"], "Missing"),
        (["score", "u1", "-k", "a"], "valid integer"),
    ],
)
def test_parsing_refuses_what_recsys_refuses(wrong: list[str], why: str) -> None:
    with pytest.raises(Exception, match=why) as refused:
        parse(wrong)
    assert getattr(refused.value, "exit_code", None) == 2


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    root = typer.main.get_command(app)
    commands = root.commands  # type: ignore[attr-defined]
    assert [name for name in commands if f"`recsys {name}" not in page] == []
    options = {option for command in (root, *commands.values()) for one in command.params for option in one.opts}
    assert sorted(option for option in options if option.startswith("--") and option not in page) == []


@pytest.mark.parametrize("args", shell_commands("make"))
def test_make_targets_exist(args: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert [arg for arg in args if re.fullmatch(r"[a-z][a-z-]*", arg) and arg not in targets] == []


def test_what_is_not_run_is_counted() -> None:
    skipped = Counter(page for page in PAGES for block in read(page) if block.not_run)
    assert dict(skipped) == NOT_RUN


def test_markers_cover_the_next_block_only() -> None:
    text = """<!-- not run: needs a GPU -->

```python
one
```

```python
two
```
"""
    assert [(block.code, block.line, block.not_run) for block in blocks_of(text)] == [
        ("one", 4, "needs a GPU"),
        ("two", 8, None),
    ]


def test_a_page_marker_covers_python_alone() -> None:
    text = "# Page\n<!-- not run on this page: a sketch -->\n```python\none\n```\n```bash\nrecsys demo\n```\n"
    assert [block.not_run for block in blocks_of(text)] == ["a sketch", None]


def test_commands_are_found_behind_pipes_and_environments() -> None:
    line = "RECSYS_DATA=DIR recsys evaluate a.yaml --json | jq .metrics   # how good?"
    assert list(commands_of(line)) == [["recsys", "evaluate", "a.yaml", "--json"], ["jq", ".metrics"]]
