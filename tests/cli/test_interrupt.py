"""Ctrl-C ends a command with 130, also while modules are imported."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recsys.cli.console import INTERRUPTED
from recsys.cli.interrupt import interruptible

# A library whose import takes a while, and which takes whatever goes wrong in it for a missing package.
STUBBORN = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
try:
    sum(range(100_000))
except BaseException:
    interrupted = True
else:
    interrupted = False
"""


def module(folder: Path, text: str) -> None:
    (folder / "stubborn_library.py").write_text(text, encoding="utf-8")
    sys.modules.pop("stubborn_library", None)
    importlib.invalidate_caches()


def import_and_wait() -> None:
    importlib.import_module("stubborn_library")
    threading.Event().wait(600)
    raise AssertionError("no interrupt came")


def interrupt_and_wait() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(600)
    raise AssertionError("no interrupt came")


def test_an_interrupt_in_an_import_comes_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module(tmp_path, STUBBORN)
    with pytest.raises(KeyboardInterrupt), interruptible():
        import_and_wait()
    assert sys.modules["stubborn_library"].interrupted is False
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_second_interrupt_comes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nos.kill(os.getpid(), signal.SIGINT)\n")
    with pytest.raises(KeyboardInterrupt), interruptible():
        importlib.import_module("stubborn_library")
    assert "stubborn_library" not in sys.modules


def test_outside_imports_it_comes_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        interrupt_and_wait()


def test_an_own_handler_is_left_alone() -> None:
    got = []
    before = signal.signal(signal.SIGINT, lambda *_: got.append(1))
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert got == [1]


@pytest.mark.parametrize("name", ["recsys.cli.app", "typer", "recsys.cli.doctor", "recsys.extras"])
def test_a_command_interrupted_while_it_imports(tmp_path: Path, name: str) -> None:
    """An import hook interrupts the process when it comes to a module; the import itself swallows what is raised."""
    hook = f"""
import os, signal, sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(100_000))
            except BaseException:
                pass
sys.meta_path.insert(0, Hook())
from recsys.cli import main
main(["doctor"])
"""
    ran = subprocess.run([sys.executable, "-c", hook], capture_output=True, text=True, timeout=3600, check=False)
    assert (ran.returncode, ran.stderr) == (INTERRUPTED, "")
