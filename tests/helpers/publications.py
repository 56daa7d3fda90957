"""Small bundles in which every file holds the bundle's number, and what tests do to them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xxhash

from recsys.artifacts.bundle import load
from recsys.artifacts.versions import HOLDER, LOCK, MANIFEST, POINTER, TURN, VERSIONS, list_versions
from recsys.errors import ArtifactError

Change = Callable[[dict[str, Any]], object]


def parts(number: int) -> tuple[dict[str, np.ndarray], dict[str, pl.DataFrame], dict[str, Any]]:
    """Return a small bundle in which every file holds its number."""
    arrays = {"one": np.full(50, number), "group/two": np.full((30, 2), number, np.float32), "none": np.zeros((0, 3))}
    return arrays, {"table": pl.DataFrame({"number": [number] * 5, "text": ["茶 🎁"] * 5})}, {"number": number}


def whole(root: Path) -> int:
    """Load, check that every file is of one publication, and return its number."""
    loaded = load(root)
    number = loaded.manifest["number"]
    assert (loaded.arrays["one"] == number).all()
    assert (loaded.arrays["group/two"] == number).all()
    assert (loaded.tables["table"]["number"] == number).all()
    return int(number)


def refused(path: Path) -> str:
    """Return why a bundle is refused."""
    with pytest.raises(ArtifactError) as raised:
        load(path)
    return str(raised.value)


def left(root: Path) -> list[str]:
    """Return everything below a root but complete versions, the pointer and the lock files."""
    known = set(list_versions(root))
    found = [path.name for path in root.iterdir() if path.name not in (VERSIONS, POINTER, LOCK, HOLDER, TURN)]
    return found + [path.name for path in (root / VERSIONS).iterdir() if path.name not in known]


def forge(folder: Path, change: Change) -> None:
    """Change a manifest and make its checksum fit."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["checksum"]
    change(manifest)
    manifest["checksum"] = xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode())
    path.write_text(json.dumps(manifest), encoding="utf-8")


def add(folder: Path, name: str, content: bytes) -> None:
    """Put a file into a bundle and its manifest."""
    (folder / name).write_bytes(content)
    entry = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}
    forge(folder, lambda manifest: manifest["files"].update({name: entry}))


def python(script: str, *args: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script after `PRELUDE` in its own process."""
    command = [sys.executable, "-c", PRELUDE + script, *map(str, args)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False, cwd=Path(__file__).parent)
    assert not check or ran.returncode == 0, ran.stderr
    return ran


PRELUDE = """
import json, os, resource, signal, sys
from pathlib import Path
from publications import left, parts, whole
from recsys.artifacts.bundle import publish, rollback
from recsys.artifacts.versions import VERSIONS, prune, list_versions
from recsys.errors import ArtifactError
root = Path(sys.argv[1])
"""
