"""From one request to one ranked list: conditions, candidates, scores, pins, boosts, diversity and caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np

from recsys.arrays import FloatArray
from recsys.engine.candidate_scores import CandidateScorer
from recsys.engine.model import Model
from recsys.ragged import find_keys
from recsys.ranking.feature_context import Context, side_by_side
from recsys.ranking.fusion import standard_sum
from recsys.retrieval.index import Index
from recsys.serving.conditions import ConditionReader, Conditions, ListConditions, count_shortage
from recsys.serving.lookup import EntityLookup
from recsys.serving.recommendations import Shortage
from recsys.serving.requests import Events
from recsys.serving.text_query import TextEncoder, TextHits, text_of
from recsys.serving.unknown import UnknownItems
from recsys.types import Candidates, Histories, Id, Ranking


class Request(ListConditions, total=False):
    """The conditions of a request: the arguments of `Recommender.recommend` beside the user and `k`."""

    history: Events | None
    context: Mapping[str, Any] | None
    strict: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """A ranked list and what led to it.

    Attributes:
        histories: The history of the user, with the events of the request.
        context: The candidates of the request, as the features see them.
        x: Features of these candidates `(n, f)`.
        unfiltered: The candidates that the user would have without `where`, `candidates`, `exclude` and `variants`.
        scored_candidates: The candidates and the pinned items.
        ranking: The list.
        text_hits: What the text of the request found; None without a text.
        conditions: The conditions of the request.
        ignored: The unknown items that were left out, by the argument that named them.
    """

    histories: Histories
    context: Context
    x: FloatArray
    unfiltered: CandidateScorer
    scored_candidates: Candidates
    ranking: Ranking
    text_hits: TextHits | None
    conditions: Conditions
    ignored: Mapping[str, list[Id]]


class RequestPipeline:
    """Answers requests with one model. Read-only, so threads may share it."""

    def __init__(self, model: Model, lookup: EntityLookup, reader: ConditionReader, encoder: TextEncoder) -> None:
        self._model, self._lookup, self._reader, self._encoder = model, lookup, reader, encoder
        self._n_items = len(model.retrieval.vectors)

    def answer(self, user_id: Id, k: int, **request: Unpack[Request]) -> Answer:
        """Rank for one user.

        Args:
            user_id: The user.
            k: The most items to return.
            **request: The conditions, as in `Recommender.recommend`.

        Raises:
            RequestError: A condition cannot be understood.
            UnknownIdError: The bundle does not hold an item, or with `strict` the user.
            ArtifactError: There is a text, and the encoder is not the one of the bundle.
        """
        k = min(k, self._n_items)
        text = text_of(request.get("context"))
        unknown = UnknownItems(request.get("unknown", "refuse"))
        conditions = self._reader.read(request, unknown)
        histories = self._lookup.history_for_request(user_id, request.get("history"), request.get("strict", False),
                                                     unknown)  # fmt: skip
        retrieval, one = self._model.retrieval, conditions.one_variant
        context = retrieval.context(histories, conditions.offered, conditions.excluded_rows, conditions.rerank,
                                    one_variant=one)  # fmt: skip
        text_hits = None if text is None else TextHits.of(self._encoder.encode(text), context, self._index)
        if text_hits is not None:
            context = text_hits.join(context)
        everything = context
        if text_hits is None and (conditions.filters or one):
            everything = retrieval.context(histories, answers=context.answers)
        # One pass of the model for both lists of candidates.
        x = self._model.featurizer.compute(context if everything is context else side_by_side([context, everything]))
        scores = self._model.scorer.score(x)
        x, own = x[: len(context.item)], scores[: len(context.item)]
        unfiltered = CandidateScorer(self._model, everything, scores[len(scores) - len(everything.item) :])
        if text_hits is not None:
            own = standard_sum(context.candidates.offsets, [own, text_hits.score(context)])
        scored, ranking = conditions.order(self._model, context, own, k)
        return Answer(histories, context, x, unfiltered, scored, ranking, text_hits, conditions, unknown.ignored)

    def probability(self, answer: Answer) -> FloatArray:
        """Return the probability of each item of a list `(n,)`, NaN for an item that only filled it.

        A filter leaves few candidates, and a share among those would be too high: what counts is the share among all
        candidates that the user would have without the filter. The calibrator never saw a text, so with one all are
        NaN.
        """
        items = answer.ranking.item.astype(np.int64)
        probability = np.full(len(items), np.nan, dtype=np.float32)
        if answer.text_hits is not None or self._model.calibrator is None:
            return probability
        scored = find_keys(answer.scored_candidates.item, items) >= 0
        owner = np.zeros(int(scored.sum()), dtype=np.int64)
        probability[scored] = answer.unfiltered.probability(owner, items[scored])
        return probability

    def shortage(self, k: int, answer: Answer) -> Shortage | None:
        """Count why a list is shorter than `k`; None where it is not."""
        given = len(answer.ranking.item)
        if given >= k:
            return None
        return count_shortage(answer.conditions, answer.context.blocked_pairs, k, given, self._n_items)

    @cached_property
    def _index(self) -> Index:
        """The index that encoded texts are searched in: that of a retriever over text vectors, or a new exact one."""
        shared = (fitted.text_index for fitted in self._model.retrieval.fitted.values())
        return next((index for index in shared if index is not None), None) or Index(self._model.retrieval.vectors)
