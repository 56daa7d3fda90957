"""Item-based nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from recsys.config import Choice
from recsys.ragged import owners_of
from recsys.retrieval.base import Decay, Newest
from recsys.retrieval.item_to_item import ItemToItem
from recsys.retrieval.registry import RETRIEVERS
from recsys.types import Interactions, State

if TYPE_CHECKING:
    from scipy import sparse


@RETRIEVERS.register
@dataclass(frozen=True)
class ItemKNN(ItemToItem):
    """Item-based nearest neighbours (Sarwar et al. 2001): the cosine between the user sets of two items.

    Attributes:
        shrink: Added to the denominator, so that a cosine of a few users counts less.
    """

    name: ClassVar[str] = "item_knn"
    decay: Decay = 1.0
    newest: Newest = 200
    shrink: Annotated[float, Choice((1.0, 10.0, 50.0))] = 10.0

    def matrix(self, state: State) -> Any:
        return user_set_cosines(state.interactions, len(state.catalog), self.shrink, self.neighbours)


def user_set_cosines(events: Interactions, n_items: int, shrink: float, keep: int) -> sparse.csr_matrix:
    """Compare the user sets of items.

    Args:
        events: The interactions.
        n_items: Items in the catalogue.
        shrink: Added to the denominator.
        keep: How many values to keep of each row, the greatest.

    Returns:
        The cosines `(I, I)` float32, those of an item with itself among them.
    """
    from recsys.retrieval import similarity

    users = similarity.binary_rows(events.offsets, events.item, n_items)
    norm = np.sqrt(np.bincount(users.indices, minlength=n_items)).astype(np.float32)
    items = users.T.tocsr()

    def block(rows: slice) -> sparse.csr_matrix:
        overlap = (items[rows] @ users).tocsr()
        overlap.data /= norm[rows][owners_of(overlap.indptr)] * norm[overlap.indices] + shrink
        return overlap

    return similarity.build_by_blocks(items @ np.diff(users.indptr), block, keep)
