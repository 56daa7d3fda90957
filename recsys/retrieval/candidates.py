"""From the hits of each retriever to one ragged list of candidates for each query."""

from __future__ import annotations

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.ragged import find_keys, offsets_of, order_by_score, owners_of, pair_keys, places_of, stable_order
from recsys.types import Candidates, Histories, Hits


def seen_keys(histories: Histories, n_items: int) -> LongArray:
    """Return the keys of the (query, item) pairs of the histories, ascending and distinct."""
    return np.unique(pair_keys(histories.owner, histories.item, n_items))


def top_of_pairs(owner: LongArray, item: IntArray, score: FloatArray, n_lists: int, k: int) -> Hits:
    """Keep the `k` best-scored pairs of each query, best first; ties keep their order."""
    offsets = offsets_of(np.bincount(owner, minlength=n_lists))
    kept = order_by_score(owner, score)[places_of(offsets) < k]
    return Hits(offsets_of(np.minimum(np.diff(offsets), k)), item[kept], score[kept])


def max_blocked(blocked_pairs: LongArray, n_items: int) -> int:
    """Return how many items the query with the most of them has blocked: how much deeper a search must go at most."""
    return int(np.bincount(blocked_pairs // n_items, minlength=1).max())


def remove_blocked(hits: Hits, blocked_pairs: LongArray, n_items: int, k: int) -> Hits:
    """Remove the blocked (query, item) pairs from the lists and cut each list to `k`.

    `blocked_pairs` are ascending keys (see `pair_keys`).
    """
    owner = owners_of(hits.offsets)
    kept = find_keys(blocked_pairs, pair_keys(owner, hits.item, n_items)) < 0
    running = np.cumsum(kept)
    before = np.concatenate(([0], running))[hits.offsets[:-1]]
    kept &= running - before[owner] <= k
    return Hits(
        offsets_of(np.bincount(owner[kept], minlength=len(hits.offsets) - 1)), hits.item[kept], hits.score[kept]
    )


def list_all(rows: IntArray, blocked_pairs: LongArray, n_lists: int, n_items: int) -> Hits:
    """List all of some items (ascending rows) for every query, except those that it has blocked; scores are 0."""
    keys = pair_keys(np.repeat(np.arange(n_lists), len(rows)), np.tile(rows, n_lists), n_items)
    owner, item = np.divmod(keys[find_keys(blocked_pairs, keys) < 0], n_items)
    offsets = offsets_of(np.bincount(owner, minlength=n_lists))
    return Hits(offsets, item.astype(np.int32), np.zeros(len(item), dtype=np.float32))


def union(found: list[Hits], n_lists: int, n_items: int) -> Candidates:
    """Unite the lists of `r` retrievers, list by list.

    Args:
        found: The hits of each retriever.
        n_lists: Lists in each of them.
        n_items: Items in the catalogue.

    Returns:
        The items of each list, ascending; `Candidates.found` `(n, r)` keeps at which place each retriever found them.
    """
    if not found:
        return Candidates(np.zeros(n_lists + 1, np.int64), np.zeros(0, np.int32), np.zeros((0, 0), np.int32))
    keys = np.concatenate([pair_keys(owners_of(hits.offsets), hits.item, n_items) for hits in found])
    rank = np.concatenate([places_of(hits.offsets) for hits in found])
    column = np.repeat(np.arange(len(found)), [len(hits.item) for hits in found])
    order = stable_order(keys)
    keys = keys[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    places = np.full((int(first.sum()), len(found)), -1, dtype=np.int32)
    places[np.cumsum(first) - 1, column[order]] = rank[order]
    keys, begins = keys[first], np.arange(n_lists + 1) * n_items
    offsets = np.searchsorted(keys, begins)
    return Candidates(offsets, (keys - np.repeat(begins[:-1], np.diff(offsets))).astype(np.int32), places)
