"""What a recommender answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from recsys.types import Id

FILLED = "popularity_fill"
COLUMNS = ["user_id", "item_id", "title", "rank", "score", "probability", "source", "model_version"]


@dataclass(frozen=True)
class Recommendation:
    """One item of an answer.

    `sources` tells at which place (from 1) each retriever proposed the item; empty where it only filled a short
    list. `reasons` are the features that moved its score most, up or down, in units of the score. `probability` is that
    of the statement in the manifest; None where the bundle has none, and for an item that only filled the list.
    """

    item_id: Id
    title: str
    rank: int
    score: float
    sources: Mapping[str, int]
    reasons: Mapping[str, float]
    probability: float | None = None


@dataclass(frozen=True)
class Recommendations:
    """An answer.

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON wants them."""
        return asdict(self)

    def to_polars(self) -> pl.DataFrame:
        """Return one row an item: user_id, item_id, title, rank, score, probability, source, model_version."""
        rows = [
            {"user_id": self.user_id, "item_id": i.item_id, "title": i.title, "rank": i.rank, "score": i.score,
             "probability": i.probability, "source": "+".join(i.sources) or FILLED, "model_version": self.model_version}
            for i in self.items
        ]  # fmt: skip
        dtypes = {"title": pl.String, "rank": pl.Int32, "score": pl.Float32, "probability": pl.Float32,
                  "source": pl.String}  # fmt: skip
        return pl.DataFrame(rows, schema=COLUMNS, schema_overrides=dtypes)
