"""Items whose text vectors lie near those of the history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from recsys.array_checks import ArrayChecks
from recsys.arrays import FloatArray, unit_rows
from recsys.ragged import offsets_of
from recsys.retrieval.base import Arrays, Decay, Depth, Fitted, Newest, Retriever, Stored, decayed_events
from recsys.retrieval.index import Index
from recsys.retrieval.index_spec import AUTO, FLOOR, TUNING_QUERIES, IndexSpec, synthetic_queries
from recsys.retrieval.ragged_products import ragged_sums
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.vector_search import VectorAnswer, check_index, index_arrays, restore_index, sample_histories
from recsys.types import Histories, State


@dataclass(frozen=True)
class FittedSemantic(Fitted):
    """Item vectors `(I, d)` and their index (None where the retriever only scores)."""

    vectors: FloatArray
    decay: float
    newest: int
    query: str
    index: Index | None = None

    def ask(self, histories: Histories) -> VectorAnswer:
        rows, weight = decayed_events(histories, self.decay, self.newest)
        offsets = offsets_of(np.bincount(histories.owner[rows], minlength=len(histories)))
        queries = unit_rows(ragged_sums(weight, self.vectors, offsets, histories.item[rows]))
        if self.query == "text" and histories.text_vectors is not None:
            has_text = np.abs(histories.text_vectors).sum(axis=1) > 0
            queries = np.where(has_text[:, None], histories.text_vectors, queries)
        return VectorAnswer(queries, self.vectors, self.index)

    def arrays(self) -> Arrays:
        return index_arrays(self.index)

    @property
    def text_index(self) -> Index | None:
        return self.index

    def with_exact_index(self) -> FittedSemantic:
        return replace(self, index=None if self.index is None else Index(self.vectors))


@RETRIEVERS.register
@dataclass(frozen=True)
class Semantic(Retriever):
    """Items whose text vectors lie nearest to the decayed sum of the history's, by inner product in FAISS.

    It learns from the catalogue alone; events only decide how widely an approximate index searches.

    Attributes:
        decay: How much an event counts for each later basket of its history, to the power of their number.
        newest: How many events of a history count.
        query: `pool` asks with the decayed sum; `text` with the user's encoded behaviour text, or with the sum where
            there is none.
        index: `auto` (exact while that takes a few milliseconds), `Flat` (exact) or a FAISS factory string.
        search: How widely the index searches, as FAISS writes it (`nprobe=32`, `efSearch=256`).
        floor: An approximate index that finds less than this share of the true 100 nearest is refused when it is built.
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
        return self._over(state.vectors, self.index_spec(state).build() if self.depth else None)

    def index_spec(self, state: State) -> IndexSpec:
        return IndexSpec(state.vectors, self.index_tuning_queries(state), self.index, self.search, self.floor)

    def index_tuning_queries(self, state: State) -> FloatArray:
        """The queries `(q, d)` that an index is measured with: those of known histories, synthetic ones beside them."""
        pooled = self._over(state.vectors, None).ask(sample_histories(state.interactions, self.newest)).queries
        return np.concatenate([pooled, synthetic_queries(state.vectors, TUNING_QUERIES - len(pooled))])

    def restore(self, arrays: Stored, vectors: FloatArray) -> FittedSemantic:
        return self._over(vectors, restore_index(arrays, vectors, self.index) if self.depth else None)

    def _over(self, vectors: FloatArray, index: Index | None) -> FittedSemantic:
        return FittedSemantic(vectors, self.decay, self.newest, self.query, index)

    def grow(self, arrays: Stored, state: State) -> Stored:
        return {"index": self.index_spec(state).extend(arrays["index"]).to_bytes()} if "index" in arrays else {}

    def check_arrays(self, checks: ArrayChecks) -> None:
        check_index(checks)

    @property
    def needs_user_text(self) -> str | None:
        return "query: 'text'" if self.query == "text" else None

    @property
    def topic(self) -> str | None:
        return "text"
