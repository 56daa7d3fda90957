"""Lists for many users in one frame, batch by batch on several threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import numpy as np
import polars as pl

from recsys.arrays import LongArray
from recsys.engine.model import Model
from recsys.parallel.forks import nullable
from recsys.parallel.threads import batches, in_threads
from recsys.ragged import owners_of, places_of
from recsys.ranking.rules import Cap
from recsys.retrieval.filtered_search import ItemFilter
from recsys.serving import requests
from recsys.serving.filters import Filters, Where
from recsys.serving.lookup import EntityLookup
from recsys.serving.recommendations import source_column
from recsys.types import Catalog, Id


class BatchRanker:
    """Ranks for many users with one model. Read-only, so threads may share it."""

    def __init__(self, model: Model, lookup: EntityLookup, filters: Filters, catalog: Catalog, version: str) -> None:
        self._model, self._lookup, self._filters = model, lookup, filters
        self._catalog, self._version = catalog, version

    def recommend(self, users: Sequence[Id] | None, k: int, exclude: Iterable[Id] | None, where: Where | None,
                  caps: Mapping[str, int] | None) -> pl.DataFrame:  # fmt: skip
        """Rank for each user; see `Recommender.recommend_batch`."""
        k = requests.check_count(k)
        limits = self._filters.caps(caps)
        allowed = self._filters.allowed(where)
        excluded_rows = self._lookup.distinct_item_rows("exclude", exclude)
        if len(excluded_rows):
            mask = np.full(len(self._catalog), allowed is None)
            if allowed is not None:
                mask[allowed.rows] = True
            mask[excluded_rows] = False
            allowed = ItemFilter.of(mask, self._model.retrieval.popular)
        if users is None:
            rows = np.arange(len(self._lookup.user_ids))
        else:
            rows = self._lookup.user_rows(requests.parse_ids("users", users))
        frames = list(in_threads(lambda some: self.rank_rows(some, k, allowed, limits), batches(rows)))
        return reduce(pl.DataFrame.vstack, frames) if frames else self.rank_rows(rows, k)

    def rank_rows(self, rows: LongArray, k: int, allowed: ItemFilter | None = None,
                  caps: Sequence[Cap] = ()) -> pl.DataFrame:  # fmt: skip
        """Rank for one batch of users by their row numbers `(n,)`; columns as in `Recommender.recommend_batch`."""
        context = self._model.retrieval.context(self._lookup.histories(rows), allowed)
        score = self._model.score(context)
        ranking = self._model.order(context, score, min(k, len(self._catalog)), caps)
        probability = np.full(len(ranking.item), np.nan, dtype=np.float32)
        if allowed is None:
            probability = self._model.probability_of(ranking, context, score)
        owner = rows[owners_of(ranking.offsets)]
        return pl.DataFrame(
            {
                "user_id": self._lookup.user_ids.gather(owner),
                "item_id": self._catalog.ids.gather(ranking.item),
                "rank": (places_of(ranking.offsets) + 1).astype(np.int32),
                "score": ranking.score,
                "probability": nullable(pl.Series(probability)),
                "source": source_column(self._model.retrieval.proposers, ranking),
                "model_version": pl.Series([self._version], dtype=pl.String).new_from_index(0, len(owner)),
            }
        )
