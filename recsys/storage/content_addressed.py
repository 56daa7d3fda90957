"""Files that are whole or absent, each named by the sha256 of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

from recsys.errors import ArtifactError
from recsys.storage import atomic


def is_intact(path: Path) -> bool:
    """Return whether the bytes of a file match its name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.stem


def publish(folder: Path, content: bytes | memoryview, suffix: str, store: str, what: str) -> Path:
    """Write a file under its final name, whole or not at all.

    Removes what writers that died left in the folder.

    Args:
        folder: Where to write; created where it is missing.
        content: The bytes.
        suffix: How the file's name ends, such as `.npy`.
        store: What the folder is, for the error message: `"vector store"`.
        what: What the bytes are, for the error message: `"12 vectors"`.

    Returns:
        The path of the file.

    Raises:
        ArtifactError: The folder cannot be written (disk full, no permission).
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
            f"{store} {folder}: {len(content):,} bytes for {what} could not be written: "
            f"{atomic.why_not_written(error, folder)}; what was published before is kept"
        ) from error
    return target
