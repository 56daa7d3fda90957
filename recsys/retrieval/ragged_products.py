"""Products of ragged lists of items with query vectors, a few lists at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys.arrays import BoolArray, FloatArray, IntArray, LongArray

LISTS_PER_BLOCK = 16  # lists that are padded to one length and multiplied as a stack


def ragged_dots(queries: FloatArray, vectors: FloatArray, offsets: LongArray, item: IntArray) -> FloatArray:
    """Multiply each list's query vectors with the vectors of its items.

    Each item vector is gathered once, a few lists at a time, into memory that fits a cache.

    Args:
        queries: `q` vectors for each list `(U, q, d)`.
        vectors: The item vectors `(I, d)`.
        offsets: Ragged offsets of the lists `(U + 1,)`.
        item: The items of the lists `(n,)`.

    Returns:
        The inner products `(n, q)`.
    """
    products = np.empty((len(item), queries.shape[1]), dtype=np.float32)
    for lists, rows, real, padded in _padded_blocks(offsets, item):
        products[rows] = (vectors[padded] @ queries[lists].transpose(0, 2, 1))[real]
    return products


def ragged_sums(weight: FloatArray, vectors: FloatArray, offsets: LongArray, item: IntArray) -> FloatArray:
    """Sum the vectors of each list's items, weighted.

    Args:
        weight: The weight of each item of the lists `(n,)`.
        vectors: The item vectors `(I, d)`.
        offsets: Ragged offsets of the lists `(U + 1,)`.
        item: The items of the lists `(n,)`.

    Returns:
        The sums `(U, d)`; zeros for an empty list.
    """
    sums = np.zeros((len(offsets) - 1, vectors.shape[1]), dtype=np.float32)
    for lists, rows, real, padded in _padded_blocks(offsets, item):
        weights = np.zeros(real.shape, dtype=np.float32)
        weights[real] = weight[rows]
        sums[lists] = (weights[:, None, :] @ vectors[padded])[:, 0]
    return sums


def _padded_blocks(offsets: LongArray, item: IntArray) -> Iterator[tuple[slice, slice, BoolArray, LongArray]]:
    """Pad a few lists at a time to one length: yield the lists, their rows, which places are real, and the items."""
    for start in range(0, len(offsets) - 1, LISTS_PER_BLOCK):
        starts = offsets[start : start + LISTS_PER_BLOCK + 1]
        lengths = np.diff(starts)
        if lengths.any():
            real = np.arange(lengths.max()) < lengths[:, None]
            padded = np.zeros(real.shape, dtype=np.int64)
            rows = slice(starts[0], starts[-1])
            padded[real] = item[rows]
            yield slice(start, start + len(lengths)), rows, real, padded
