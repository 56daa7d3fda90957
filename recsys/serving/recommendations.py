"""The answer of a recommender: a list of items, as objects, a frame, JSON or a table to read."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, overload

import numpy as np
import polars as pl

from recsys import formatting
from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.engine.model import Model
from recsys.ragged import find_keys
from recsys.ranking.feature_context import Context
from recsys.serving.text_query import TextHits
from recsys.types import Catalog, Id, Ranking

FILLED = "popularity_fill"
PINNED = "pinned"
N_REASONS = 3
N_IGNORED = 10
SHOWN = 50  # rows of a table to read
TITLE_WIDTH = 48
HEADINGS = ("rank", "item", "title", "score", "probability", "source")
NUMBERS = ("rank", "score", "probability")
COLUMNS = ["user_id", "item_id", "title", "rank", "score", "probability", "source", "model_version"]


@dataclass(frozen=True)
class Recommendation:
    """One item of an answer.

    Attributes:
        item_id: The item.
        title: Its title in the catalogue; the id where it has none.
        rank: Its place in the list, from 1.
        score: What it was ranked by; comparable within the list only.
        sources: At which place (from 1) each retriever proposed it; empty where it only filled a short list, or was
            pinned.
        reasons: The features that moved its score most, up or down, in units of the score; empty unless asked for.
        pinned: Whether the request put it at its place.
        probability: That of the statement in the manifest. None where the bundle has none, for an item that only
            filled the list, and where the request has a text.
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
    """Why a list is shorter than `k`: counts of items, from the catalogue down to what was given.

    Attributes:
        asked: `k`.
        given: How many items the list has.
        catalogue: How many items there are.
        matching: How many of those meet `where`.
        offered: How many of those are among the request's `candidates` (all, where it names none).
        excluded: How many of those are in `exclude`.
        seen: How many others the user had before, where the rules keep those out.
        capped: How many others had no room under the caps, or beside another variant of their product.
        one_variant: Whether the list holds one variant of a product.
    """

    asked: int
    given: int
    catalogue: int
    matching: int
    offered: int
    excluded: int
    seen: int
    capped: int
    one_variant: bool = False

    @property
    def reason(self) -> str:
        """The same as one sentence."""
        parts = [f"the catalogue holds {_items(self.catalogue)}"]
        if self.matching < self.catalogue:
            parts.append(f"{self.matching} meet the filter")
        if self.offered < self.matching:
            parts.append(f"{self.offered} of them are candidates")
        kept_out = {
            "are excluded": self.excluded,
            "were seen before": self.seen,
            f"have no room {'beside another variant or ' if self.one_variant else ''}under the caps": self.capped,
        }
        parts += [f"{number} {why}" for why, number in kept_out.items() if number]
        return f"{self.given} of {self.asked} items could be given: {', '.join(parts)}"


def _items(number: int) -> str:
    return "1 item" if number == 1 else f"{number} items"


