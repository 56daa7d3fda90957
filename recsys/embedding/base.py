"""The contract of encoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from recsys.arrays import FloatArray, LongArray


class Encoder(Protocol):
    """What the store and the engine ask of an encoder. Built by `load_encoder`, usable from several threads."""

    @property
    def fingerprint(self) -> str:
        """64 hex digits that change with whatever may change a vector; cheap, loads no model."""

    @property
    def dimension(self) -> int:
        """The width `d` of a vector; cheap, loads no model."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Raw features `(n, d)`, neither scaled nor whitened; `(0, d)` for no texts."""

    def encode_batches(self, texts: Sequence[str]) -> Iterator[tuple[LongArray, FloatArray]]:
        """Yield `(rows, features)` in any order, every row once; a value not finite is a `ConfigError`."""
