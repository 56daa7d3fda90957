"""From one request to one ranked list: conditions, candidates, scores, pins, boosts, diversity and caps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict, Unpack

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.engine.candidate_scores import CandidateScorer
from recsys.engine.model import Model
from recsys.ragged import find_keys
from recsys.ranking.diversity import diversify, pin
from recsys.ranking.feature_context import Context, side_by_side
from recsys.ranking.fusion import standard_sum
from recsys.ranking.rules import best, cut
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.index import Index
from recsys.serving import requests
from recsys.serving.filters import Filters, Where
from recsys.serving.lookup import EntityLookup
from recsys.serving.recommendations import Shortage
from recsys.serving.requests import Events
from recsys.serving.text_query import TextEncoder, TextHits, text_of
from recsys.types import Candidates, Histories, Id, Ranking


class Request(TypedDict, total=False):
    """The conditions of a request: the arguments of `Recommender.recommend` beside the user and `k`."""

    history: Events | None
    context: Mapping[str, Any] | None
    candidates: Iterable[Id] | None
    exclude: Iterable[Id] | None
    where: Where | None
    caps: Mapping[str, int] | None
    pinned: Iterable[Id] | None
    boosts: Mapping[Id, float] | None
    diversity: float
    strict: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """A ranked list and what led to it.

    Attributes:
        histories: The history of the user, with the events of the request.
        context: The candidates of the request, as the features see them.
        x: Features of these candidates `(n, f)`.
        unfiltered: The candidates that the user would have without `where`, `candidates` and `exclude`.
        scored_candidates: The candidates and the pinned items.
        ranking: The list.
        text_hits: What the text of the request found; None without a text.
        matching: The items that meet `where`; None where all do.
        offered: Those of them that are among `candidates`; None where all are.
        excluded_rows: Rows of the items in `exclude`.
        pinned_rows: Rows of the pinned items, in the order of the request.
    """

    histories: Histories
    context: Context
    x: FloatArray
    unfiltered: CandidateScorer
    scored_candidates: Candidates
    ranking: Ranking
    text_hits: TextHits | None
    matching: ItemFilter | None
    offered: ItemFilter | None
    excluded_rows: IntArray
    pinned_rows: LongArray


class RequestPipeline:
    """Answers requests with one model. Read-only, so threads may share it."""

    def __init__(self, model: Model, lookup: EntityLookup, filters: Filters, encoder: TextEncoder) -> None:
        self._model, self._lookup, self._filters, self._encoder = model, lookup, filters, encoder
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
        diversity = requests.check_share("diversity", request.get("diversity", 0.0))
        caps = self._filters.caps(request.get("caps"))
        matching = self._filters.allowed(request.get("where"))
        candidates, boosts = request.get("candidates"), request.get("boosts")
        offered = matching if candidates is None else self._offered(candidates, matching)
        excluded_rows = self._lookup.distinct_item_rows("exclude", request.get("exclude"))
        pinned_rows = self._pinned_rows(request.get("pinned"))
        histories = self._lookup.history_for_request(user_id, request.get("history"), request.get("strict", False))
        retrieval = self._model.retrieval
        context = retrieval.context(histories, offered, excluded_rows, rerank=candidates is not None)
        text_hits = None if text is None else TextHits.of(self._encoder.encode(text), context, self._index)
        if text_hits is not None:
            context = text_hits.join(context)
        everything = context
        if text_hits is None and (offered is not None or len(excluded_rows)):
            everything = retrieval.context(histories, answers=context.answers)
        # One pass of the model for both lists of candidates.
        x = self._model.featurizer.compute(context if everything is context else side_by_side([context, everything]))
        scores = self._model.scorer.score(x)
        x, own = x[: len(context.item)], scores[: len(context.item)]
        unfiltered = CandidateScorer(self._model, everything, scores[len(scores) - len(everything.item) :])
        score = own
        if text_hits is not None:
            score = standard_sum(context.candidates.offsets, [own, text_hits.score(context)])
        scored, score = _with_pinned(CandidateScorer(self._model, context, own), score, pinned_rows)
        if boosts is not None:
            score = score + self._boosts(boosts, scored.item)
        ranking = best(scored, score, None)
        if len(pinned_rows):
            ranking = pin(ranking, pinned_rows)
        if diversity:
            n_pinned = int(np.isin(ranking.item, pinned_rows).sum())
            ranking = diversify(ranking, context.vectors, diversity, k, n_pinned, caps)
        ranking = self._model.fill(context, cut(ranking, k, caps), k, caps)
        return Answer(histories, context, x, unfiltered, scored, ranking, text_hits, matching, offered, excluded_rows,
                      pinned_rows)  # fmt: skip

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
        score = answer.unfiltered.score(items[scored])
        probability[scored] = answer.unfiltered.probability(items[scored], score)
        return probability

    def shortage(self, k: int, answer: Answer) -> Shortage | None:
        """Count why a list is shorter than `k`; None where it is not."""
        given = len(answer.ranking.item)
        if given >= k:
            return None
        blocked = answer.context.blocked_pairs
        matching = self._n_items if answer.matching is None else len(answer.matching)
        offered = matching if answer.offered is None else len(answer.offered)
        if answer.offered is not None:
            blocked = blocked[answer.offered.holds(blocked)]
        excluded = int(np.isin(blocked, answer.excluded_rows).sum())
        seen = len(blocked) - excluded
        capped = offered - excluded - seen - given
        return Shortage(k, given, self._n_items, matching, offered, excluded, seen, capped)

    @cached_property
    def _index(self) -> Index:
        """The index that encoded texts are searched in: that of a retriever over text vectors, or a new exact one."""
        shared = (fitted.text_index for fitted in self._model.retrieval.fitted.values())
        return next((index for index in shared if index is not None), None) or Index(self._model.retrieval.vectors)

    def _offered(self, candidates: Iterable[Id], matching: ItemFilter | None) -> ItemFilter:
        """The request's own candidates that match. All of them are ranked, so there is nothing to fill a list with."""
        rows = self._lookup.distinct_item_rows("candidates", candidates)
        return ItemFilter(rows if matching is None else rows[matching.holds(rows)], rows[:0])

    def _pinned_rows(self, pinned: Iterable[Id] | None) -> LongArray:
        rows = self._lookup.item_rows([] if pinned is None else requests.parse_pinned(pinned))
        return rows[np.sort(np.unique(rows, return_index=True)[1])] if len(rows) else rows

    def _boosts(self, boosts: Mapping[Id, float], items: IntArray) -> FloatArray:
        """What a request adds to the score of each item `(n,)`."""
        ids, boost = requests.parse_boosts(boosts)
        rows = self._lookup.item_rows(ids)
        order = np.argsort(rows)
        place = find_keys(rows[order], items)
        return np.where(place >= 0, boost[order][place] if len(rows) else 0, 0).astype(np.float32)


def _with_pinned(scorer: CandidateScorer, score: FloatArray,
                 pinned_rows: LongArray) -> tuple[Candidates, FloatArray]:  # fmt: skip
    """Return the candidates and the pinned items that may be shown, with the score of each."""
    context, own = scorer.context, scorer.context.candidates
    if not len(pinned_rows):
        return own, score
    fresh = np.setdiff1d(pinned_rows, own.item)
    fresh = fresh[find_keys(context.blocked_pairs, fresh) < 0]
    if context.allowed is not None:
        fresh = fresh[context.allowed.holds(fresh)]
    if not len(fresh):
        return own, score
    item = np.concatenate([own.item, fresh.astype(np.int32)])
    found = np.concatenate([own.found, np.full((len(fresh), own.found.shape[1]), -1, np.int32)])
    score = np.concatenate([score, scorer.score(fresh)])
    order = np.argsort(item)
    return Candidates(np.array([0, len(item)]), item[order], found[order]), score[order]
