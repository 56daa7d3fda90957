"""The encoders that a config can name. Each registers itself in its own module."""

from __future__ import annotations

from pathlib import Path

from recsys.config import EmbeddingConfig, nearest
from recsys.embedding.base import Encoder, EncoderMember
from recsys.errors import ConfigError
from recsys.registry import Family

# `pooling` brings torch, which is imported when the first text is encoded.
ENCODERS: Family[EncoderMember] = Family("encoder", "recsys.embedding", group="recsys.encoders", skip=["pooling"])


def load_encoder(config: EmbeddingConfig, cache: Path | None = None) -> Encoder:
    """Build the encoder that a config names. Cheap: no model is loaded before the first text is encoded.

    Args:
        config: The `embedding` section of a config.
        cache: A folder for what the encoder derives from the model, such as its int8 version; in practice the folder
            of the vector store. None: keep nothing.

    Raises:
        ConfigError: The encoder is unknown, or a setting does not suit it.
    """
    name = config.encoder
    if name not in ENCODERS:
        hint = f"{nearest(name, ENCODERS)}; known: {', '.join(ENCODERS)}"
        raise ConfigError(f"embedding.encoder: unknown name {name!r}{hint}")
    return ENCODERS[name](config, cache)
