"""The transformer encoder: batches, memory, values that are not finite, threads."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import DIMENSION, TEXTS, config_for

from recsys.arrays import FloatArray
from recsys.embedding.base import Encoder
from recsys.embedding.registry import load_encoder
from recsys.embedding.store import VectorStore
from recsys.embedding.transformer import TransformerEncoder
from recsys.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=12), st.sampled_from([8, 64, 500]))
def test_batching_never_changes_a_vector(
    encoder: Encoder, tiny_model: Path, texts: list[str], batch_tokens: int
) -> None:
    batched = load_encoder(config_for(tiny_model, batch_tokens=batch_tokens))
    batched.__dict__["_parts"] = encoder._parts  # type: ignore[attr-defined]
    alone = [encoder.encode([text]) for text in texts]
    np.testing.assert_allclose(batched.encode(texts), np.concatenate([np.empty((0, DIMENSION)), *alone]), atol=1e-5)


def test_batches_hold_the_token_budget_and_windows_join(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.embedding.transformer._WINDOW", 7)
    texts = [" ".join(["red"] * (1 + i % 20)) for i in range(50)]
    small = TransformerEncoder(config_for(tiny_model, batch_tokens=66))
    sizes = [(len(rows), max(len(texts[row].split()) + 2 for row in rows)) for rows, _ in small.encode_batches(texts)]
    assert all(count * longest <= 66 for count, longest in sizes)
    assert len(sizes) < 50
    np.testing.assert_allclose(small.encode(texts), load_encoder(config_for(tiny_model)).encode(texts), atol=1e-5)


class Crowded(TransformerEncoder):
    """Runs out of memory above so many texts a batch, as torch does."""

    limit = 3

    def _features(self, ids, mask):
        import torch

        tokenizer, run = self._parts

        def crowded(ids, mask):
            if len(ids) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return run(ids, mask)

        self.__dict__["_parts"] = tokenizer, crowded
        try:
            return super()._features(ids, mask)
        finally:
            self.__dict__["_parts"] = tokenizer, run


def test_out_of_memory_halves_the_batch_and_goes_on(
    tiny_model: Path, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    crowded = Crowded(config_for(tiny_model))
    np.testing.assert_allclose(crowded.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)
    assert "did not fit into memory; going on with batch_tokens" in caplog.text
    crowded.limit = 0
    with pytest.raises(ConfigError, match=r"one text of 64 tokens does not fit into the memory of 'cpu'"):
        crowded.encode(TEXTS)


def test_values_that_are_not_finite_are_an_error_that_names_the_text(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(tiny_model, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    weights["embeddings.word_embeddings.weight"][vocabulary.index("soap")] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ConfigError, match=r"in float32 gives values that are not finite for 1 of 2 texts, first 'soap'"
    ):
        load_encoder(config_for(folder)).encode(["soap", "hair"])


def test_other_errors_of_the_model_pass_through(tiny_model: Path) -> None:
    broken = TransformerEncoder(config_for(tiny_model))
    with pytest.raises(IndexError):
        broken._features(np.array([[10**6]]), np.array([[1]], dtype=np.int32))


def test_lone_surrogates_are_read_as_question_marks(encoder: Encoder, tmp_path: Path) -> None:
    vectors = VectorStore(tmp_path).encode(["red \ud800 soap", "red ? soap"], encoder)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_threads_share_an_encoder(tiny_model: Path, encoder: Encoder) -> None:
    shared, wanted = load_encoder(config_for(tiny_model)), encoder.encode(TEXTS)
    got: list[FloatArray] = []
    threads = [threading.Thread(target=lambda: got.append(shared.encode(TEXTS))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    for vectors in got:
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
