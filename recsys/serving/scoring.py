"""Scores of the items that a caller already has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys.arrays import LongArray
from recsys.engine.candidate_scores import CandidateScorer
from recsys.engine.model import Model
from recsys.parallel.forks import nullable
from recsys.serving.requests import legible_id
from recsys.types import Catalog, Histories, Id


def score_items(model: Model, catalog: Catalog, histories: Histories, ids: Sequence[Id],
                rows: LongArray) -> pl.DataFrame:  # fmt: skip
    """Score items for one user.

    Args:
        model: The model.
        catalog: The catalogue.
        histories: The history of the user.
        ids: The items as the caller names them `(n,)`.
        rows: Their rows `(n,)`, -1 for an unknown one, which has neither score nor probability.

    Returns:
        Columns item_id, score, probability, in the order given.
    """
    known = rows >= 0
    owner, items = np.zeros(int(known.sum()), dtype=np.int64), rows[known]
    scorer = CandidateScorer.of(model, model.retrieval.context(histories))
    score, probability = (np.full(len(ids), np.nan, dtype=np.float32) for _ in range(2))
    score[known] = scorer.score(owner, items)
    probability[known] = scorer.probability(owner, items, score[known])
    item_ids = catalog.ids.gather(items)
    if not known.all():
        own = iter(item_ids.to_list())
        shown = [next(own) if is_known else legible_id(one) for one, is_known in zip(ids, known, strict=True)]
        item_ids = pl.Series(shown if len({type(one) for one in shown}) == 1 else [str(one) for one in shown])
    return pl.DataFrame(
        {"item_id": item_ids, "score": nullable(pl.Series(score)), "probability": nullable(pl.Series(probability))}
    )
