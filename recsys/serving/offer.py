"""What the model thinks of any item for one asker: a candidate as it stands, another as if it alone had joined."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from recsys.engine.model import Model
from recsys.engine.training import batches
from recsys.ranking.features import Context
from recsys.retrieval.candidates import find_keys
from recsys.types import Candidates, FloatArray, LongArray

TOGETHER = 16_384  # items whose features are held at a time


class Offer:
    """One asker's candidates, those of `context`, and their scores `(n,)`: computed where they are not at hand."""

    def __init__(self, model: Model, context: Context, score: FloatArray | None = None) -> None:
        self._model, self._context = model, context
        self._listed = model.score(context) if score is None else score

    def score(self, items: LongArray) -> FloatArray:
        """Score any items `(m,)`."""
        place = find_keys(self._context.item, items)
        own = place >= 0
        score = np.empty(len(items), dtype=np.float32)
        score[own] = self._listed[place[own]]
        if not own.all():
            outside, back = np.unique(items[~own], return_inverse=True)
            score[~own] = np.concatenate([self._joining(some) for some in batches(outside, TOGETHER)])[back]
        return score

    def probability(self, items: LongArray, score: FloatArray) -> FloatArray:
        """Return the probabilities `(m,)` of items that `score` gave these scores; NaN without a calibrator."""
        place = find_keys(self._context.item, items)
        own = place >= 0
        probability = np.empty(len(items), dtype=np.float32)
        probability[own] = self._probability[place[own]]
        if not own.all():
            probability[~own] = self._model.probability_outside(self._context, self._listed, score[~own])
        return probability

    @cached_property
    def _probability(self) -> FloatArray:
        return self._model.probability(self._context, self._listed)

    def _joining(self, items: LongArray) -> FloatArray:
        """Score distinct items that nobody proposed. Together they would push each other about, and so their scores."""
        own = self._context
        nobody = np.full((len(items), own.candidates.found.shape[1]), -1, np.int32)
        candidates = Candidates(np.array([0, len(items)]), items.astype(np.int32), nobody)
        return self._model.score(Context(own.histories, candidates, own.answers, own.vectors, among=own))
