"""Files that are whole or absent, and named by the sha256 of their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path

from recsys.errors import ArtifactError

_ABANDONED_S = 3600  # age of a half-written file whose writer must be dead


def sound(path: Path) -> bool:
    """Whether a file's bytes are those of its name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.stem


def publish(folder: Path, content: bytes | memoryview, suffix: str, what: str) -> Path:
    """Write a file whole under its final name, or not at all; return it. `what` it holds is told in errors.

    Raises `ArtifactError` where the folder cannot be written (disk full, no permission).
    """
    target = folder / f"{hashlib.sha256(content).hexdigest()}{suffix}"
    draft = folder / f"{uuid.uuid4().hex}.draft"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.draft"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED_S:
                    left.unlink()
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
        _flush(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise ArtifactError(
            f"vector store {folder}: {len(content)} bytes for {what} could not be written "
            f"({error.strerror}){_free(folder)}; what was published before is kept: make room or set another "
            "output folder, and run again"
        ) from error
    return target


def _flush(folder: Path) -> None:
    """Make a rename last through a power cut, where the system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _free(folder: Path) -> str:
    """How much room the folder's disk has, as a part of a message."""
    with contextlib.suppress(OSError):
        return f", {shutil.disk_usage(folder).free} bytes are free"
    return ""
