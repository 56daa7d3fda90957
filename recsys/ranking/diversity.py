"""Diverse lists: maximal marginal relevance, and pinned items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.ragged import find_keys, owners_of
from recsys.ranking.rules import Cap
from recsys.types import Ranking

POOL = 1000  # the best items of a list that compete; what is below follows in its own order
FLOATS = 4_000_000  # of vectors that are held at a time


def diversify(ranking: Ranking, vectors: FloatArray, diversity: float, k: int, pinned_rows: LongArray | None = None,
              caps: Sequence[Cap] = ()) -> Ranking:  # fmt: skip
    """Reorder each list so that its first `k` items are unlike each other, by maximal marginal relevance.

    The next item is the one with the greatest `(1 - diversity) * relevance - diversity * similarity`. Relevance is its
    score, scaled to 0 for the least and 1 for the greatest of the `POOL` best of the list; similarity is its greatest
    cosine with an item chosen before it, 0 for the first (Carbonell and Goldstein 1998, "The Use of MMR,
    Diversity-Based Reranking for Reordering Documents and Producing Summaries").

    Args:
        ranking: Lists, best first.
        vectors: Unit vectors of the catalogue `(I, d)`.
        diversity: 0 keeps the order of the scores, 1 looks at similarity alone.
        k: How many places to choose; the rest keeps its order.
        pinned_rows: Items that stand first in the lists that hold them, and keep their places.
        caps: Most items of one kind; an item that a cap has no room for is not chosen.

    Returns:
        The same items in another order.
    """
    lengths = np.minimum(np.diff(ranking.offsets), POOL)
    turn = np.arange(len(ranking.item), dtype=np.int64) + k  # where an item stands that is not chosen
    together = max(1, FLOATS // max(1, int(lengths.max(initial=0)) * vectors.shape[1]))
    pinned = np.isin(ranking.item, np.zeros(0) if pinned_rows is None else pinned_rows)
    for start in range(0, len(lengths), together):
        lists = np.arange(start, min(start + together, len(lengths)))
        _choose(ranking, vectors, diversity, k, lists, lengths[lists], pinned, caps, turn)
    return _ordered(ranking, np.lexsort((turn, owners_of(ranking.offsets))))


def _choose(ranking: Ranking, vectors: FloatArray, diversity: float, k: int, lists: LongArray, lengths: LongArray,
            pinned: BoolArray, caps: Sequence[Cap], turn: LongArray) -> None:  # fmt: skip
    """Choose up to `k` items for some lists `(u,)` at once; write the turn of each chosen one into `turn` `(n,)`."""
    width = int(lengths.max(initial=0))
    if not width:
        return
    here = np.arange(width) < lengths[:, None]
    place = np.where(here, ranking.offsets[:-1][lists][:, None] + np.arange(width), ranking.offsets[lists[0]])
    item, score, pinned = ranking.item[place], ranking.score[place], pinned[place] & here
    own = vectors[item]
    low = np.where(here, score, np.inf).min(axis=1, keepdims=True)
    span = np.where(here, score, -np.inf).max(axis=1, keepdims=True) - low
    relevance = np.where(here & (span > 0), (score - low) / np.where(span > 0, span, 1), 0).astype(np.float32)
    similarity = np.full(item.shape, -np.inf, dtype=np.float32)
    eligible, codes = here.copy(), [cap.code[item] for cap in caps]
    chosen = np.zeros(item.shape, dtype=bool)
    rows = np.arange(len(lists))
    for step in range(min(k, width)):
        worth = (1 - diversity) * relevance - diversity * (similarity if step else np.float32(0))
        worth = np.where(eligible, worth, -np.inf)
        first = eligible & pinned
        best = np.where(first.any(axis=1), first.argmax(axis=1), worth.argmax(axis=1))
        active = eligible[rows, best]
        if not active.any():
            return
        turn[place[rows[active], best[active]]] = step - len(turn)
        chosen[rows[active], best[active]] = True
        eligible[rows, best] = False
        products = np.matmul(own, own[rows, best][:, :, None])[:, :, 0]
        np.maximum(similarity, products, out=similarity)
        for cap, code in zip(caps, codes, strict=True):
            kind = code[rows, best]
            alike = (code == kind[:, None]) & (kind >= 0)[:, None]
            eligible &= ~(alike & ((alike & chosen).sum(axis=1) >= cap.most)[:, None])


def _ordered(ranking: Ranking, order: LongArray) -> Ranking:
    return Ranking(ranking.offsets, ranking.item[order], ranking.score[order], ranking.found[order])


def pin(ranking: Ranking, rows: LongArray) -> Ranking:
    """Put some items first in each list.

    Args:
        ranking: Lists.
        rows: Distinct catalogue rows, in the order in which they come first; a list ignores those that it lacks.

    Returns:
        The same items; those not pinned keep their order.
    """
    ascending = np.argsort(rows)
    place = find_keys(rows[ascending], ranking.item)
    wanted = np.where(place >= 0, ascending[place], len(rows))
    return _ordered(ranking, np.lexsort((wanted, owners_of(ranking.offsets))))
