"""SLIT: a linear model from a decayed history to what comes next, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from recsys.arrays import FloatArray, LongArray
from recsys.config import Choice
from recsys.ragged import offsets_of
from recsys.retrieval.item_to_item import ItemToItem
from recsys.retrieval.registry import RETRIEVERS
from recsys.types import Interactions, State

if TYPE_CHECKING:
    from scipy import sparse

BASKETS_PER_BLOCK = 1 << 20  # the histories at all baskets at once would be many times the log
MIN_ZEROS = 32  # a product of matrices in which one number in so many is not 0 is faster dense
TARGET_DECAY = 0.7  # for each basket that a target lies further ahead


@RETRIEVERS.register
@dataclass(frozen=True)
class Slit(ItemToItem):
    """SLIT, the transition half of SLIST, over the most frequent items.

    Choi et al. 2021, "Session-aware Linear Item-Item Models for Session-based Recommendation".

    Attributes:
        penalty: The L2 penalty of the weights.
        max_items: How many items take part, the most frequent: the solution is dense.
        source_decay: How much a basket of the history counts for each later one, to the power of their number.
        ahead: How many of the next baskets are predicted.
        span: How many of the newest baskets predict.
    """

    name: ClassVar[str] = "slit"
    penalty: Annotated[float, Choice((5.0, 20.0, 80.0))] = 20.0
    max_items: int = 12_500
    source_decay: Annotated[float, Choice((0.3, 0.5, 0.7))] = 0.5
    ahead: int = 5
    span: int = 8

    def matrix(self, state: State) -> Any:
        return transition_weights(state.interactions, len(state.catalog), self.penalty, self.max_items,
                                  self.source_decay, self.ahead, self.span, self.neighbours)  # fmt: skip


def transition_weights(events: Interactions, n_items: int, penalty: float, max_items: int,
                       decay: float, ahead: int, span: int, keep: int) -> sparse.csr_matrix:  # fmt: skip
    """Solve the ridge regression from a decayed history to what came next, at every basket.

    Args:
        events: The interactions.
        n_items: Items in the catalogue.
        penalty: The L2 penalty of the weights.
        max_items: How many of the most frequent items take part.
        decay: How much a basket of the history counts for each later one.
        ahead: How many of the next baskets are predicted.
        span: How many of the newest baskets predict.
        keep: How many values to keep of each row, the greatest above 0.

    Returns:
        The weights `(I, I)` float32.

    Raises:
        ConfigError: The penalty is too small for the counts to be inverted.
    """
    from scipy import sparse

    from recsys.retrieval import similarity

    chosen = similarity.most_frequent(events, n_items, max_items)
    baskets, user = similarity.basket_matrix(events, n_items)
    baskets = baskets[:, chosen]
    starts = offsets_of(np.bincount(user, minlength=events.n_users))

    def sum_at_gaps(basket: LongArray, gaps: LongArray, worth: FloatArray) -> sparse.csr_matrix:
        """Add up, for each basket, those at some gaps from it: `(n, chosen)`."""
        near, same_user = similarity.baskets_at_gaps(basket, gaps, user, starts)
        parts = (np.broadcast_to(worth, near.shape)[same_user], near[same_user], offsets_of(same_user.sum(axis=1)))
        return sparse.csr_matrix(parts, shape=(len(near), len(user))) @ baskets

    back, forward = np.arange(span), np.arange(1, ahead + 1)
    past, coming = (decay**back).astype(np.float32), (TARGET_DECAY ** (forward - 1)).astype(np.float32)
    gram = np.zeros((len(chosen), len(chosen)), dtype=np.float32)
    cross = sparse.csr_matrix(gram.shape, dtype=np.float32)
    for start in range(0, len(user), BASKETS_PER_BLOCK):
        block = np.arange(start, min(start + BASKETS_PER_BLOCK, len(user)))
        source = sum_at_gaps(block, -back, past)
        gram += (source.T @ source).toarray()
        cross += sum_at_gaps(block, forward, coming).T @ source
    # The transpose of (target' source) inverse is the solution: while what follows what is sparse, that is far cheaper
    # than a dense solve.
    is_sparse = cross.nnz < gram.size / MIN_ZEROS
    solution = (cross.tocsr() if is_sparse else cross.toarray()) @ similarity.ridge_inverse(gram, penalty)
    return similarity.top_weights(solution.T, chosen, n_items, keep)
