"""Files that are whole or absent: written aside, forced onto the disk, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED_S = 3600  # age of a half-written file whose writer must be dead
_ASIDE = re.compile(r"\..+\.(?P<pid>\d+)")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file; it gets its name when the block ends well, and goes when it does not.

    A process that dies leaves it under that other name, which tells the process (see `asides`).
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
    """Write a text, whole or not at all."""
    with whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def asides(paths: Iterable[Path]) -> list[tuple[Path, int]]:
    """Those files that `whole` has not renamed yet, and which process began them."""
    found = [(path, _ASIDE.fullmatch(path.name)) for path in paths]
    return [(path, int(match["pid"])) for path, match in found if match]


def alive(pid: int) -> bool:
    """Whether a process of this machine is there, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sync(path: Path) -> None:
    """Force a file or a folder onto the disk, so that a rename never points at bytes that are not there yet."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some file systems cannot flush a folder
            raise
    finally:
        os.close(handle)


def why_not_written(error: Exception, folder: Path) -> str:
    """Tell why writing below a folder failed, and what to do."""
    with suppress(OSError):
        free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
        # numpy tells of a full disk only how much it could not write, polars only in words.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error) or free < 1 << 20:
            return "the disk is full: free some space and run again"
        return f"{error} ({free:,} bytes are free there): make room, or set another output folder, and run again"
    return str(error)
