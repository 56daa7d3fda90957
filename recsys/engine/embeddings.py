"""Item vectors, and the encoder and whitening that turn any other text into a vector of the same space."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from recsys.arrays import FloatArray, unit_rows
from recsys.config import EmbeddingConfig
from recsys.embedding.base import Encoder
from recsys.embedding.coverage import describe_unread
from recsys.embedding.lineage import Lineage
from recsys.embedding.registry import load_encoder
from recsys.embedding.store import VectorStore
from recsys.embedding.texts import behaviour_texts, item_texts
from recsys.embedding.whitening import Whitening
from recsys.tables.split import Fold
from recsys.types import Catalog, Histories

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TextSpace:
    """Turns texts into vectors: an encoder, and the whitening fitted on one catalogue (None: unit rows only)."""

    encoder: Encoder
    whitening: Whitening | None
    store: VectorStore | None = None

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Encode texts into unit rows `(n, d)`; with a store, only texts that it lacks reach the encoder."""
        raw = self.encoder.encode(texts) if self.store is None else self.store.encode(texts, self.encoder)
        return unit_rows(raw) if self.whitening is None else self.whitening.apply(raw)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Item vectors `(I, d)`, unit rows, and how to encode behaviour texts where `settings.user_text` asks for them."""

    items: FloatArray
    catalog: Catalog
    space: TextSpace | None = None
    settings: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    lineage: Lineage | None = None  # what the encoder was tuned on; None where it was not

    def check_cut(self, fold: Fold) -> None:
        """Check that a cut knows all that the encoder was tuned on.

        Raises:
            LeakageError: it does not, or that cannot be ruled out.
        """
        if self.lineage is not None:
            self.lineage.check(fold.as_of, len(fold.known))

    def with_text_vectors(self, histories: Histories, newest: int | None = None) -> Histories:
        """Return the histories with the vectors of their behaviour texts; unchanged where these are not asked for.

        Args:
            histories: The histories.
            newest: How many of its newest events a text names at most; None for all that the settings allow.

        Returns:
            The histories; a query without events has a vector of zeros.
        """
        if not self.settings.user_text or self.space is None:
            return histories
        known = histories if newest is None else histories.newest(newest)
        vectors = self.space.encode(behaviour_texts(known, self.catalog.titles, self.settings.user_items))
        return replace(histories, text_vectors=np.where(known.lengths[:, None] > 0, vectors, 0).astype(np.float32))


def embed(settings: EmbeddingConfig, catalog: Catalog, folder: Path) -> Embeddings:
    """Encode the catalogue and fit the whitening on it. Warns where the encoder cannot read the texts.

    Args:
        settings: The encoder, the text of an item, and whether to whiten.
        catalog: The items.
        folder: The vector store: only texts that it lacks are encoded.

    Raises:
        ConfigError: the encoder is unknown, is not installed, or refuses its settings; the catalogue lacks a column.
    """
    store = VectorStore(folder)
    encoder = load_encoder(settings, store.folder)
    texts = item_texts(catalog, settings.text, settings.html)
    if unread := describe_unread(settings, texts):
        log.warning("%s", unread)
    raw = store.encode(texts, encoder)
    whitening = Whitening.fit(raw) if settings.whitening else None
    items = unit_rows(raw) if whitening is None else whitening.apply(raw)
    lineage = Lineage.read(settings.model) if settings.encoder == "transformer" else None
    return Embeddings(items, catalog, TextSpace(encoder, whitening, store), settings, lineage)
