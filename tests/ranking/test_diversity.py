"""Diverse lists and pins of many queries at once, against the definition, one list at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.ragged import offsets_of
from recsys.ranking import diversity
from recsys.ranking.diversity import diversify, pin
from recsys.ranking.rules import Cap
from recsys.types import Ranking

N_ITEMS = 9
VECTORS = np.random.default_rng(0).normal(size=(N_ITEMS, 4)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
CODES = np.array([0, 0, 0, 1, 1, 2, 2, -1, -1], dtype=np.int32)

beginnings = st.permutations(range(N_ITEMS)).flatmap(lambda one: st.integers(0, N_ITEMS).map(lambda n: one[:n]))
lists = st.lists(beginnings, max_size=5)


def ranking_of(lists: list[list[int]]) -> Ranking:
    """Lists whose scores fall by a step that differs from list to list."""
    score = [-(1.0 + number) * place for number, one in enumerate(lists) for place in range(len(one))]
    item = np.array([row for one in lists for row in one], dtype=np.int32)
    offsets = offsets_of(np.array([len(one) for one in lists], dtype=np.int64))
    return Ranking(offsets, item, np.array(score, dtype=np.float32), np.zeros((len(item), 1), np.int32))


def items_of(ranking: Ranking) -> list[list[int]]:
    return [ranking.item[a:b].tolist() for a, b in zip(ranking.offsets, ranking.offsets[1:], strict=False)]


def one_by_one(one: list[int], share: float, k: int, pinned: list[int], most: int | None) -> list[int]:
    """Maximal marginal relevance as it is written down."""
    scale = max(len(one) - 1, 1)
    relevance = {row: (1 - place / scale if len(one) > 1 else 0.0) for place, row in enumerate(one)}
    chosen: list[int] = []
    left = list(one)
    while left and len(chosen) < k:
        room = [
            row for row in left
            if most is None or CODES[row] < 0 or sum(CODES[row] == CODES[other] for other in chosen) < most
        ]  # fmt: skip
        if not room:
            break
        first = [row for row in room if row in pinned]

        def worth(row: int) -> float:
            similar = max((float(VECTORS[row] @ VECTORS[other]) for other in chosen), default=0.0)
            return (1 - share) * relevance[row] - share * similar

        chosen.append(first[0] if first else max(room, key=worth))
        left.remove(chosen[-1])
    return chosen + left


@pytest.mark.parametrize("floats", [1, 4_000_000])
@given(lists, st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.integers(1, 10), st.sampled_from([None, 1, 2]), st.booleans())
def test_every_list_is_diverse(
    floats: int, lists: list[list[int]], share: float, k: int, most: int | None, pins: bool
) -> None:
    pinned = [4, 8] if pins else []
    ranking = ranking_of(lists)
    if pins:
        ranking = pin(ranking, np.array(pinned))
        ranking = ranking_of(items_of(ranking))
    caps = [] if most is None else [Cap(CODES, most)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "FLOATS", floats)
        found = diversify(ranking, VECTORS, share, k, np.array(pinned, dtype=np.int64), caps)
    assert items_of(found) == [one_by_one(one, share, k, pinned, most) for one in items_of(ranking)]
    assert sorted(zip(found.item.tolist(), found.score.tolist(), strict=True)) == sorted(
        zip(ranking.item.tolist(), ranking.score.tolist(), strict=True)
    )


@given(lists, st.permutations(range(N_ITEMS)).map(lambda one: one[:4]))
def test_pins_come_first_in_their_order(lists: list[list[int]], rows: list[int]) -> None:
    right = [[row for row in rows if row in one] + [row for row in one if row not in rows] for one in lists]
    assert items_of(pin(ranking_of(lists), np.array(rows))) == right
