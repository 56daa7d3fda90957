"""The int8 model: derived once, kept, mended, near float32."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tiny_bert import TEXTS, config_for

from recsys.arrays import FloatArray, unit_rows
from recsys.embedding.registry import load_encoder
from recsys.embedding.store import VectorStore
from recsys.embedding.transformer import TransformerEncoder
from recsys.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize(("precision", "cosine"), [("bfloat16", 0.99), ("int8", 0.98)])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_lower_precisions_are_near_and_float32_out(
    precision: str, cosine: float, pooling: str, tiny_model: Path
) -> None:
    exact, lower = (
        load_encoder(config_for(tiny_model, pooling=pooling, precision=name)) for name in ("float32", precision)
    )
    vectors = lower.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert (unit_rows(vectors) * unit_rows(exact.encode(TEXTS))).sum(1).min() > cosine
    assert not np.array_equal(vectors, exact.encode(TEXTS))


def test_int8_makes_its_model_once_and_mends_a_damaged_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = VectorStore(tmp_path)

    def encode(texts: list[str]) -> FloatArray:
        return store.encode(texts, load_encoder(config_for(tiny_model, precision="int8"), store.folder))

    first = encode(["soap"])
    (kept,) = tmp_path.glob("*/*.onnx")
    assert kept.parent.name == load_encoder(config_for(tiny_model, precision="int8")).fingerprint
    kept.write_bytes(kept.read_bytes()[:-1])
    encode(["hair"])
    assert "is damaged; it is made again" in caplog.text
    assert list(tmp_path.glob("*/*.onnx")) == [kept]
    monkeypatch.setattr(TransformerEncoder, "_pooled", lambda self: pytest.fail("the torch model is loaded again"))
    again = load_encoder(config_for(tiny_model, precision="int8"), store.folder).encode(["soap"])
    np.testing.assert_array_equal(first, again)


def test_int8_says_what_it_lacks(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"precision is int8, which runs on the CPU, and embedding\.device is 'cuda'"):
        load_encoder(config_for(tiny_model, precision="int8", device="cuda"))
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name.startswith("onnx") else real(name))
    with pytest.raises(
        ConfigError, match=r"int8 needs onnxruntime and onnx, which are not installed: pip install 'recsys\[int8\]'"
    ):
        load_encoder(config_for(tiny_model, precision="int8"))
