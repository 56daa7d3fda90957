"""Builds a tiny BERT with random weights and a WordPiece tokenizer into a folder, in well under a second."""

from __future__ import annotations

import json
import string
from pathlib import Path

from recsys.config import EmbeddingConfig

WORDS = [
    "shampoo",
    "cream",
    "lip",
    "##stick",
    "##s",
    "nail",
    "red",
    "green",
    "hair",
    "face",
    "soap",
    "the",
    "for",
    "and",
]
HAN = "口红洗发水面霜香皂红色绿色的"
EMOJI = "💄🧴🧼💅🌿"
DIMENSION = 32
MAX_TOKENS = 64
TEXTS = [
    "red lipstick", "", "shampoo 💄 口红", "the cream for face and hair", "soap", "red lipstick", "面霜",
    "the cream for face and hair " * 2_000, "xyz ☃", " \t\n ", "hair",
]  # fmt: skip


def config_for(model: Path | str, **settings: object) -> EmbeddingConfig:
    """Settings of an encoder for a tiny model."""
    return EmbeddingConfig(
        model=str(model), **({"max_tokens": MAX_TOKENS, "precision": "float32", "device": "cpu"} | settings)
    )


def build_tiny_bert(folder: Path, layout: str = "plain", seed: int = 0) -> Path:
    """Write a model into `folder`, and return it.

    `layout` is `plain` (transformers), `sentence` (sentence-transformers, model in the root) or `nested`
    (sentence-transformers, model in `0_Transformer`). The latter two specify mean pooling and normalising.
    """
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    inner = folder / "0_Transformer" if layout == "nested" else folder
    inner.mkdir(parents=True, exist_ok=True)
    letters = [mark + letter for letter in string.ascii_lowercase + string.digits for mark in ("", "##")]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters, *WORDS, *HAN, *EMOJI]
    lines = list(dict.fromkeys(vocabulary))
    (inner / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    BertTokenizerFast(str(inner / "vocab.txt"), do_lower_case=True, model_max_length=MAX_TOKENS).save_pretrained(inner)
    config = BertConfig(
        vocab_size=len(lines), hidden_size=DIMENSION, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=MAX_TOKENS, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(inner)
    if layout != "plain":
        modules = [
            (inner.name if layout == "nested" else "", "Transformer"),
            ("1_Pooling", "Pooling"),
            ("2_Normalize", "Normalize"),
        ]
        described = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ]
        (folder / "modules.json").write_text(json.dumps(described), encoding="utf-8")
        (folder / "1_Pooling").mkdir(exist_ok=True)
        pooling = {
            "word_embedding_dimension": DIMENSION,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
        }
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder
