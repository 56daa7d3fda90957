"""Scores of any items for one query. An item that is no candidate is scored as if it alone had joined them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recsys.arrays import FloatArray, LongArray
from recsys.engine.model import Model
from recsys.parallel.threads import batches
from recsys.ragged import find_keys
from recsys.ranking.calibration import log_totals
from recsys.ranking.feature_context import Context
from recsys.types import Candidates

TOGETHER = 16_384  # items whose features are held at a time


@dataclass(frozen=True, eq=False)
class CandidateScorer:
    """Scores any items for one query: `own` `(n,)` are the scores of its candidates, those of `context`."""

    model: Model
    context: Context
    own: FloatArray

    @classmethod
    def of(cls, model: Model, context: Context) -> CandidateScorer:
        """Score the candidates of a context."""
        return cls(model, context, model.score(context))

    def score(self, items: LongArray) -> FloatArray:
        """Score any items `(m,)`."""
        place = find_keys(self.context.item, items)
        inside = place >= 0
        score = np.empty(len(items), dtype=np.float32)
        score[inside] = self.own[place[inside]]
        if not inside.all():
            outside, back = np.unique(items[~inside], return_inverse=True)
            score[~inside] = np.concatenate([self._joining(some) for some in batches(outside, TOGETHER)])[back]
        return score

    def probability(self, items: LongArray, score: FloatArray) -> FloatArray:
        """Return the probabilities `(m,)` of items with these scores; NaN without a calibrator.

        An item that is no candidate counts as if it alone had joined them, as in `score`.
        """
        if self.model.calibrator is None:
            return np.full(len(items), np.nan, dtype=np.float32)
        total = log_totals(self.context.candidates, self.own)[0]
        inside = find_keys(self.context.item, items) >= 0
        log_share = score - np.where(inside, total, np.logaddexp(total, score))
        return self.model.calibrator.probability(log_share, np.zeros(len(items), np.int64), self.context.histories)

    def _joining(self, items: LongArray) -> FloatArray:
        """Score distinct ascending items that are no candidates."""
        found = np.full((len(items), self.context.candidates.found.shape[1]), -1, np.int32)
        candidates = Candidates(np.array([0, len(items)]), items.astype(np.int32), found)
        return self.model.score(
            replace(self.context, candidates=candidates, retrieved=None, joining=self.context.scores)
        )