@dataclass(frozen=True)
class Recommendations:
    """An answer: a sequence of its items. It prints as a table, also in notebooks.

    Attributes:
        user_id: The user.
        items: As many items as were asked for, best first; `shortage` says why where they are fewer.
        cold: Whether neither the bundle nor the request holds any event of the user.
        fallback: Whether nothing personal shaped the list: it holds what is popular.
        model_version: The version that answered.
        request_id: Unique to the answer; not compared by `==`.
        shortage: Why the list is short; None where it is not.
        ignored: The unknown items of the request, by the argument that named them; empty unless it asked to ignore any.
    """

    user_id: Id
    items: list[Recommendation]
    cold: bool
    fallback: bool
    model_version: str
    request_id: str = field(compare=False)
    shortage: Shortage | None = None
    ignored: Mapping[str, list[Id]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.items)

    @overload
    def __getitem__(self, place: int) -> Recommendation: ...

    @overload
    def __getitem__(self, place: slice) -> list[Recommendation]: ...

    def __getitem__(self, place: int | slice) -> Recommendation | list[Recommendation]:
        return self.items[place]

    def __repr__(self) -> str:
        rows = [list(HEADINGS), *self._cells(SHOWN)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(n) if heading in NUMBERS else cell.ljust(n)
                      for cell, n, heading in zip(row, widths, HEADINGS, strict=True)).rstrip()
            for row in rows
        ]  # fmt: skip
        return "\n".join([self._caption(), *(lines if self.items else []), *self._notes()])

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self._cells(SHOWN)
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        caption = f"<caption>{html.escape(self._caption())}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{notes}"

    def _caption(self) -> str:
        popular = ", what is popular" if self.fallback else ""
        return f"{formatting.plural(len(self.items), 'item')} for user {self.user_id}{popular}"

    def _cells(self, most: int) -> list[list[str]]:
        return [
            [str(i.rank), _one_line(str(i.item_id)), _one_line(i.title), f"{i.score:.3f}",
             formatting.percent(i.probability), _source(i)]
            for i in self.items[:most]
        ]  # fmt: skip

    def _notes(self) -> list[str]:
        more = len(self.items) - SHOWN
        notes = [f"... and {formatting.plural(more, 'item')} more"] if more > 0 else []
        ignored = [f"ignored, unknown items in {name}: {name_few(ids)}" for name, ids in self.ignored.items()]
        return [*notes, *([] if self.shortage is None else [self.shortage.reason]), *ignored]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON wants them."""
        short = {} if self.shortage is None else {"shortage": asdict(self.shortage) | {"reason": self.shortage.reason}}
        return asdict(self) | short

    def to_polars(self) -> pl.DataFrame:
        """Return one row an item: user_id, item_id, title, rank, score, probability, source, model_version."""
        rows = [
            {"user_id": self.user_id, "item_id": i.item_id, "title": i.title, "rank": i.rank, "score": i.score,
             "probability": i.probability, "source": _source(i),
             "model_version": self.model_version}
            for i in self.items
        ]  # fmt: skip
        dtypes = {"title": pl.String, "rank": pl.Int32, "score": pl.Float32, "probability": pl.Float32,
                  "source": pl.String}  # fmt: skip
        return pl.DataFrame(rows, schema=COLUMNS, schema_overrides=dtypes)


def name_few(ids: Sequence[Id]) -> str:
    """Name the first few ids, and say how many more there are."""
    shown = ", ".join(_one_line(str(one)) for one in ids[:N_IGNORED])
    return f"{shown} and {len(ids) - N_IGNORED} more" if len(ids) > N_IGNORED else shown


def _source(item: Recommendation) -> str:
    return "+".join(item.sources) or (PINNED if item.pinned else FILLED)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TITLE_WIDTH else f"{text[: TITLE_WIDTH - 1]}…"


def source_column(proposers: Sequence[str], ranking: Ranking) -> pl.Series:
    """Return the retrievers that found each item of a ranking, joined by `+`.

    Each combination of retrievers is joined once, not once a row.
    """
    power = 1 << np.arange(len(proposers))
    code = (ranking.found >= 0) @ power
    distinct, place = np.unique(code, return_inverse=True)
    names = ["+".join(n for n, p in zip(proposers, power, strict=True) if c & p) or FILLED for c in distinct]
    return pl.Series(names, dtype=pl.String).gather(place)


def top_reasons(model: Model, context: Context, x: FloatArray, items: IntArray) -> list[Mapping[str, float]]:
    """Return the features that moved the score of each item most.

    Args:
        model: The model.
        context: The candidates of one user.
        x: Their features `(n, f)`.
        items: Rows of the items of one list `(k,)`.

    Returns:
        For each item the `N_REASONS` features of largest contribution, in units of the score; none where it was no
        candidate.
    """
    names = model.featurizer.names(context)
    place = find_keys(context.item, items)
    parts = model.scorer.contributions(x[np.maximum(place, 0)]) if len(x) else np.zeros((len(place), 0))
    most = np.argsort(-np.abs(parts), axis=1)[:, :N_REASONS]
    return [
        {names[j]: float(part[j]) for j in columns} if found >= 0 else {}
        for part, columns, found in zip(parts, most, place, strict=True)
    ]


def to_recommendations(catalog: Catalog, proposers: Sequence[str], ranking: Ranking,
                       reasons: Sequence[Mapping[str, float]], pinned_rows: LongArray, probability: FloatArray,
                       text_hits: TextHits | None) -> list[Recommendation]:  # fmt: skip
    """Return the items of one user's list. `probability` `(k,)` is NaN where there is none."""
    ids = catalog.ids
    pinned = find_keys(np.sort(pinned_rows), ranking.item) >= 0
    columns = (ranking.item, ranking.score, probability, ranking.found, pinned)
    return [
        Recommendation(
            item_id=ids[row],
            title=catalog.title(int(row)),
            rank=place + 1,
            score=score,
            probability=None if math.isnan(likely) else likely,
            sources={n: f + 1 for n, f in zip(proposers, found, strict=True) if f >= 0}
            | ({} if text_hits is None else text_hits.source(row)),
            reasons=reasons[place],
            pinned=is_pinned,
        )
        for place, (row, score, likely, found, is_pinned) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]
