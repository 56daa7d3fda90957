"""Co-visitation counts that spread to items of similar text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from recsys.arrays import FloatArray
from recsys.retrieval.covisitation import Covisitation
from recsys.retrieval.index import Index
from recsys.retrieval.registry import RETRIEVERS
from recsys.types import State

if TYPE_CHECKING:
    from scipy import sparse

MAX_EXACT_ITEMS = 100_000  # items up to which each text is compared with all


@RETRIEVERS.register
@dataclass(frozen=True)
class TextCovisitation(Covisitation):
    """Co-visitation between the text neighbours of two items: an item without events inherits from similar ones.

    Each count spreads to the nearest items by text on both sides. See `text_neighbours`.

    Attributes:
        alike: How many text neighbours an item has, itself among them.
        sharpness: How fast a neighbour's weight falls with its distance.
        least: The cosine below which an item is no neighbour.
    """

    name: ClassVar[str] = "text_covisitation"
    alike: int = 20
    sharpness: float = 5.0
    least: float = 0.3

    def matrix(self, state: State) -> Any:
        neighbours = text_neighbours(state.vectors, self.alike, self.sharpness, self.least)
        return spread_counts(neighbours, super().matrix(state), self.neighbours)


def text_neighbours(vectors: FloatArray, keep: int, sharpness: float, min_cosine: float) -> sparse.csr_matrix:
    """Weight each item's nearest items by text, itself among them.

    Above `MAX_EXACT_ITEMS` items, where comparing all with all would take most of a training, the search is approximate
    and may miss a few neighbours.

    Args:
        vectors: The item vectors `(I, d)`, unit rows.
        keep: How many neighbours each item has.
        sharpness: A neighbour's weight is `exp(sharpness * (cosine - 1))`.
        min_cosine: Below this cosine the weight is 0.

    Returns:
        The weights `(I, I)` float32.
    """
    from scipy import sparse

    n_items = len(vectors)
    index = Index.build(vectors) if n_items <= MAX_EXACT_ITEMS else Index.build(vectors, "IVF1024,Flat", "nprobe=64")
    rows, cosine = index.search(vectors, min(keep + 1, n_items))
    weight = np.where(cosine >= min_cosine, np.exp(sharpness * (cosine - 1)), 0)
    owner = np.repeat(np.arange(n_items), rows.shape[1])
    matrix = sparse.csr_matrix(
        (weight.ravel(), (owner, np.maximum(rows.ravel(), 0))), shape=(n_items, n_items), dtype=np.float32
    )
    matrix.eliminate_zeros()
    return matrix


def spread_counts(neighbours: sparse.csr_matrix, counts: sparse.csr_matrix, keep: int) -> sparse.csr_matrix:
    """Spread counts to the neighbours of both items: `neighbours @ counts @ neighbours.T`.

    Args:
        neighbours: The weights of each item's neighbours `(I, I)`.
        counts: The counts `(I, I)`.
        keep: How many values to keep of each row, the greatest.

    Returns:
        The spread counts `(I, I)` float32, the diagonal empty.
    """
    from recsys.retrieval import similarity

    turned = neighbours.T.tocsr()
    work = neighbours @ np.diff(counts.indptr)

    def block(rows: slice) -> sparse.csr_matrix:
        return similarity.clear_diagonal(neighbours[rows] @ counts @ turned, rows.start)

    return similarity.build_by_blocks(work, block, keep)
