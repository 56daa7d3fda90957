"""The free text of a request: what it finds, and how it joins the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.arrays import FloatArray
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.persistence import restore_space
from recsys.config import Config, nearest
from recsys.embedding.coverage import MOST, MULTILINGUAL, SAMPLE, describe_unread, find_vocabulary, unread_share
from recsys.embedding.texts import item_texts
from recsys.errors import RequestError
from recsys.ranking.feature_context import Context
from recsys.retrieval.base import top_unblocked
from recsys.retrieval.candidates import union
from recsys.retrieval.index import Index
from recsys.retrieval.vector_search import VectorAnswer
from recsys.serving import requests
from recsys.types import Candidates, Catalog, Hits

if TYPE_CHECKING:
    from recsys.embedding.coverage import Vocabulary
    from recsys.engine.embeddings import TextSpace

KEYS = ["text"]
TEXT = "context.text"  # among the sources of an item; no retriever can have that name
DEPTH = 200


def text_of(context: Mapping[str, Any] | None) -> str | None:
    """Return the free text of a request's context, None where it has none.

    Raises:
        RequestError: The context is no mapping, has an unknown key, or its text is blank or no text.
    """
    if context is not None and not isinstance(context, Mapping):
        raise RequestError(
            f"context must be a mapping such as {{'text': 'green tea'}}, got {requests.show_value(context)}"
        )
    context = context or {}
    for key in context:
        if key not in KEYS:
            raise RequestError(
                f"context: unknown key {requests.show_value(key)}{nearest(str(key), KEYS)}; known: {', '.join(KEYS)}"
            )
    text = context.get("text")
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise RequestError(
            f"context: text must be words to look for, and is {requests.show_value(text)}; leave it out where there "
            "are none"
        )
    return text


class TextEncoder:
    """Encodes free texts as the items of a bundle were encoded. The encoder is loaded with the first text."""

    def __init__(self, config: Config, bundle: Bundle, space: TextSpace | None = None) -> None:
        self._config, self._bundle, self._given = config, bundle, space

    @cached_property
    def space(self) -> TextSpace:
        """The text space of the bundle.

        Raises:
            ArtifactError: The encoder on this machine is not the one that made the bundle's vectors.
        """
        return self._given or restore_space(self._config, self._bundle)

    @cached_property
    def _vocabulary(self) -> Vocabulary | None:
        return find_vocabulary(self._config.embedding)

    @cached_property
    def _unread_catalog(self) -> str | None:
        """What is wrong where the encoder cannot read most of the catalogue's texts."""
        settings, frame = self._config.embedding, self._bundle.tables["catalog"]
        sample = frame.gather_every(max(1, frame.height // SAMPLE))
        texts = item_texts(Catalog(sample), settings.text, settings.html)
        return describe_unread(settings, texts) if (unread_share(settings, texts) or 0) >= MOST else None

    def encode(self, text: str) -> FloatArray:
        """Return the vector of a text `(1, d)`, float32.

        Raises:
            ArtifactError: As `space`.
            RequestError: The encoder cannot read most of the text, or most of the catalogue: any answer would be noise.
        """
        space = self.space
        share = 0.0 if self._vocabulary is None else float(self._vocabulary.unread_shares([text])[0])
        if share >= MOST:
            model = self._config.embedding.model
            raise RequestError(
                f"{requests.show_value(text)} cannot be searched for: the encoder {model} cannot "
                f"read {share:.0%} of its tokens, and would find the same items for any such words; train with an "
                f"encoder that reads them, such as {MULTILINGUAL}"
            )
        if self._unread_catalog is not None:
            raise RequestError(f"this bundle cannot be searched by a text: {self._unread_catalog}, and train again")
        return space.encode([text])


@dataclass(frozen=True, eq=False)
class TextHits:
    """The items nearest to one free text, at most `DEPTH`, nearest first."""

    answer: VectorAnswer
    hits: Hits

    @classmethod
    def of(cls, query: FloatArray, context: Context, index: Index) -> TextHits:
        """Search with a query vector `(1, d)` among what the request may show."""
        answer = VectorAnswer(query, context.vectors, index)
        return cls(answer, top_unblocked(answer, DEPTH, context.blocked_pairs, context.n_items, context.allowed))

    def join(self, context: Context) -> Context:
        """Return the context with the hits among its candidates. No retriever found them, as far as features see."""
        own = context.candidates
        unscored = Hits(own.offsets, own.item, np.zeros(len(own.item), np.float32))
        both = union([unscored, self.hits], 1, context.n_items)
        found = np.full((len(both.item), own.found.shape[1]), -1, dtype=np.int32)
        found[both.found[:, 0] >= 0] = own.found
        return replace(context, candidates=Candidates(both.offsets, both.item, found))

    def score(self, context: Context) -> FloatArray:
        """Return the cosine of every candidate with the text `(n,)`."""
        return self.answer.score(context.owner, context.item)

    def source(self, item: int) -> dict[str, int]:
        """Return the place (from 1) at which the text found an item, for `Recommendation.sources`; else nothing."""
        place = np.flatnonzero(self.hits.item == item)
        return {TEXT: int(place[0]) + 1} if len(place) else {}
