"""An encoder of three numbers, for tests of the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recsys.arrays import FloatArray, LongArray


class Toy:
    """A store's stand-in for a model: no torch, so that a process of its own starts in no time."""

    fingerprint, dimension = "toy", 3

    def encode(self, texts: Sequence[str]) -> FloatArray:
        raise AssertionError("the store encodes in batches")

    def encode_batches(self, texts: Sequence[str]) -> Iterator[tuple[LongArray, FloatArray]]:
        for row, text in enumerate(texts):
            yield np.array([row]), np.array([[len(text), sum(map(ord, text)), 1]], dtype=np.float32)
