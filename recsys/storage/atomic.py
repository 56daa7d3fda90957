"""Files that are whole or absent: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ABANDONED_S = 3600  # seconds after which the writer of a half-written file must be dead
_ASIDE = re.compile(r"\..+\.(?P<pid>\d+)")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name and rename it when the block ends without an error.

    After an error the temporary file is removed. A process that dies leaves it behind, with its own id in the name;
    see `asides`.

    Args:
        path: The final name. Its folder must exist.

    Yields:
        The temporary path to write to.
    """
    aside = path.with_name(f".{path.name}.{threading.get_ident()}.{os.getpid()}")
    try:
        yield aside
        sync(aside)
        os.replace(aside, path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def asides(paths: Iterable[Path]) -> list[tuple[Path, int]]:
    """Select the temporary files of `whole`.

    Returns:
        Each such path with the id of the process that began it.
    """
    found = [(path, _ASIDE.fullmatch(path.name)) for path in paths]
    return [(path, int(match["pid"])) for path, match in found if match]


def alive(pid: int) -> bool:
    """Return whether a process runs on this machine, whoever owns it."""
    if sys.platform == "win32":  # os.kill(pid, 0) would interrupt the process there
        return _alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _alive_on_windows(pid: int) -> bool:
    import ctypes

    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(ctypes.get_last_error() == 5)  # type: ignore[attr-defined,unused-ignore]  # ERROR_ACCESS_DENIED
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE


def sync(path: Path) -> None:
    """Flush a file or a folder to disk, so that a rename never points at bytes that are not there yet.

    Args:
        path: The file or folder. File systems that cannot flush a folder, and Windows, skip it.
    """
    if sys.platform == "win32":
        if path.is_dir():
            return
        with path.open("r+b") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some file systems cannot flush a folder
            raise
    finally:
        os.close(handle)


def why_not_written(error: Exception, folder: Path) -> str:
    """Explain an error that writing below a folder raised.

    Args:
        error: What was raised.
        folder: The folder, which need not exist.

    Returns:
        The reason and what to do, as the end of a sentence.
    """
    with suppress(OSError):
        free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
        # numpy says only how much it could not write to a full disk; polars says it only in words.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error) or free < 1 << 20:
            return "the disk is full: free some space and run again"
        return f"{error} ({free:,} bytes are free there): make room, or set another output folder, and run again"
    return str(error)
