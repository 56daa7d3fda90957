"""Files that are whole or absent."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from recsys.storage.atomic import asides, whole, why_not_written, write


def test_a_file_appears_when_it_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    write(path, "old")
    with whole(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
        assert asides(tmp_path.iterdir()) == [(aside, os.getpid())]
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_stays_as_it_was_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write(path, "half, and then \udc00")
    with pytest.raises(FileNotFoundError), whole(path):
        pass  # nothing was written
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_that_cannot_flush_folders_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) or refuses_files:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    refuses_files = False
    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "list.txt", "old")
    refuses_files = True
    with pytest.raises(OSError, match="Invalid argument"):
        write(tmp_path / "list.txt", "new")
    assert (tmp_path / "list.txt").read_text() == "old"


def test_threads_that_write_one_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "list.txt", [letter * 100_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write(path, text), texts * 5))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_dead_leave_tells_who_they_were(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from recsys.storage.atomic import whole
with whole(Path(sys.argv[1])) as aside:
    aside.touch()
    os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "list.txt")]) as process:
        process.wait(3600)
    [left] = tmp_path.iterdir()
    assert asides([left, tmp_path / ".hidden", tmp_path / "list.txt.7"]) == [(left, process.pid)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_says_so(tmp_path: Path) -> None:
    """Bytes and a Parquet writer that the device has no room for."""
    for fill in (
        lambda: Path("/dev/full").write_bytes(b"x" * 99_999),
        lambda: pl.DataFrame({"number": [1] * 5}).write_parquet("/dev/full"),
    ):
        with pytest.raises((OSError, pl.exceptions.PolarsError)) as raised:
            fill()
        assert why_not_written(raised.value, tmp_path) == "the disk is full: free some space and run again"
