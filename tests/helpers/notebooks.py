"""Runs the cells of a notebook in this process, without a Jupyter kernel.

    python tests/helpers/notebooks.py docs/tutorial.ipynb        runs it and stores its outputs

A kernel would bring some thirty packages, and its client gives up after so many seconds; this runs the same Python.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECSYS = [sys.executable, "-c", "from recsys.cli import main; main()"]

Output = dict[str, Any]


def run_cells(notebook: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Output]]]:
    """Run the code cells in order, in one namespace and the current folder, as Jupyter does.

    Args:
        notebook: The parsed `.ipynb`. Lines that start with `!` may call `recsys`, nothing else.

    Yields:
        Each code cell with its outputs in the notebook format: what it printed, then the value of a last expression.
    """
    namespace: dict[str, Any] = {"__name__": "__main__", "_run_shell": _run_shell}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            yield cell, _run("".join(cell["source"]), f"<cell {cell['id']}>", namespace)


def _run(source: str, name: str, namespace: dict[str, Any]) -> list[Output]:
    lines = [f"_run_shell({line[1:]!r})" if line.startswith("!") else line for line in source.splitlines()]
    tree = ast.parse("\n".join(lines), name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec", dont_inherit=True), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval", dont_inherit=True), namespace)
    outputs: list[Output] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = _lines(value._repr_html_())
        outputs.append({"output_type": "execute_result", "data": data, "metadata": {}})
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _run_shell(command: str) -> None:
    """Print what a call of `recsys` says, stdout and stderr as they come."""
    program, *arguments = shlex.split(command)
    if program != "recsys":
        raise ValueError(f"a cell may call recsys, and calls {program!r}")
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    ran = subprocess.run([*RECSYS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         env=environment, check=False)  # fmt: skip
    print(ran.stdout, end="")
    if ran.returncode:
        raise RuntimeError(f"`{command}` ended with exit code {ran.returncode}:\n{ran.stdout}")


def store_outputs(path: Path) -> None:
    """Run a notebook in a folder of its own beside a copy of the shop's files, and write its outputs into it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        place_shop(Path(folder))
        with contextlib.chdir(Path(folder) / "docs"):
            for number, (cell, outputs) in enumerate(run_cells(notebook), 1):
                for output in outputs:
                    if output["output_type"] == "execute_result":
                        output["execution_count"] = number
                cell |= {"execution_count": number, "outputs": outputs}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def place_shop(folder: Path) -> None:
    """Make a folder look like a clone to a notebook: `docs/`, where Jupyter starts, and `data/shop/`."""
    (folder / "docs").mkdir()
    (folder / "data" / "shop").mkdir(parents=True)
    for file in (ROOT / "data" / "shop").iterdir():
        (folder / "data" / "shop" / file.name).write_bytes(file.read_bytes())


if __name__ == "__main__":
    store_outputs(Path(sys.argv[1]).resolve())
