"""Lists for many users in one frame, batch by batch on several threads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import reduce
from typing import Unpack

import numpy as np
import polars as pl

from recsys.arrays import LongArray
from recsys.engine.candidate_scores import CandidateScorer
from recsys.engine.model import Model
from recsys.parallel.forks import nullable
from recsys.parallel.threads import batches, in_threads
from recsys.ragged import find_keys, owners_of, pair_keys, places_of
from recsys.serving import requests
from recsys.serving.conditions import ConditionReader, Conditions, ListConditions
from recsys.serving.lookup import EntityLookup
from recsys.serving.recommendations import name_few, source_column
from recsys.serving.unknown import UnknownItems
from recsys.types import Catalog, Id

log = logging.getLogger(__name__)


class BatchRanker:
    """Ranks for many users with one model. Read-only, so threads may share it."""

    def __init__(self, model: Model, lookup: EntityLookup, reader: ConditionReader, catalog: Catalog,
                 version: str) -> None:  # fmt: skip
        self._model, self._lookup, self._reader = model, lookup, reader
        self._catalog, self._version = catalog, version

    def read(self, **conditions: Unpack[ListConditions]) -> Conditions:
        """Read the conditions of a batch once, for `rank_rows`. Unknown items that they ignore are logged."""
        unknown = UnknownItems(conditions.get("unknown", "refuse"))
        found = self._reader.read(conditions, unknown)
        for argument, ids in unknown.ignored.items():
            log.warning("%s: %s unknown items are ignored: %s", argument, len(ids), name_few(ids))
        return found.without_excluded(len(self._catalog), self._model.retrieval.popular)

    def recommend(self, users: Sequence[Id] | None, k: int, **conditions: Unpack[ListConditions]) -> pl.DataFrame:
        """Rank for each user; see `Recommender.recommend_batch`."""
        k = requests.check_count(k)
        found = self.read(**conditions)
        if users is None:
            rows = np.arange(len(self._lookup.user_ids))
        else:
            rows = self._lookup.user_rows(requests.parse_ids("users", users))
        frames = list(in_threads(lambda some: self.rank_rows(some, k, found), batches(rows)))
        return reduce(pl.DataFrame.vstack, frames) if frames else self.rank_rows(rows, k, found)

    def rank_rows(self, rows: LongArray, k: int, conditions: Conditions) -> pl.DataFrame:
        """Rank for one batch of users by their row numbers `(n,)`; columns as in `Recommender.recommend_batch`."""
        histories, model, one = self._lookup.histories(rows), self._model, conditions.one_variant
        context = model.retrieval.context(histories, conditions.offered, rerank=conditions.rerank, one_variant=one)
        score = model.score(context)
        scored, ranking = conditions.order(model, context, score, min(k, len(self._catalog)))
        owner = owners_of(ranking.offsets)
        probability = np.full(len(ranking.item), np.nan, dtype=np.float32)
        if model.calibrator is not None and len(rows):
            unfiltered = CandidateScorer(model, context, score)
            if conditions.filters or one:
                unfiltered = CandidateScorer.of(model, model.retrieval.context(histories, answers=context.answers))
            keys = pair_keys(owner, ranking.item, context.n_items)
            known = find_keys(pair_keys(scored.owner, scored.item, context.n_items), keys) >= 0
            probability[known] = unfiltered.probability(owner[known], ranking.item[known])
        return pl.DataFrame(
            {
                "user_id": self._lookup.user_ids.gather(rows[owner]),
                "item_id": self._catalog.ids.gather(ranking.item),
                "rank": (places_of(ranking.offsets) + 1).astype(np.int32),
                "score": ranking.score,
                "probability": nullable(pl.Series(probability)),
                "source": source_column(model.retrieval.proposers, ranking),
                "model_version": pl.Series([self._version], dtype=pl.String).new_from_index(0, len(owner)),
            }
        )
