"""Diverse lists: maximal marginal relevance, and pinned items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import FloatArray, LongArray
from recsys.ranking.rules import Cap
from recsys.types import Ranking

POOL = 1000  # the best items of a list that compete; what is below follows in its own order


def diversify(ranking: Ranking, vectors: FloatArray, diversity: float, k: int, pinned: int = 0,
              caps: Sequence[Cap] = ()) -> Ranking:  # fmt: skip
    """Reorder one list so that its first `k` items are unlike each other, by maximal marginal relevance.

    The next item is the one with the greatest `(1 - diversity) * relevance - diversity * similarity`. Relevance is its
    score, scaled to 0 for the least and 1 for the greatest of the `POOL` best of the list; similarity is its greatest
    cosine with an item chosen before it, 0 for the first (Carbonell and Goldstein 1998, "The Use of MMR,
    Diversity-Based Reranking for Reordering Documents and Producing Summaries").

    Args:
        ranking: One list, best first.
        vectors: Unit vectors of the catalogue `(I, d)`.
        diversity: 0 keeps the order of the scores, 1 looks at similarity alone.
        k: How many places to choose; the rest keeps its order.
        pinned: How many items at the front keep their places.
        caps: Most items of one kind; an item that a cap has no room for is not chosen.

    Returns:
        The same items in another order.
    """
    n = min(POOL, len(ranking.item))
    item, score = ranking.item[:n], ranking.score[:n]
    own = np.ascontiguousarray(vectors[item])
    span = float(score.max(initial=-np.inf)) - float(score.min(initial=np.inf))
    relevance = (score - score.min(initial=np.inf)) / np.float32(span) if n and span > 0 else np.zeros(n, np.float32)
    similarity = np.full(n, -np.inf, dtype=np.float32)
    eligible = np.ones(n, dtype=bool)
    codes = [cap.code[item] for cap in caps]
    chosen: list[int] = []
    while len(chosen) < min(k, n) and eligible.any():
        if len(chosen) < pinned and eligible[:pinned].any():
            place = int(np.argmax(eligible[:pinned]))
        else:
            worth = (1 - diversity) * relevance - diversity * (similarity if chosen else 0)
            place = int(np.argmax(np.where(eligible, worth, -np.inf)))
        chosen.append(place)
        eligible[place] = False
        np.maximum(similarity, own @ own[place], out=similarity)
        for cap, code in zip(caps, codes, strict=True):
            if code[place] >= 0 and (code[chosen] == code[place]).sum() >= cap.most:
                eligible &= code != code[place]
    rest = np.setdiff1d(np.arange(len(ranking.item)), chosen)
    return _ordered(ranking, np.concatenate([np.array(chosen, dtype=np.int64), rest]))


def _ordered(ranking: Ranking, order: LongArray) -> Ranking:
    return Ranking(ranking.offsets, ranking.item[order], ranking.score[order], ranking.found[order])


def pin(ranking: Ranking, rows: LongArray) -> Ranking:
    """Put some items of one list first.

    Args:
        ranking: One list.
        rows: Distinct catalogue rows, in the order in which they come first; those not in the list are ignored.

    Returns:
        The same items; those not pinned keep their order.
    """
    place = {int(row): number for number, row in enumerate(rows)}
    wanted = np.array([place.get(int(item), len(place)) for item in ranking.item], dtype=np.int64)
    return _ordered(ranking, np.argsort(wanted, kind="stable"))
