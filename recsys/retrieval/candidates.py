"""From what each retriever found to one ragged list of candidates per user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.types import Candidates, FloatArray, Histories, Hits, IntArray, LongArray, Rows, offsets_of, owners_of


def pair_keys(owner: Rows, item: Rows, n_items: int) -> LongArray:
    """One sortable number for each (asker, item) pair `(n,)`."""
    return owner.astype(np.int64) * n_items + item


def find_keys(keys: Rows, wanted: Rows) -> LongArray:
    """The place of each wanted key in ascending `keys`, -1 where it is not there: `(n,)`."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def seen_keys(histories: Histories, n_items: int) -> LongArray:
    """The (asker, item) pairs of the histories, ascending and distinct."""
    return np.unique(pair_keys(histories.owner, histories.item, n_items))


def order_by_score(owner: LongArray, score: FloatArray) -> LongArray:
    """Return the order `(n,)` that sorts pairs by asker, then best score first; ties keep their order.

    Asker and score are packed into one integer, since sorting that is many times faster than a lexsort.
    """
    bits = (score + np.float32(0)).view(np.uint32)  # + 0 turns -0.0 into 0.0
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return np.argsort((owner.astype(np.uint64) << np.uint64(32)) | ~ascending, kind="stable")


def top_of_pairs(owner: LongArray, item: IntArray, score: FloatArray, n_lists: int, k: int) -> Hits:
    """Keep the `k` best-scored pairs of each asker, best first; ties keep their order."""
    order = order_by_score(owner, score)
    starts = offsets_of(np.bincount(owner, minlength=n_lists))
    kept = order[np.arange(len(owner)) - starts[owner[order]] < k]
    return Hits(offsets_of(np.minimum(np.diff(starts), k)), item[kept], score[kept])


def most_barred(barred: LongArray, n_items: int) -> int:
    """How many pairs are barred for the asker with the most of them: how much deeper a search must look at most."""
    return int(np.bincount(barred // n_items, minlength=1).max())


def without(hits: Hits, barred: LongArray, n_items: int, k: int) -> Hits:
    """Take the barred (asker, item) pairs out of the lists and cut each to `k`."""
    owner = owners_of(hits.offsets)
    kept = find_keys(barred, pair_keys(owner, hits.item, n_items)) < 0
    running = np.cumsum(kept)
    before = np.concatenate(([0], running))[hits.offsets[:-1]]
    kept &= running - before[owner] <= k
    return Hits(
        offsets_of(np.bincount(owner[kept], minlength=len(hits.offsets) - 1)), hits.item[kept], hits.score[kept]
    )


def union(found: list[Hits], n_lists: int, n_items: int) -> Candidates:
    """Join the lists of `r` retrievers; `Candidates.found` keeps who found what, and at which place."""
    keys = [pair_keys(owners_of(hits.offsets), hits.item, n_items) for hits in found]
    everything: NDArray[np.int64] = np.unique(np.concatenate(keys)) if keys else np.zeros(0, dtype=np.int64)
    places = np.full((len(everything), len(found)), -1, dtype=np.int32)
    for column, (hits, own) in enumerate(zip(found, keys, strict=True)):
        rank = np.arange(len(own)) - np.repeat(hits.offsets[:-1], np.diff(hits.offsets))
        places[np.searchsorted(everything, own), column] = rank
    owner, item = np.divmod(everything, n_items)
    return Candidates(offsets_of(np.bincount(owner, minlength=n_lists)), item.astype(np.int32), places)
