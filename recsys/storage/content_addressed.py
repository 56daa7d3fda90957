"""Files that are whole or absent, and named by the sha256 of their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

from recsys.errors import ArtifactError
from recsys.storage import atomic


def sound(path: Path) -> bool:
    """Whether a file's bytes are those of its name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.stem


def publish(folder: Path, content: bytes | memoryview, suffix: str, what: str) -> Path:
    """Write a file whole under its final name, or not at all; return it. `what` it holds is told in errors.

    Raises `ArtifactError` where the folder cannot be written (disk full, no permission).
    """
    target = folder / f"{hashlib.sha256(content).hexdigest()}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left, _ in atomic.asides(folder.iterdir()):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > atomic.ABANDONED_S:
                    left.unlink()
        with atomic.whole(target) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise ArtifactError(
            f"vector store {folder}: {len(content):,} bytes for {what} could not be written: "
            f"{atomic.why_not_written(error, folder)}; what was published before is kept"
        ) from error
    return target
