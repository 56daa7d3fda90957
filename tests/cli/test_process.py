"""The command line as processes of their own: what they import, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shops import Shop, recsys_process, write_shop_config

from recsys.artifacts import versions
from recsys.cli import console

USER, ITEM = "u029", "i001"


def test_score_starts_without_heavy_imports(shop: Shop) -> None:
    code = (
        "import sys; from recsys.cli import main\n"
        "try: main()\nexcept SystemExit as stopped: print(stopped.code, file=sys.stderr)\n"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'scipy') if m in sys.modules], file=sys.stderr)"
    )
    for args in (["score", USER], ["explain", USER, ITEM], ["similar", ITEM], ["inspect"]):
        command = [sys.executable, "-c", code, *args, "--json", "--bundle", str(shop.folder)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
        assert ran.stderr == "0\n[]\n"
        json.loads(ran.stdout)


def test_a_scored_user_imports_only_what_the_answer_needs(shop: Shop) -> None:
    code = (
        "import sys; from recsys.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "unwanted = ('rich', 'yaml', 'recsys.tables.ingest', 'recsys.embedding.transformer')\n"
        "print([m for m in unwanted if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "score", USER, "--json", "--bundle", str(shop.folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=True)
    assert (ran.stderr, json.loads(ran.stdout)["user_id"]) == ("[]\n", USER)


def test_help_imports_no_library(tmp_path: Path) -> None:
    code = (
        "import sys; from recsys.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'polars', 'faiss', 'torch') if m in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=3600, check=False, cwd=tmp_path
    )
    assert ran.stderr == "[]\n"


def test_error_of_a_real_process(shop: Shop) -> None:
    ran = recsys_process(["score", "nobody", "--bundle", str(shop.folder)])
    assert (ran.returncode, ran.stdout) == (6, "")
    assert ran.stderr.startswith("error: user 'nobody' is not among")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_reader_that_leaves_is_no_error(shop: Shop, form: list[str]) -> None:
    command = [
        sys.executable,
        "-c",
        "from recsys.cli import main; main()",
        "score",
        USER,
        "--bundle",
        str(shop.folder),
        *form,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(3600) == console.BROKEN_PIPE
    assert told == ""


def test_ctrl_c(tmp_path: Path, tiny_model: Path) -> None:
    config = write_shop_config(tmp_path, tiny_model)
    command = [sys.executable, "-c", "from recsys.cli import main; main()", "train", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    begun = tmp_path / "artifacts" / "shop" / "ingest.json"
    deadline = time.monotonic() + 3600
    while not begun.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=3600)
    assert process.returncode == console.INTERRUPTED, err
    assert out == ""
    assert "Traceback" not in err
    assert versions.list_versions(tmp_path / "artifacts" / "shop") == []


def test_debug_shows_where_an_error_came_from(shop: Shop) -> None:
    for args, env in ((["--debug"], {}), ([], {"RECSYS_DEBUG": "1"})):
        command = [*args, "score", "nobody", "--bundle", str(shop.folder)]
        ran = recsys_process(command, env=os.environ | env)
        assert ran.returncode == 6
        assert "Traceback (most recent call last)" in ran.stderr
        assert ran.stderr.rstrip().splitlines()[-1].startswith("error: user 'nobody' is not among")


def test_logs_as_json_hold_the_error_too(tmp_path: Path, tiny_model: Path) -> None:
    config = write_shop_config(tmp_path, tiny_model)
    ran = recsys_process(["--log-json", "--verbose", "train", str(config)])
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert {"time", "level", "logger", "message"} == lines[0].keys()
    assert any(line["logger"].startswith("recsys.") for line in lines)
    broken = recsys_process(["--log-json", "train", str(tmp_path / "none.yaml")])
    assert broken.returncode == 3
    error = json.loads(broken.stderr)
    assert error["level"] == "error"
    assert error["message"].startswith(f"config {tmp_path / 'none.yaml'} does not exist")
