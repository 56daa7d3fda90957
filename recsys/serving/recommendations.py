"""What a recommender answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from recsys.types import Id

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
