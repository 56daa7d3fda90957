"""Scores of any items for any queries. An item that is no candidate is scored as if it alone had joined them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recsys.arrays import FloatArray, LongArray, Rows
from recsys.engine.model import Model
from recsys.parallel.threads import batches
from recsys.ragged import find_keys, offsets_of, pair_keys
from recsys.ranking.calibration import log_totals
from recsys.ranking.feature_context import Context
from recsys.types import Candidates

TOGETHER = 16_384  # items whose features are held at a time


@dataclass(frozen=True, eq=False)
class CandidateScorer:
    """Scores any items for the queries of `context`: `own` `(n,)` are the scores of its candidates."""

    model: Model
    context: Context
    own: FloatArray

    @classmethod
    def of(cls, model: Model, context: Context) -> CandidateScorer:
        """Score the candidates of a context."""
        return cls(model, context, model.score(context))

    def score(self, owner: LongArray, item: Rows) -> FloatArray:
        """Score any (query, item) pairs `(m,)`."""
        keys, place = self._find(owner, item)
        inside = place >= 0
        score = np.empty(len(keys), dtype=np.float32)
        score[inside] = self.own[place[inside]]
        if not inside.all():
            outside, back = np.unique(keys[~inside], return_inverse=True)
            some = [score_joining(self.model, self.context, part) for part in batches(outside, TOGETHER)]
            score[~inside] = np.concatenate(some)[back]
        return score

    def probability(self, owner: LongArray, item: Rows, score: FloatArray | None = None) -> FloatArray:
        """Return the probabilities `(m,)` of (query, item) pairs, with their scores where known.

        An item that is no candidate counts as if it alone had joined them, as in `score`. NaN without a calibrator.
        """
        if self.model.calibrator is None:
            return np.full(len(item), np.nan, dtype=np.float32)
        score = self.score(owner, item) if score is None else score
        total = log_totals(self.context.candidates, self.own)[owner]
        inside = self._find(owner, item)[1] >= 0
        log_share = score - np.where(inside, total, np.logaddexp(total, score))
        return self.model.calibrator.probability(log_share, owner, self.context.histories)

    def _find(self, owner: LongArray, item: Rows) -> tuple[LongArray, LongArray]:
        """Return the keys of some pairs, and the place of each among the candidates; -1 where it is none."""
        n_items = self.context.n_items
        keys = pair_keys(owner, item, n_items)
        return keys, find_keys(pair_keys(self.context.owner, self.context.item, n_items), keys)


def score_joining(model: Model, context: Context, keys: LongArray) -> FloatArray:
    """Score items that are no candidates, each as if it alone had joined the list of its query.

    `keys` `(m,)` are ascending and distinct (see `pair_keys`).
    """
    owner, item = np.divmod(keys, context.n_items)
    offsets = offsets_of(np.bincount(owner, minlength=len(context.histories)))
    found = np.full((len(keys), context.candidates.found.shape[1]), -1, np.int32)
    candidates = Candidates(offsets, item.astype(np.int32), found)
    return model.score(replace(context, candidates=candidates, retrieved=None, joining=context))


def with_items(model: Model, context: Context, score: FloatArray, rows: LongArray) -> tuple[Candidates, FloatArray]:
    """Put some items, where they may be shown, among the candidates of every query.

    Args:
        model: The model.
        context: The candidates of the queries.
        score: What the candidates are ranked by `(n,)`.
        rows: Distinct rows of the items `(m,)`. A new one is scored as if it alone had joined the candidates.

    Returns:
        The candidates with them, and the score of each.
    """
    listed, n_lists = context.candidates, len(context.candidates.offsets) - 1
    rows = np.sort(rows if context.allowed is None else rows[context.allowed.holds(rows)])
    keys = pair_keys(np.repeat(np.arange(n_lists), len(rows)), np.tile(rows, n_lists), context.n_items)
    listed_keys = pair_keys(listed.owner, listed.item, context.n_items)
    keys = keys[(find_keys(listed_keys, keys) < 0) & (find_keys(context.blocked_pairs, keys) < 0)]
    if not len(keys):
        return listed, score
    owner, item = np.divmod(keys, context.n_items)
    offsets = offsets_of(np.bincount(owner, minlength=n_lists))
    order = np.argsort(np.concatenate([listed_keys, keys]), kind="stable")
    found = np.concatenate([listed.found, np.full((len(keys), listed.found.shape[1]), -1, np.int32)])[order]
    items = np.concatenate([listed.item, item.astype(np.int32)])[order]
    score = np.concatenate([score, score_joining(model, context, keys)])[order]
    return Candidates(listed.offsets + offsets, items, found), score
