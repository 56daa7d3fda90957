"""The contract of encoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from recsys.arrays import FloatArray, LongArray
from recsys.config import EmbeddingConfig


class Encoder(Protocol):
    """What the vector store and the engine need of an encoder. Several threads may use one.

    A member of the family also has a `name` and is built from the config, as `EncoderMember` says.
    """

    @property
    def fingerprint(self) -> str:
        """64 hex digits that change with whatever may change a vector. Cheap: loads no model."""

    @property
    def dimension(self) -> int:
        """The width `d` of a vector. Cheap: loads no model."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Encode texts.

        Returns:
            Raw features `(n, d)` float32, neither scaled nor whitened; `(0, d)` for no texts.
        """

    def encode_batches(self, texts: Sequence[str]) -> Iterator[tuple[LongArray, FloatArray]]:
        """Encode texts batch by batch.

        Yields:
            `(rows, features)`: row numbers `(b,)` and their raw features `(b, d)`. Every row comes once, in any order.

        Raises:
            ConfigError: The model gives a value that is not finite.
        """


class EncoderMember(Protocol):
    """A class that `embedding.encoder` can name."""

    name: str  # a class variable

    def __call__(self, config: EmbeddingConfig, cache: Path | None = None) -> Encoder:
        """Build the encoder without loading a model.

        Args:
            config: The `embedding` section of a config.
            cache: A folder for what the encoder derives from the model, kept by fingerprint. None: keep nothing.

        Raises:
            ConfigError: A setting does not suit the model or the machine.
        """
