"""Telling a ranked list: for each item its title, which retrievers found it, and what moved its score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from recsys.engine.model import Model
from recsys.ranking.context import Context
from recsys.retrieval.candidates import find_keys
from recsys.serving.context import TextHits
from recsys.serving.recommendations import FILLED, Recommendation
from recsys.types import Catalog, FloatArray, IntArray, LongArray, Ranking

STRONGEST = 3  # features told for each item


def sources(proposers: Sequence[str], ranking: Ranking) -> pl.Series:
    """Name the retrievers that found each item, joined by `+`: made once for each combination, not once a row."""
    power = 1 << np.arange(len(proposers))
    code = (ranking.found >= 0) @ power
    distinct, place = np.unique(code, return_inverse=True)
    names = ["+".join(n for n, p in zip(proposers, power, strict=True) if c & p) or FILLED for c in distinct]
    return pl.Series(names, dtype=pl.String).gather(place)


def strongest(model: Model, context: Context, x: FloatArray, items: IntArray) -> list[Mapping[str, float]]:
    """For each item of one list the features that moved its score most; nothing where it was no candidate.

    `x` `(n, f)` are the features of the candidates, `items` `(k,)` rows of the catalogue.
    """
    names = model.featurizer.names(context)
    place = find_keys(context.item, items)
    parts = model.scorer.contributions(x[np.maximum(place, 0)]) if len(x) else np.zeros((len(place), 0))
    most = np.argsort(-np.abs(parts), axis=1)[:, :STRONGEST]
    return [
        {names[j]: float(part[j]) for j in columns} if found >= 0 else {}
        for part, columns, found in zip(parts, most, place, strict=True)
    ]


def listed(catalog: Catalog, proposers: Sequence[str], ranking: Ranking, reasons: Sequence[Mapping[str, float]],
           lead: LongArray, probability: FloatArray, near: TextHits | None) -> list[Recommendation]:  # fmt: skip
    """Tell the items of one user's list. `lead` are the pinned rows; `probability` `(k,)` is NaN where unknown."""
    ids = catalog.ids
    pinned = find_keys(np.sort(lead), ranking.item) >= 0
    columns = (ranking.item, ranking.score, probability, ranking.found, pinned)
    return [
        Recommendation(
            item_id=ids[row],
            title=catalog.title(int(row)),
            rank=place + 1,
            score=score,
            probability=None if math.isnan(likely) else likely,
            sources={n: f + 1 for n, f in zip(proposers, found, strict=True) if f >= 0}
            | ({} if near is None else near.source(row)),
            reasons=reasons[place],
            pinned=first,
        )
        for place, (row, score, likely, found, first) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]
