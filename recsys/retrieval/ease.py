"""EASE: a linear autoencoder in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from recsys.arrays import FloatArray
from recsys.config import Choice
from recsys.retrieval.item_to_item import ItemToItem
from recsys.retrieval.registry import RETRIEVERS
from recsys.types import Interactions, State

if TYPE_CHECKING:
    from scipy import sparse


@RETRIEVERS.register
@dataclass(frozen=True)
class Ease(ItemToItem):
    """EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data"), over the most frequent items.

    Attributes:
        penalty: The L2 penalty of the weights.
        max_items: How many items take part, the most frequent: the solution is dense.
    """

    name: ClassVar[str] = "ease"
    penalty: Annotated[float, Choice((30.0, 100.0, 300.0))] = 100.0
    max_items: int = 12_500

    def matrix(self, state: State) -> Any:
        return ease_weights(state.interactions, len(state.catalog), self.penalty, self.max_items, self.neighbours)


def ease_weights(events: Interactions, n_items: int, penalty: float, max_items: int, keep: int) -> sparse.csr_matrix:
    """Solve the linear autoencoder without self-weights.

    Args:
        events: The interactions.
        n_items: Items in the catalogue.
        penalty: The L2 penalty of the weights.
        max_items: How many of the most frequent items take part.
        keep: How many values to keep of each row, the greatest above 0.

    Returns:
        The weights `(I, I)` float32, the diagonal empty.

    Raises:
        ConfigError: The penalty is too small for the counts to be inverted.
    """
    from recsys.retrieval import similarity

    chosen = similarity.most_frequent(events, n_items, max_items)
    users = similarity.binary_rows(events.offsets, events.item, n_items)[:, chosen]
    inverse = similarity.ridge_inverse((users.T @ users).toarray(), penalty)
    weights: FloatArray = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return similarity.top_weights(weights, chosen, n_items, keep)
