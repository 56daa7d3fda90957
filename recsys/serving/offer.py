"""What the model thinks of any item for one asker: a candidate as it stands, another as if it alone had joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys.engine.model import Model
from recsys.engine.training import batches
from recsys.ranking.features import Context
from recsys.retrieval.candidates import find_keys
from recsys.types import Candidates, FloatArray, LongArray

TOGETHER = 16_384  # items whose features are held at a time


class Offer:
    """One asker's candidates, those of `context`; `score` `(n,)` are theirs, computed when asked for if not at hand."""

    def __init__(self, model: Model, context: Context, score: FloatArray | None = None) -> None:
        self._model, self._context, self._listed = model, context, score

    def score(self, items: LongArray) -> FloatArray:
        """Score any items `(m,)`."""
        place = find_keys(self._context.item, items)
        own = place >= 0
        outside, back = np.unique(items[~own], return_inverse=True)
        joining = [self._joining(some) for some in batches(outside, TOGETHER)]
        score = np.empty(len(items), dtype=np.float32)
        if joining:
            score[~own] = np.concatenate(joining)[back]
        score[own] = self._own()[place[own]]
        return score

    def probability(self, items: LongArray, score: FloatArray) -> FloatArray:
        """Return the probabilities `(m,)` of items that `score` gave these scores; NaN without a calibrator."""
        place = find_keys(self._context.item, items)
        own = place >= 0
        probability = np.empty(len(items), dtype=np.float32)
        if own.any():
            probability[own] = self._model.probability(self._context, self._own())[place[own]]
        if not own.all():
            probability[~own] = self._model.probability_outside(self._context, self._own(), score[~own])
        return probability

    def _own(self) -> FloatArray:
        """The scores of the candidates."""
        if self._listed is None:
            self._listed = self._model.score(self._context)
        return self._listed

    def _joining(self, items: LongArray) -> FloatArray:
        """Score distinct items that nobody proposed, and the candidates with them: in one pass."""
        own = self._context
        item = np.concatenate([own.item, items.astype(np.int32)])
        order = np.argsort(item)
        proposed = order < len(own.item)
        found = np.full((len(item), own.candidates.found.shape[1]), -1, np.int32)
        found[proposed] = own.candidates.found
        candidates = Candidates(np.array([0, len(item)]), item[order], found)
        score = self._model.score(replace(own, candidates=candidates, proposed=proposed))
        self._listed = score[proposed]
        return score[~proposed]
