"""Rules: from scored candidates to a list of exactly k."""

from __future__ import annotations

import numpy as np

from recsys.retrieval.candidates import find_keys, order_by_score, pair_keys
from recsys.types import Candidates, FloatArray, IntArray, LongArray, Ranking, offsets_of, owners_of, places_of


def best(candidates: Candidates, score: FloatArray, k: int) -> Ranking:
    """Keep each asker's `k` best candidates, best first; ties keep the candidates' order."""
    order = order_by_score(candidates.owner, score)
    kept = order[places_of(candidates.offsets) < k]
    offsets = offsets_of(np.minimum(np.diff(candidates.offsets), k))
    return Ranking(offsets, candidates.item[kept], score[kept], candidates.found[kept])


def fill(ranking: Ranking, popular: IntArray, barred: LongArray, n_items: int, k: int) -> Ranking:
    """Fill lists shorter than `k` with the most popular items that are neither in the list nor barred.

    `popular` holds all items, most popular first; `barred` the ascending keys of pairs that must not appear. A
    filled item scores below the list's last, and was found by nobody. A list stays short only where the catalogue
    has nothing left to give.
    """
    short = np.flatnonzero(np.diff(ranking.offsets) < k)
    if not len(short):
        return ranking
    owner = owners_of(ranking.offsets)
    taken = np.union1d(barred, pair_keys(owner, ranking.item, n_items))
    # Whatever is taken, the most popular `k + taken` items of a list hold the `k` that it may need.
    in_short = np.isin(taken // n_items, short)
    width = min(n_items, k + int(np.bincount(taken[in_short] // n_items, minlength=1).max(initial=0)))
    fresh_owner, fresh_item = np.repeat(short, width), np.tile(popular[:width], len(short))
    free = find_keys(taken, pair_keys(fresh_owner, fresh_item, n_items)) < 0
    fresh_owner, fresh_item = fresh_owner[free], fresh_item[free]
    place = (
        np.arange(len(fresh_owner))
        - offsets_of(np.bincount(fresh_owner, minlength=len(ranking.offsets) - 1))[fresh_owner]
    )
    kept = place < (k - np.diff(ranking.offsets))[fresh_owner]
    fresh_owner, fresh_item, place = fresh_owner[kept], fresh_item[kept], place[kept]
    floor = np.zeros(len(ranking.offsets) - 1, dtype=np.float32)
    filled = np.diff(ranking.offsets) > 0
    floor[filled] = ranking.score[ranking.offsets[1:][filled] - 1]
    all_owner = np.concatenate([owner, fresh_owner])
    order = np.argsort(all_owner, kind="stable")
    score = np.concatenate([ranking.score, floor[fresh_owner] - 1 - place.astype(np.float32)])[order]
    found = np.concatenate([ranking.found, np.full((len(fresh_item), ranking.found.shape[1]), -1, np.int32)])[order]
    item = np.concatenate([ranking.item, fresh_item.astype(np.int32)])[order]
    return Ranking(offsets_of(np.bincount(all_owner, minlength=len(ranking.offsets) - 1)), item, score, found)
