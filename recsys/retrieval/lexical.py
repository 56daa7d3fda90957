"""Items that share rare words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from recsys.embedding.texts import item_texts
from recsys.embedding.words import split_words
from recsys.extras import require
from recsys.retrieval.base import Newest, Stored
from recsys.retrieval.item_to_item import FittedItemToItem, ItemToItem
from recsys.retrieval.registry import RETRIEVERS
from recsys.types import Catalog, State

if TYPE_CHECKING:
    from scipy import sparse


@RETRIEVERS.register
@dataclass(frozen=True)
class Lexical(ItemToItem):
    """Items whose titles and brands share rare words, by the cosine of their TF-IDF vectors.

    What an encoder smooths over counts here: a brand, a shade, a model number. See `word_cosines`.

    Attributes:
        most_items: A word that more items have is ignored.
    """

    name: ClassVar[str] = "lexical"
    refit_per_cut: ClassVar[bool] = False
    newest: Newest = 10
    neighbours: int = 200
    most_items: int = 5_000

    def matrix(self, state: State) -> Any:
        return word_cosines(state.catalog, self.most_items, self.neighbours)

    def grow(self, arrays: Stored, state: State) -> Stored:
        """Compare the new items with all, by how rare words are now."""
        require("train", "adding items to the retriever lexical", "scipy", "sklearn")
        from scipy import sparse

        old = len(arrays["indptr"]) - 1
        padded = super().grow(arrays, state)
        before = FittedItemToItem(padded["indptr"], padded["indices"], padded["data"], self.decay, self.newest).matrix
        new = word_cosines(state.catalog, self.most_items, self.neighbours, first=old).tocoo()
        # The cosine is the same both ways: what a new item says of an old one, the old one says of it.
        of_old = new.col < old
        turned = sparse.csr_matrix((new.data[of_old], (new.col[of_old], new.row[of_old])), shape=new.shape)
        return FittedItemToItem.from_matrix((before + new + turned).tocsr(), self.decay, self.newest).arrays()

    @property
    def topic(self) -> str | None:
        return "text"


def word_cosines(catalog: Catalog, most_items: int, keep: int, first: int = 0) -> sparse.csr_matrix:
    """Compare the TF-IDF vectors of titles and brands (Salton and Buckley 1988, sublinear counts).

    Words are those of `split_words`: runs of letters and digits, and pairs of characters where a script sets no spaces.

    Args:
        catalog: The items.
        most_items: A word that more items have is ignored.
        keep: How many values to keep of each row, the greatest.
        first: Only items from this row on are compared with all; the rows before it stay empty.

    Returns:
        The cosines `(I, I)` float32, the diagonal empty.
    """
    require("train", "the retriever lexical", "scipy", "sklearn")
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    from recsys.retrieval import similarity

    texts = item_texts(catalog, ["title", "brand"])
    n_items = len(texts)
    vectorizer = TfidfVectorizer(analyzer=split_words, sublinear_tf=True, max_df=most_items, dtype=np.float32)
    try:
        words = vectorizer.fit_transform(texts).tocsr()
    except ValueError:  # no word is left
        return sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    turned = words.T.tocsr()
    work = (words > 0) @ np.diff(turned.indptr)

    def block(rows: slice) -> sparse.csr_matrix:
        return similarity.clear_diagonal(words[rows] @ turned, rows.start)

    return similarity.build_by_blocks(work, block, keep, first)
