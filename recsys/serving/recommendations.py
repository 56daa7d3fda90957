"""What a recommender answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.engine.model import Model
from recsys.ragged import find_keys
from recsys.ranking.feature_context import Context
from recsys.serving.text_query import TextHits
from recsys.types import Catalog, Id, Ranking

FILLED = "popularity_fill"
PINNED = "pinned"
COLUMNS = ["user_id", "item_id", "title", "rank", "score", "probability", "source", "model_version"]


@dataclass(frozen=True)
class Recommendation:
    """One item of an answer.

    `sources` tells at which place (from 1) each retriever proposed the item; empty where it only filled a short
    list, or was pinned. `reasons` are the features that moved its score most, up or down, in units of the score;
    empty unless asked for. `pinned` marks an item that the request put at its place. `probability` is that of the
    statement in the manifest; None where the bundle has none, for an item that only filled the list, and beside a text.
    """

    item_id: Id
    title: str
    rank: int
    score: float
    sources: Mapping[str, int]
    reasons: Mapping[str, float]
    pinned: bool = False
    probability: float | None = None


@dataclass(frozen=True)
class Shortage:
    """Why a list is shorter than asked: counts of items, from the catalogue down to what was given.

    Of the `catalogue`, `matching` meet `where`, of which `offered` are among the request's `candidates` (all, where it
    names none). Of these, `excluded` are in `exclude`, `seen` others in the user's history where the rules keep those
    out, and `capped` others had no room under the caps.
    """

    asked: int
    given: int
    catalogue: int
    matching: int
    offered: int
    excluded: int
    seen: int
    capped: int

    @property
    def reason(self) -> str:
        """The same as one sentence."""
        told = [f"the catalogue holds {_items(self.catalogue)}"]
        if self.matching < self.catalogue:
            told.append(f"{self.matching} meet the filter")
        if self.offered < self.matching:
            told.append(f"{self.offered} of them are candidates")
        kept_out = {
            "are excluded": self.excluded,
            "were seen before": self.seen,
            "have no room under the caps": self.capped,
        }
        told += [f"{number} {why}" for why, number in kept_out.items() if number]
        return f"{self.given} of {self.asked} items could be given: {', '.join(told)}"


def _items(number: int) -> str:
    return "1 item" if number == 1 else f"{number} items"


@dataclass(frozen=True)
class Recommendations:
    """An answer: `items` holds as many as were asked for, or `shortage` tells why not.

    `cold` marks a user of whom neither the bundle nor the request knows any event; `fallback` a list that nothing
    personal shaped: it holds what is popular. `request_id` is unique to the answer,
    and no part of what makes two answers equal.
    """

    user_id: Id
    items: list[Recommendation]
    cold: bool
    fallback: bool
    model_version: str
    request_id: str = field(compare=False)
    shortage: Shortage | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON wants them."""
        short = {} if self.shortage is None else {"shortage": asdict(self.shortage) | {"reason": self.shortage.reason}}
        return asdict(self) | short

    def to_polars(self) -> pl.DataFrame:
        """Return one row an item: user_id, item_id, title, rank, score, probability, source, model_version."""
        rows = [
            {"user_id": self.user_id, "item_id": i.item_id, "title": i.title, "rank": i.rank, "score": i.score,
             "probability": i.probability, "source": "+".join(i.sources) or (PINNED if i.pinned else FILLED),
             "model_version": self.model_version}
            for i in self.items
        ]  # fmt: skip
        dtypes = {"title": pl.String, "rank": pl.Int32, "score": pl.Float32, "probability": pl.Float32,
                  "source": pl.String}  # fmt: skip
        return pl.DataFrame(rows, schema=COLUMNS, schema_overrides=dtypes)


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
