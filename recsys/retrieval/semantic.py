"""Items whose text vectors lie near those of the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from recsys.arrays import FloatArray, unit_rows
from recsys.ragged import offsets_of
from recsys.retrieval.base import Arrays, Decay, Depth, Fitted, Newest, Stored, decayed, ragged_sums
from recsys.retrieval.index import AUTO, FLOOR, QUERIES, Index, mixtures
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.vector_search import VectorAnswer, index_arrays, restored_index, sample_histories
from recsys.types import Histories, State


@dataclass(frozen=True)
class FittedSemantic:
    """Item vectors `(I, d)` and their index (None where the retriever only scores)."""

    vectors: FloatArray
    index: Index | None
    decay: float
    newest: int
    query: str

    def ask(self, histories: Histories) -> VectorAnswer:
        rows, weight = decayed(histories, self.decay, self.newest)
        offsets = offsets_of(np.bincount(histories.owner[rows], minlength=len(histories)))
        queries = unit_rows(ragged_sums(weight, self.vectors, offsets, histories.item[rows]))
        if self.query == "text" and histories.text_vectors is not None:
            told = np.abs(histories.text_vectors).sum(axis=1) > 0
            queries = np.where(told[:, None], histories.text_vectors, queries)
        return VectorAnswer(queries, self.vectors, self.index)

    def arrays(self) -> Arrays:
        return index_arrays(self.index)


@RETRIEVERS.register
@dataclass(frozen=True)
class Semantic:
    """Items whose text vectors lie nearest to the decayed sum of the history's, by inner product in FAISS.

    With `query: text` the query's own encoded behaviour text is the query (the sum stands in where there is none).
    `index` is `auto` (exact while that takes a few milliseconds), `Flat` (exact) or a FAISS factory string, `search`
    how far it looks (`nprobe=32`, `efSearch=256`); an approximate index that finds less than `floor` of the true 100
    nearest is refused when it is built. Events only tell how far it must look.
    """

    name: ClassVar[str] = "semantic"
    refit_per_cut: ClassVar[bool] = False
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
        queries = self.index_tuning_queries(state)
        return self._over(
            state.vectors, Index.build_measured(state.vectors, queries, self.index, self.search, self.floor)
        )

    def index_tuning_queries(self, state: State) -> FloatArray:
        """What an index is measured with `(q, d)`: queries of known histories, and mixtures where these are few."""
        pooled = self._over(state.vectors, None).ask(sample_histories(state.interactions, self.newest)).queries
        return np.concatenate([pooled, mixtures(state.vectors, QUERIES - len(pooled))])

    def restore(self, arrays: Stored, vectors: FloatArray) -> FittedSemantic:
        return self._over(vectors, restored_index(arrays, vectors, self.index) if self.depth else None)

    @property
    def needs_user_text(self) -> str | None:
        """The setting that needs encoded behaviour texts; None where none does."""
        return "query: 'text'" if self.query == "text" else None

    def _over(self, vectors: FloatArray, index: Index | None) -> FittedSemantic:
        return FittedSemantic(vectors, index, self.decay, self.newest, self.query)

    def grow(self, arrays: Stored, state: State) -> Stored:
        if "index" not in arrays:
            return {}
        queries = self.index_tuning_queries(state)
        return {"index": Index.grown(arrays["index"], state.vectors, queries, self.index, self.floor).to_bytes()}
