"""Item vectors, whitened, and the same treatment for any other text: behaviours and free-text queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from recsys.arrays import FloatArray, unit_rows
from recsys.config import Config, EmbeddingConfig
from recsys.embedding.base import Encoder
from recsys.embedding.registry import load_encoder
from recsys.embedding.store import VectorStore
from recsys.embedding.texts import behaviour_texts, item_texts
from recsys.embedding.whitening import Whitening
from recsys.types import Catalog, Histories


@dataclass(frozen=True, eq=False)
class TextSpace:
    """Where texts become vectors: an encoder, and the whitening fitted on one catalogue (None: unit rows only)."""

    encoder: Encoder
    whitening: Whitening | None
    store: VectorStore | None = None

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return unit rows `(n, d)` for the texts; with a store only new texts reach the encoder."""
        raw = self.encoder.encode(texts) if self.store is None else self.store.encode(texts, self.encoder)
        return unit_rows(raw) if self.whitening is None else self.whitening.apply(raw)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Item vectors `(I, d)`, unit rows, and how to encode behaviour texts where the config asks for them."""

    items: FloatArray
    catalog: Catalog
    space: TextSpace | None = None
    config: EmbeddingConfig = field(default_factory=EmbeddingConfig)

    def with_text_vectors(self, histories: Histories, newest: int | None = None) -> Histories:
        """Return the histories with the vectors of their behaviour texts, where the config asks for them.

        With `newest` the texts tell of so many events only. Who did nothing has a vector of zeros.
        """
        if not self.config.user_text or self.space is None:
            return histories
        known = histories if newest is None else histories.newest(newest)
        vectors = self.space.encode(behaviour_texts(known, self.catalog.titles, self.config.user_items))
        return replace(histories, text_vectors=np.where(known.lengths[:, None] > 0, vectors, 0).astype(np.float32))


def embed(config: Config, catalog: Catalog) -> Embeddings:
    """Encode the catalogue through the store under `config.output`, and fit the whitening on it."""
    store = VectorStore(Path(config.output) / "vectors")
    encoder = load_encoder(config.embedding, store.folder)
    raw = store.encode(item_texts(catalog, config.embedding.text, config.embedding.html), encoder)
    whitening = Whitening.fit(raw) if config.embedding.whitening else None
    items = unit_rows(raw) if whitening is None else whitening.apply(raw)
    return Embeddings(items, catalog, TextSpace(encoder, whitening, store), config.embedding)
