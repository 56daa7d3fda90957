"""What users touch soon after what: sequential co-visitation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from recsys.config import Choice
from recsys.ragged import offsets_of
from recsys.retrieval.item_to_item import ItemToItem
from recsys.retrieval.registry import RETRIEVERS
from recsys.types import Interactions, State

if TYPE_CHECKING:
    from scipy import sparse


@RETRIEVERS.register
@dataclass(frozen=True)
class Covisitation(ItemToItem):
    """Sequential co-visitation: which items follow which within a few baskets of one user.

    The item-to-item counts of Linden, Smith and York (2003, "Amazon.com Recommendations"), kept apart by direction and
    weighted by distance. See `covisitation_matrix`.

    Attributes:
        window: How many baskets lie between two items at most.
        backward: What a pair is worth from the later item to the earlier one, the other way round being worth 1.
    """

    name: ClassVar[str] = "covisitation"
    window: Annotated[int, Choice((1, 2, 5, 10, 20))] = 5
    backward: Annotated[float, Choice((0.0, 0.5, 1.0))] = 0.5

    def matrix(self, state: State) -> Any:
        return covisitation_matrix(state.interactions, len(state.catalog), self.window, self.backward, self.neighbours)


def covisitation_matrix(
    events: Interactions, n_items: int, window: int, backward: float, keep: int
) -> sparse.csr_matrix:
    """Count which items follow which, divided by the root of both items' counts + 1.

    A pair of items `g` baskets apart adds 1/g forward and `backward`/g back; a pair in one basket adds 1 both ways.

    Args:
        events: The interactions.
        n_items: Items in the catalogue.
        window: How many baskets apart two items may lie.
        backward: The worth of a pair from the later item to the earlier one.
        keep: How many values to keep of each row, the greatest.

    Returns:
        The scaled counts `(I, I)` float32.
    """
    from scipy import sparse

    from recsys.retrieval import similarity

    baskets, user = similarity.basket_matrix(events, n_items)
    count = np.bincount(baskets.indices, minlength=n_items)
    scale = (1 / np.sqrt(count + 1)).astype(np.float32)
    baskets.data *= scale[baskets.indices]
    baskets_of_item = baskets.T.tocsr()
    starts = offsets_of(np.bincount(user, minlength=events.n_users))
    ahead = np.arange(1, window + 1)
    gaps = np.concatenate([[0], ahead, -ahead] if backward else [[0], ahead]).astype(np.int32)
    worth = np.concatenate([[1], 1 / ahead, backward / ahead])[: len(gaps)].astype(np.float32)

    def block(rows: slice) -> sparse.csr_matrix:
        """Spread each item's baskets over the baskets around them, all gaps at once, and sum the items of those."""
        own = baskets_of_item[rows]
        near, same_user = similarity.baskets_at_gaps(own.indices, gaps, user, starts)
        ends = offsets_of(same_user.sum(axis=1))[own.indptr]
        around = sparse.csr_matrix(((own.data[:, None] * worth)[same_user], near[same_user], ends), shape=own.shape)
        return similarity.clear_diagonal(around @ baskets, rows.start)

    return similarity.build_by_blocks(count * len(gaps), block, keep)
