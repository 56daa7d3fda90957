"""Ragged arrays: one list per user in flat arrays, and keys of (user, item) pairs.

The list of user `u` is `values[offsets[u]:offsets[u + 1]]`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, LongArray, Rows


def find_keys(keys: Rows, wanted: Rows) -> LongArray:
    """Return the place of each wanted key `(n,)` in ascending `keys`; -1 where it is not there."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def stable_order(keys: Rows) -> LongArray:
    """Return the order `(n,)` that sorts keys of 0 and above; equal keys keep their order.

    Key and place are packed into one integer where they fit: sorting numbers is many times faster than an argsort.
    """
    bits = len(keys).bit_length()
    if int(keys.max(initial=0)).bit_length() + bits > 64:
        return np.argsort(keys, kind="stable")
    packed = (keys.astype(np.uint64) << np.uint64(bits)) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64((1 << bits) - 1)).astype(np.int64)


def order_by_score(owner: LongArray, score: FloatArray) -> LongArray:
    """Return the order `(n,)` that sorts pairs by query, then best score first; ties keep their order."""
    return stable_order((owner.astype(np.uint64) << np.uint64(32)) | ~_ascending_bits(score))


def score_keys(owner: LongArray, score: FloatArray) -> NDArray[np.uint64]:
    """Return one sortable number for each pair `(n,)`: by query, then by score, ascending."""
    return (owner.astype(np.uint64) << np.uint64(32)) | _ascending_bits(score)


def _ascending_bits(score: FloatArray) -> NDArray[np.uint32]:
    """Return numbers that ascend as the scores `(n,)` do."""
    bits = (score + np.float32(0)).view(np.uint32)  # + 0 turns -0.0 into 0.0
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def offsets_of(counts: Rows) -> LongArray:
    """Turn list lengths `(U,)` into ragged offsets `(U + 1,)`."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def lengths_of(offsets: Rows) -> LongArray:
    """Return the length of each list `(U,)`. The checks of `np.diff` would take longer than one user's lists."""
    return offsets[1:] - offsets[:-1]


def owners_of(offsets: Rows) -> LongArray:
    """Return the list that each of the `n` values of a ragged array belongs to `(n,)`."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), lengths_of(offsets))


def places_of(offsets: LongArray) -> LongArray:
    """Return the place of each of the `n` values of a ragged array in its own list, from 0 `(n,)`."""
    return np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], lengths_of(offsets))


def pair_keys(owner: Rows, item: Rows, n_items: int) -> LongArray:
    """Return one sortable number for each (query, item) pair `(n,)`."""
    return owner.astype(np.int64) * n_items + item


def moments_of(offsets: LongArray, time: LongArray) -> LongArray:
    """Number the distinct times of each ragged, time-sorted list `(n,)`: events of one basket share a number.

    Numbers grow along the whole array; only their differences within one list mean anything.
    """
    changed = np.ones(len(time), dtype=np.int64)
    changed[1:] = time[1:] != time[:-1]
    changed[offsets[:-1][lengths_of(offsets) > 0]] = 1
    return np.cumsum(changed)


def late_events(offsets: LongArray, time: LongArray, as_of: LongArray) -> LongArray:
    """Return the rows of events that lie at or after the moment `as_of` `(U,)` of their list: data leakage."""
    filled = np.flatnonzero(np.diff(offsets))
    if not len(filled) or (np.maximum.reduceat(time, offsets[:-1][filled]) < as_of[filled]).all():
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(time >= as_of[owners_of(offsets)])
