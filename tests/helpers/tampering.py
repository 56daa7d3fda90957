"""Altered bundles: parts changed, checksums made to fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from publications import forge

from recsys import Recommender
from recsys.errors import ArtifactError

Change = Callable[[np.ndarray], np.ndarray]


class Trap:
    """Creates a file if it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def change(version: Path, name: str, how: Change) -> None:
    """Change an array of a version and make the checksums fit."""
    np.save(version / f"{name}.npy", how(np.load(version / f"{name}.npy")), allow_pickle=False)
    refresh_checksums(version, f"{name}.npy")


def refused(version: Path) -> str:
    """Return why a version is refused."""
    with pytest.raises(ArtifactError) as raised:
        Recommender.load(version)
    return str(raised.value)


def put(place: Any, value: Any) -> Change:
    """Return a change of one value."""

    def how(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return how


def refresh_checksums(version: Path, *names: str) -> None:
    """Make the manifest fit some changed files."""
    for name in names:
        content = (version / name).read_bytes()
        entry = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}
        forge(version, lambda manifest, name=name, entry=entry: manifest["files"].update({name: entry}))
