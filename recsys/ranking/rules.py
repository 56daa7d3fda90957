"""Rules: from scored candidates to lists of exactly k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.arrays import BoolArray, FloatArray, IntArray, LongArray
from recsys.ragged import find_keys, offsets_of, order_by_score, owners_of, pair_keys, places_of, stable_order
from recsys.types import Candidates, Ranking

PAIRS = 4_000_000  # (query, item) pairs that filling holds at a time


@dataclass(frozen=True, eq=False)
class Cap:
    """A limit on the items of one kind in a list, such as those of one brand.

    Attributes:
        code: The kind of each catalogue item `(I,)`; -1 for none, which no cap limits.
        most: Most items of one kind.
    """

    code: IntArray
    most: int


def best(candidates: Candidates, score: FloatArray, k: int | None) -> Ranking:
    """Keep each query's best candidates.

    Args:
        candidates: The candidates of all queries.
        score: Score of each candidate `(n,)`.
        k: How many to keep of each query; None keeps all.

    Returns:
        Lists, best first; ties keep the candidates' order.
    """
    order = order_by_score(candidates.owner, score)
    lengths = np.diff(candidates.offsets)
    if k is not None:
        order = order[places_of(candidates.offsets) < k]
        lengths = np.minimum(lengths, k)
    return Ranking(offsets_of(lengths), candidates.item[order], score[order], candidates.found[order])


def cut(ranking: Ranking, k: int, caps: Sequence[Cap] = ()) -> Ranking:
    """Cut each list to its first `k` items, leaving out each item that a cap has no room for."""
    owner = owners_of(ranking.offsets)
    ranking = ranking.take(under_caps(owner, ranking.item, caps)) if caps else ranking
    return ranking.take(places_of(ranking.offsets) < k) if (np.diff(ranking.offsets) > k).any() else ranking


def under_caps(owner: LongArray, item: IntArray, caps: Sequence[Cap]) -> BoolArray:
    """Mark the items that are kept when each list is read from the top and every cap must have room.

    All lists are read at once, in rounds. An item for which there is room even if all before it stay, is sure to
    stay; an item for which the sure ones leave no room goes. The first item of a list that is not sure has only sure
    ones before it, so every round settles something; with one cap the first settles all.

    Args:
        owner: The list of each item `(n,)`, ascending.
        item: Catalogue rows `(n,)`, best first in each list.
        caps: The limits.

    Returns:
        Whether each item is kept `(n,)`.
    """
    kept = np.ones(len(item), dtype=bool)
    kinds = [_Kinds(owner, cap.code[item]) for cap in caps]
    while True:
        sure = kept.copy()
        for cap, kind in zip(caps, kinds, strict=True):
            sure &= kind.before(kept) < cap.most
        if (sure == kept).all():
            return kept
        for cap, kind in zip(caps, kinds, strict=True):
            kept &= kind.before(sure) < cap.most


class _Kinds:
    """Counts, for each item of the lists `(n,)`, the items of its kind that stand before it in its list."""

    def __init__(self, owner: LongArray, code: IntArray) -> None:
        self._n = len(code)
        rows = np.flatnonzero(code >= 0)
        keys = pair_keys(owner[rows], code[rows], int(code.max(initial=0)) + 1)
        order = stable_order(keys)
        self._rows, keys = rows[order], keys[order]
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        self._start = np.maximum.accumulate(np.where(first, np.arange(len(keys)), 0))

    def before(self, chosen: BoolArray) -> LongArray:
        """Count the chosen items of its kind before each item `(n,)` of its list; 0 for an item of no kind."""
        here = chosen[self._rows]
        running: LongArray = np.cumsum(here) - here
        count = np.zeros(self._n, dtype=np.int64)
        count[self._rows] = running - running[self._start]
        return count


def fill(ranking: Ranking, popular: IntArray, blocked_pairs: LongArray, n_items: int, k: int,
         caps: Sequence[Cap] = ()) -> Ranking:  # fmt: skip
    """Fill lists shorter than `k` with the most popular items that are neither in the list nor blocked.

    Args:
        ranking: Lists, best first.
        popular: All items that may fill, most popular first.
        blocked_pairs: Ascending keys of the (query, item) pairs that must not appear.
        n_items: Items in the catalogue.
        k: Length to fill to.
        caps: Limits that the lists keep to already, and keep to when filled.

    Returns:
        Lists of `k` items; shorter only where nothing is left to give. A filled item scores below all others of its
        list and was found by no retriever.
    """
    lengths = np.diff(ranking.offsets)
    short = np.flatnonzero(lengths < k)
    if not len(short):
        return ranking
    owner = owners_of(ranking.offsets)
    taken = np.union1d(blocked_pairs, pair_keys(owner, ranking.item, n_items))
    in_short = np.isin(taken // n_items, short)
    # Whatever is taken, the most popular `k + taken` items of a list hold the `k` that it may need, but for caps.
    width = min(len(popular), k + int(np.bincount(taken[in_short] // n_items, minlength=1).max(initial=0)))
    fresh: list[tuple[LongArray, IntArray]] = []
    while len(short):
        left = []
        for some in np.array_split(short, -(-len(short) * max(width, 1) // PAIRS)):
            new_owner, new_item = np.repeat(some, width), np.tile(popular[:width], len(some))
            new = find_keys(taken, pair_keys(new_owner, new_item, n_items)) < 0
            new_owner, new_item = new_owner[new], new_item[new]
            if caps:
                own = np.isin(owner, some)
                both = np.concatenate([owner[own], new_owner]), np.concatenate([ranking.item[own], new_item])
                has_room = under_caps(*both, caps)[own.sum() :]
                new_owner, new_item = new_owner[has_room], new_item[has_room]
            count = np.bincount(new_owner, minlength=len(lengths))
            need = k - lengths
            done = np.zeros(len(lengths), dtype=bool)
            done[some] = (count >= need)[some] | (width == len(popular))
            place = np.arange(len(new_owner)) - offsets_of(count)[new_owner]
            given = done[new_owner] & (place < need[new_owner])
            fresh.append((new_owner[given], new_item[given]))
            left.append(some[~done[some]])
        short = np.concatenate(left)
        if len(short):
            popular = _with_room(popular, taken[np.isin(taken // n_items, short)], n_items, caps)
            width = min(len(popular), 4 * width)
    fresh_owner, fresh_item = (np.concatenate(part) for part in zip(*fresh, strict=True))
    return _appended(ranking, fresh_owner, fresh_item)


def _with_room(popular: IntArray, taken: LongArray, n_items: int, caps: Sequence[Cap]) -> IntArray:
    """Leave out the items that no list can have room for, and keep the order of the rest.

    Of items that every cap counts alike, a list takes the first few that are not in `taken`, the keys of what lists
    hold already or must not hold: once one has no room, none after it has.
    """
    kind, room = np.zeros(n_items, dtype=np.int64), np.full(n_items, n_items)
    for cap in caps:
        kind = np.unique(kind * (int(cap.code.max(initial=0)) + 2) + cap.code + 1, return_inverse=True)[1]
        room = np.where(cap.code >= 0, np.minimum(room, cap.most), room)
    n_kinds = int(kind.max(initial=0)) + 1
    pairs, count = np.unique(pair_keys(taken // n_items, kind[taken % n_items], n_kinds), return_counts=True)
    most_taken = np.zeros(n_kinds, dtype=np.int64)
    np.maximum.at(most_taken, pairs % n_kinds, count)
    own = kind[popular]
    place = np.empty(len(popular), dtype=np.int64)
    place[stable_order(own)] = places_of(offsets_of(np.bincount(own, minlength=n_kinds)))
    return popular[place < room[popular] + most_taken[own]]


def _appended(ranking: Ranking, owner: LongArray, item: IntArray) -> Ranking:
    """Append items that no retriever found to their lists, scored below everything that these hold."""
    lengths = np.diff(ranking.offsets)
    filled = lengths > 0
    floor = np.zeros(len(lengths), dtype=np.float32)
    if filled.any():
        floor[filled] = np.minimum.reduceat(ranking.score, ranking.offsets[:-1][filled])
    order = np.argsort(owner, kind="stable")
    owner, item = owner[order], item[order]
    count = np.bincount(owner, minlength=len(lengths))
    place = places_of(offsets_of(count))
    score = (floor[owner] - 1 - place).astype(np.float32)
    found = np.full((len(item), ranking.found.shape[1]), -1, np.int32)
    order = np.argsort(np.concatenate([owners_of(ranking.offsets), owner]), kind="stable")
    return Ranking(
        offsets_of(lengths + count),
        np.concatenate([ranking.item, item.astype(np.int32)])[order],
        np.concatenate([ranking.score, score])[order],
        np.concatenate([ranking.found, found])[order],
    )
