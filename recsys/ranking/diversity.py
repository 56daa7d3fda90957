"""Maximal marginal relevance: a list whose items are good and unlike each other (Carbonell & Goldstein 1998)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import FloatArray, LongArray
from recsys.ranking.rules import Cap
from recsys.types import Ranking

POOL = 1000  # the best items of a list that compete; what is below follows in its own order


def diversify(ranking: Ranking, vectors: FloatArray, diversity: float, k: int, pinned: int = 0,
              caps: Sequence[Cap] = ()) -> Ranking:  # fmt: skip
    """Reorder one list, best first, so that its first `k` are unlike each other.

    The next item is the one with the greatest `(1 - diversity) * relevance - diversity * likeness`: relevance is its
    score between 0, the least among the `POOL` best of the list, and 1, the greatest; likeness its greatest cosine with
    an item that was chosen before it, by the unit `vectors` `(I, d)`, and 0 while there is none. The first `pinned`
    items keep their places. What a cap has no room for is never chosen.
    """
    n = min(POOL, len(ranking.item))
    item, score = ranking.item[:n], ranking.score[:n]
    own = np.ascontiguousarray(vectors[item])
    span = float(score.max(initial=-np.inf)) - float(score.min(initial=np.inf))
    relevance = (score - score.min(initial=np.inf)) / np.float32(span) if n and span > 0 else np.zeros(n, np.float32)
    likeness = np.full(n, -np.inf, dtype=np.float32)
    free = np.ones(n, dtype=bool)
    codes = [cap.code[item] for cap in caps]
    chosen: list[int] = []
    while len(chosen) < min(k, n) and free.any():
        if len(chosen) < pinned and free[:pinned].any():
            place = int(np.argmax(free[:pinned]))
        else:
            worth = (1 - diversity) * relevance - diversity * (likeness if chosen else 0)
            place = int(np.argmax(np.where(free, worth, -np.inf)))
        chosen.append(place)
        free[place] = False
        np.maximum(likeness, own @ own[place], out=likeness)
        for cap, code in zip(caps, codes, strict=True):
            if code[place] >= 0 and (code[chosen] == code[place]).sum() >= cap.most:
                free &= code != code[place]
    rest = np.setdiff1d(np.arange(len(ranking.item)), chosen)
    return _ordered(ranking, np.concatenate([np.array(chosen, dtype=np.int64), rest]))


def _ordered(ranking: Ranking, order: LongArray) -> Ranking:
    return Ranking(ranking.offsets, ranking.item[order], ranking.score[order], ranking.found[order])


def pin(ranking: Ranking, rows: LongArray) -> Ranking:
    """Put some items of one list first, in the order of the distinct `rows`; the others keep theirs."""
    place = {int(row): number for number, row in enumerate(rows)}
    wanted = np.array([place.get(int(item), len(place)) for item in ranking.item], dtype=np.int64)
    return _ordered(ranking, np.argsort(wanted, kind="stable"))
