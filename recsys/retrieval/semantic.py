"""Items whose text vectors lie near those of the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from recsys.arrays import FloatArray, unit_rows
from recsys.ragged import offsets_of
from recsys.retrieval.base import Arrays, Decay, Depth, Fitted, Newest, Stored, decayed, ragged_sums
from recsys.retrieval.index import AUTO, FLOOR, QUERIES, Index, mixtures
from recsys.retrieval.vector_search import SemanticAnswer, _index_arrays, _restored, _some
from recsys.types import Histories, State


@dataclass(frozen=True)
class FittedSemantic:
    """Item vectors `(I, d)` and their index (None where the retriever only scores)."""

    vectors: FloatArray
    index: Index | None
    decay: float
    newest: int
    query: str

    def ask(self, histories: Histories) -> SemanticAnswer:
        rows, weight = decayed(histories, self.decay, self.newest)
        offsets = offsets_of(np.bincount(histories.owner[rows], minlength=len(histories)))
        queries = unit_rows(ragged_sums(weight, self.vectors, offsets, histories.item[rows]))
        if self.query == "text" and histories.text_vectors is not None:
            told = np.abs(histories.text_vectors).sum(axis=1) > 0
            queries = np.where(told[:, None], histories.text_vectors, queries)
        return SemanticAnswer(queries, self.vectors, self.index)

    def arrays(self) -> Arrays:
        return _index_arrays(self.index)


@dataclass(frozen=True)
class Semantic:
    """Items whose text vectors lie nearest to the decayed sum of the history's, by inner product in FAISS.

    With `query: text` the asker's own encoded behaviour text is the query (the sum stands in where there is none).
    `index` is `auto` (exact while that takes a few milliseconds), `Flat` (exact) or a FAISS factory string, `search`
    how far it looks (`nprobe=32`, `efSearch=256`); an approximate index that finds less than `floor` of the true 100
    nearest is refused when it is built. Events only tell how far it must look.
    """

    dated: ClassVar[bool] = False
    depth: Depth = 200
    decay: Decay = 0.8
    newest: Newest = 10
    query: Literal["pool", "text"] = "pool"
    index: str = AUTO
    search: str = ""
    floor: float = FLOOR

    def fit(self, state: State) -> Fitted:
        if not self.depth:
            return self._over(state.vectors, None)
        queries = self.asked(state)
        return self._over(state.vectors, Index.chosen(state.vectors, queries, self.index, self.search, self.floor))

    def asked(self, state: State) -> FloatArray:
        """What an index is measured with `(q, d)`: queries of known histories, and mixtures where these are few."""
        pooled = self._over(state.vectors, None).ask(_some(state.interactions, self.newest)).queries
        return np.concatenate([pooled, mixtures(state.vectors, QUERIES - len(pooled))])

    def restore(self, arrays: Stored, vectors: FloatArray) -> FittedSemantic:
        return self._over(vectors, _restored(arrays, vectors, self.index) if self.depth else None)

    def _over(self, vectors: FloatArray, index: Index | None) -> FittedSemantic:
        return FittedSemantic(vectors, index, self.decay, self.newest, self.query)

    def grow(self, arrays: Stored, state: State) -> Stored:
        if "index" not in arrays:
            return {}
        queries = self.asked(state)
        return {"index": Index.grown(arrays["index"], state.vectors, queries, self.index, self.floor).to_bytes()}
