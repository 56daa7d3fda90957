"""The contract of every encoder, and what a config may name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from tiny_bert import DIMENSION, MAX_TOKENS, TEXTS, build_tiny_bert, config_for

from recsys.embedding.registry import ENCODERS, load_encoder
from recsys.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_encoder_contract(name: str, pooling: str, tiny_model: Path) -> None:
    encoder = load_encoder(config_for(tiny_model, encoder=name, pooling=pooling))
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dimension)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert encoder.encode([]).shape == (0, encoder.dimension)
    np.testing.assert_array_equal(vectors[0], vectors[5])
    one_by_one = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, one_by_one, atol=1e-5)
    rows = np.concatenate([rows for rows, _ in encoder.encode_batches(TEXTS)])
    assert sorted(rows) == list(range(len(TEXTS)))
    assert list(encoder.encode_batches([])) == []


@pytest.mark.parametrize("name", ENCODERS)
def test_fingerprint_changes_with_what_changes_vectors(name: str, tiny_model: Path, tmp_path: Path) -> None:
    def fingerprint(model: Path = tiny_model, **settings: object) -> str:
        return load_encoder(config_for(model, encoder=name, **settings)).fingerprint

    other = build_tiny_bert(tmp_path / "other", seed=1)
    words = shutil.copytree(tiny_model, tmp_path / "words")
    tokenizer = words / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8").replace("lowercase", "LOWERCASE"), encoding="utf-8")
    prints = [fingerprint(), fingerprint(pooling="mean"), fingerprint(max_tokens=32), fingerprint(precision="bfloat16"),
              fingerprint(precision="int8"), fingerprint(other), fingerprint(words)]  # fmt: skip
    assert len(set(prints)) == len(prints)
    same = [fingerprint(), fingerprint(shutil.copytree(tiny_model, tmp_path / "copy")), fingerprint(batch_tokens=64)]
    assert set(same) == {prints[0]}


def test_nothing_heavy_is_imported_before_the_first_text(tiny_model: Path) -> None:
    program = f"""
        import sys
        from recsys.config import EmbeddingConfig
        from recsys.embedding import registry, store, texts, transformer, whitening
        encoder = registry.load_encoder(EmbeddingConfig(model={str(tiny_model)!r}, max_tokens=64))
        assert encoder.dimension == {DIMENSION} and len(encoder.fingerprint) == 64
        print(sorted({{"torch", "transformers", "sentence_transformers", "sklearn"}} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_encoder_device_and_length(tiny_model: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"unknown name 'transfomer'; did you mean 'transformer'\?; known: transformer"
    ):
        load_encoder(config_for(tiny_model, encoder="transfomer"))
    with pytest.raises(ConfigError, match=r"unknown device 'gpu'; known: auto, cpu, mps, cuda"):
        load_encoder(config_for(tiny_model, device="gpu"))
    with pytest.raises(
        ConfigError, match=rf"max_tokens is 65, .* reads {MAX_TOKENS} tokens at most: set max_tokens to {MAX_TOKENS}"
    ):
        load_encoder(config_for(tiny_model, max_tokens=65))
