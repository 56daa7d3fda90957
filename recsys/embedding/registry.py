"""The encoders that a config can name. Each registers itself in its own module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recsys.config import EmbeddingConfig, nearest
from recsys.embedding.base import Encoder
from recsys.errors import ConfigError
from recsys.registry import Family

# `pooling` brings torch, which is imported when the first text is encoded.
ENCODERS: Family[Callable[[EmbeddingConfig, Path | None], Encoder]] = Family(
    "encoder", "recsys.embedding", group="recsys.encoders", skip=["pooling"]
)


def load_encoder(config: EmbeddingConfig, kept: Path | None = None) -> Encoder:
    """Build the encoder that a config names. Cheap: no model is loaded before a text is encoded.

    Under the folder `kept`, by fingerprint, an encoder may keep what it makes of the model: the store's is meant.

    Raises:
        ConfigError: the encoder is unknown, or refuses its settings.
    """
    name = config.encoder
    if name not in ENCODERS:
        hint = f"{nearest(name, ENCODERS)}; known: {', '.join(ENCODERS)}"
        raise ConfigError(f"embedding.encoder: unknown name {name!r}{hint}")
    return ENCODERS[name](config, kept)
