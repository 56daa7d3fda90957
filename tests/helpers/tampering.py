"""Bundles that somebody altered: parts changed, checksums made to fit."""

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
    """Leaves a mark if anyone unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def change(version: Path, name: str, how: Change) -> None:
    np.save(version / f"{name}.npy", how(np.load(version / f"{name}.npy")), allow_pickle=False)
    refresh_checksums(version, f"{name}.npy")


def refused(version: Path) -> str:
    with pytest.raises(ArtifactError) as raised:
        Recommender.load(version)
    return str(raised.value)


def put(place: Any, value: Any) -> Change:
    """A copy with one value changed."""

    def how(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return how


def refresh_checksums(version: Path, *names: str) -> None:
    """Make the manifest right about some files, as whoever forges a bundle would."""
    for name in names:
        content = (version / name).read_bytes()
        told = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}
        forge(version, lambda manifest, name=name, told=told: manifest["files"].update({name: told}))
