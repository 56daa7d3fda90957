"""What a request may tell beside who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys.arrays import FloatArray
from recsys.config import nearest
from recsys.errors import RequestError
from recsys.ranking.feature_context import Context
from recsys.retrieval.base import top_unblocked
from recsys.retrieval.candidates import union
from recsys.retrieval.index import Index
from recsys.retrieval.vector_search import VectorAnswer
from recsys.serving import requests
from recsys.types import Candidates, Hits

KEYS = ["text"]
TEXT = "context.text"  # among the sources of an item; no retriever can have that name
DEPTH = 200


def text_of(context: Mapping[str, Any] | None) -> str | None:
    """Return the free text of a request's context, None where it has none.

    Raises `RequestError` for a key that no context has, and for a text that is none or blank.
    """
    if context is not None and not isinstance(context, Mapping):
        raise RequestError(f"context must be a mapping such as {{'text': 'green tea'}}, got {requests.shown(context)}")
    context = context or {}
    for key in context:
        if key not in KEYS:
            raise RequestError(
                f"context: unknown key {requests.shown(key)}{nearest(str(key), KEYS)}; known: {', '.join(KEYS)}"
            )
    text = context.get("text")
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise RequestError(
            f"context: text must be words to look for, and is {requests.shown(text)}; leave it out where there are none"
        )
    return text


@dataclass(frozen=True, eq=False)
class TextHits:
    """What one free text found for one query: at most 200 items, nearest first."""

    answer: VectorAnswer
    hits: Hits

    @classmethod
    def of(cls, query: FloatArray, asked: Context, index: Index) -> TextHits:
        """Ask with a query vector `(1, d)` for what the request may show."""
        answer = VectorAnswer(query, asked.vectors, index)
        return cls(answer, top_unblocked(answer, DEPTH, asked.blocked_pairs, asked.n_items, asked.allowed))

    def join(self, asked: Context) -> Context:
        """Put what was found among the candidates; to the features it is found by nobody."""
        own = asked.candidates
        both = union([Hits(own.offsets, own.item, np.zeros(len(own.item), np.float32)), self.hits], 1, asked.n_items)
        found = np.full((len(both.item), own.found.shape[1]), -1, dtype=np.int32)
        found[both.found[:, 0] >= 0] = own.found
        return replace(asked, candidates=Candidates(both.offsets, both.item, found))

    def score(self, asked: Context) -> FloatArray:
        """The cosine of every candidate with the text `(n,)`."""
        return self.answer.score(asked.owner, asked.item)

    def source(self, item: int) -> dict[str, int]:
        """At which place (from 1) the text found an item, for `Recommendation.sources`; nothing where it did not."""
        place = np.flatnonzero(self.hits.item == item)
        return {TEXT: int(place[0]) + 1} if len(place) else {}
