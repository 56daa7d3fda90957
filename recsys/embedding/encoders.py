"""Encoders: texts in, raw BERT features out. Nothing here imports torch before the first text is encoded."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import logging
import platform
import re
import runpy
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from recsys.config import EmbeddingConfig, nearest
from recsys.errors import ConfigError
from recsys.types import FloatArray, IntArray, LongArray, offsets_of

T = TypeVar("T")
log = logging.getLogger(__name__)

# What decides a vector besides the settings; a change of our own arithmetic must change the number.
_VERSION = "1"
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_FINGERPRINT_FILES = ("config.json", "*.safetensors*", *_TOKENIZER_FILES, "*token*.json", "merges.txt")
# Texts tokenised and sorted by length at once: enough that padding is rare, few enough to stay small in memory.
_WINDOW = 16_384
# A CPU is fastest while a batch stays in its cache (all-MiniLM-L6-v2, texts a second with 8192 / 1024 tokens:
# bfloat16 190 / 305, int8 230 / 470); a GPU wants large ones.
_CPU_TOKENS, _GPU_TOKENS = 1024, 8192
INT8_PACKAGES = ("onnxruntime", "onnx")  # of the extra `int8`
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


class Encoder(Protocol):
    """What the store and the engine ask of an encoder. Built by `load_encoder`, usable from several threads."""

    @property
    def fingerprint(self) -> str:
        """64 hex digits that change with whatever may change a vector; cheap, loads no model."""

    @property
    def dimension(self) -> int:
        """The width `d` of a vector; cheap, loads no model."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Raw features `(n, d)`, neither scaled nor whitened; `(0, d)` for no texts."""

    def encode_batches(self, texts: Sequence[str]) -> Iterator[tuple[LongArray, FloatArray]]:
        """Yield `(rows, features)` in any order, every row once; a value not finite is a `ConfigError`."""


class TransformerEncoder:
    """The final-layer features of any BERT-like model in a `transformers` or `sentence-transformers` layout.

    `pooling: cls` takes the final layer's output at the first token (Devlin et al. 2019, arXiv 1810.04805),
    `mean` the average over a text's tokens (Reimers and Gurevych 2019, arXiv 1908.10084). A
    sentence-transformers model's own pooling and normalisation are not applied: the config decides.

    Raises:
        ConfigError: the model is not found, is no model, or holds no safetensors weights; `device` or
            `max_tokens` do not suit it; `precision: int8` lacks its packages, or is asked of a GPU.
    """

    def __init__(self, config: EmbeddingConfig, kept: Path | None = None) -> None:
        self._folder = find_model(config.model)
        self._config = config
        described = _read_json(self._folder / "config.json")
        self.dimension = int(described.get("hidden_size") or described["dim"])  # DistilBERT says dim
        longest = described.get("max_position_embeddings")
        if longest and config.max_tokens > longest:
            raise ConfigError(
                f"embedding.max_tokens is {config.max_tokens}, and {config.model} reads {longest} tokens at most: "
                f"set max_tokens to {longest} or less"
            )
        self._kept = kept
        self._device = _find_device(config.device) if config.precision != "int8" else _int8_device(config.device)
        self._precision = _find_precision(config.precision, self._device)
        self._lock = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the weight, tokenizer and config files, the pooling, `max_tokens` and the precision."""
        digest = hashlib.sha256()
        for setting in (_VERSION, self._config.pooling, self._config.max_tokens, self._precision):
            digest.update(f"{setting}\n".encode())
        for path in sorted({path for pattern in _FINGERPRINT_FILES for path in self._folder.glob(pattern)}):
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Raw features `(n, d)` float32; equal texts are computed once."""
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        features = np.empty((len(distinct), self.dimension), dtype=np.float32)
        for rows, batch in self.encode_batches(list(distinct)):
            features[rows] = batch
        return features[np.fromiter((distinct[text] for text in texts), dtype=np.int64, count=len(texts))]

    def encode_batches(self, texts: Sequence[str]) -> Iterator[tuple[LongArray, FloatArray]]:
        """Yield batches of `batch_tokens` padded tokens, longest texts first; halved where memory runs out."""
        budget = self._config.batch_tokens or (_CPU_TOKENS if self._device == "cpu" else _GPU_TOKENS)
        for start in range(0, len(texts), _WINDOW):
            tokens, offsets = self._tokenize(texts[start : start + _WINDOW])
            lengths = np.diff(offsets)
            order = np.argsort(-lengths, kind="stable")
            while len(order):
                longest = int(lengths[order[0]])
                rows = order[: max(1, budget // longest)]
                features = self._features(*self._pad(tokens, offsets, rows))
                if features is None:
                    budget = self._halve(len(rows), longest)
                    continue
                self._check(features, texts, start + rows)
                order = order[len(rows) :]
                yield start + rows, features

    @cached_property
    def _parts(self) -> tuple[Any, Callable[[LongArray, IntArray], FloatArray]]:
        """The tokenizer, and what makes pooled features of ids and mask; loaded on first use."""
        from transformers import AutoTokenizer

        tokenizer = self._loaded(
            lambda: AutoTokenizer.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)
        )
        tokenizer.truncation_side = "right"
        if self._precision == "int8":
            from recsys.embedding.int8 import load_int8

            return tokenizer, load_int8(self._kept and self._kept / self.fingerprint, self._pooled)
        return tokenizer, self._torch()

    def _torch(self) -> Callable[[LongArray, IntArray], FloatArray]:
        """The model on its device in its precision."""
        import torch

        kind = self._device.split(":")[0]
        if kind != "cpu" and not getattr(torch, kind).is_available():
            raise ConfigError(
                f"embedding.device is {self._device!r}, and torch {torch.__version__} sees no such device here: "
                "set it to cpu, or install the torch build for it"
            )
        model = self._pooled().to(self._device, getattr(torch, self._precision))

        def features(ids: LongArray, mask: IntArray) -> FloatArray:
            with torch.inference_mode():
                pooled = model(torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device))
                told: FloatArray = pooled.cpu().numpy()
                return told

        return features

    def _pooled(self) -> Any:
        """The model in float32 on the CPU, with its pooling."""
        from recsys.embedding.pooled import load_pooled

        return self._loaded(lambda: load_pooled(self._folder, self._config.pooling))

    def _loaded(self, load: Callable[[], T]) -> T:
        """What `load` reads from the model's folder, told of without the library's own progress bar."""
        from transformers.utils import logging as chatter

        barred = chatter.is_progress_bar_enabled()
        chatter.disable_progress_bar()  # weights load in a second, and the bar would mix with our own
        try:
            return load()
        except ConfigError:
            raise
        except Exception as error:  # a model folder can be broken in more ways than the library has exceptions for
            raise ConfigError(f"embedding.model {self._folder} cannot be loaded: {_one_line(error)}") from error
        finally:
            if barred:
                chatter.enable_progress_bar()

    def _tokenize(self, texts: Sequence[str]) -> tuple[LongArray, LongArray]:
        """Token ids of all texts in one ragged array `(n,)`, with offsets."""
        sound = [text.encode("utf-8", "replace").decode() for text in texts]  # tokenizers refuse lone surrogates
        # Under the lock: the model must load once, and a fast tokenizer's settings are not thread-safe.
        with self._lock:
            tokenizer = self._parts[0]
            ids = tokenizer(sound, truncation=True, max_length=self._config.max_tokens, verbose=False)["input_ids"]
        offsets = offsets_of(np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)))
        return np.fromiter(itertools.chain.from_iterable(ids), dtype=np.int64, count=int(offsets[-1])), offsets

    def _pad(self, tokens: LongArray, offsets: LongArray, rows: LongArray) -> tuple[LongArray, IntArray]:
        """The rows' tokens as a rectangle, and its mask."""
        starts, ends = offsets[rows, None], offsets[rows + 1, None]
        place = starts + np.arange(int((ends - starts).max()))
        mask = place < ends
        padding = self._parts[0].pad_token_id or 0
        return np.where(mask, tokens[np.minimum(place, len(tokens) - 1)], padding), mask.astype(np.int32)

    def _features(self, ids: LongArray, mask: IntArray) -> FloatArray | None:
        """Pooled features of one batch; None where memory ran out."""
        try:
            return self._parts[1](ids, mask)
        except RuntimeError as error:
            if not any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
                raise
            return None

    def _halve(self, texts: int, longest: int) -> int:
        """The next smaller budget after a batch of so many texts did not fit."""
        if texts == 1:
            where = f"the memory of {self._device!r}"
            raise ConfigError(f"embedding: one text of {longest} tokens does not fit into {where}: lower max_tokens")
        budget = texts * longest // 2
        log.warning("a batch of %d texts did not fit into memory; going on with batch_tokens %d", texts, budget)
        return budget

    def _check(self, features: FloatArray, texts: Sequence[str], rows: LongArray) -> None:
        broken = ~np.isfinite(features).all(axis=1)
        if broken.any():
            first = texts[int(rows[broken.argmax()])][:80]
            raise ConfigError(
                f"embedding.model {self._config.model} in {self._precision} gives values that are not finite for "
                f"{int(broken.sum())} of {len(rows)} texts, first {first!r}: set precision to float32"
            )


def load_encoder(config: EmbeddingConfig, kept: Path | None = None) -> Encoder:
    """Build the encoder that a config names. Cheap: no model is loaded before a text is encoded.

    Under the folder `kept`, by fingerprint, an encoder may keep what it makes of the model: the store's is meant.

    Raises:
        ConfigError: the encoder is unknown, or refuses its settings.
    """
    name = config.encoder
    if name not in ENCODERS:
        hint = f"{nearest(name, ENCODERS)}; known: {', '.join(ENCODERS)}"
        raise ConfigError(f"embedding.encoder: unknown name {name!r}{hint}")
    return ENCODERS[name](config, kept)


def find_model(name: str) -> Path:
    """Find the folder with the `config.json`, tokenizer and safetensors weights of a model.

    `name` is, in this order of preference, a folder, an installed package that ships a model (not imported), or
    a name on the Hugging Face hub (its local cache first).

    Raises:
        ConfigError: nothing of that name is found, or it is no model with safetensors weights.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _model_folder(folder)
    if shipped := _packaged(name):
        return _model_folder(shipped)
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise ConfigError(f"embedding.model: the folder {name} does not exist{_nearest_package(name)}")
    return _model_folder(_from_hub(name))


def _model_folder(root: Path) -> Path:
    """The transformer's own folder inside a model folder, checked for what it must hold."""
    folder = root
    if (root / "modules.json").is_file():  # sentence-transformers: the first module is the transformer
        folder = root / _read_json(root / "modules.json")[0]["path"]
    if not {"hidden_size", "dim"} & set(_read_json(folder / "config.json")):
        raise ConfigError(f"embedding.model: {folder} is no BERT-like model: its config.json has no hidden_size")
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ConfigError(f"embedding.model: {folder} holds no tokenizer ({', '.join(_TOKENIZER_FILES)})")
    if not any(folder.glob("*.safetensors")):
        pickled = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "none"
        raise ConfigError(
            f"embedding.model: {folder} holds no *.safetensors weights (pickled ones: {pickled}; nothing is unpickled "
            "here); convert it once where you trust it: from transformers import AutoModel; "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    return folder


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"embedding.model: {path.parent} is no model folder: {_one_line(error)}") from error


def _packaged(name: str) -> Path | None:
    """The model folder inside an installed package, or None."""
    module = re.sub(r"[-.]", "_", name)
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(root).rglob("config.json"), key=lambda path: len(path.parts)):
            if any(path.parent.glob("*.safetensors")):
                inner = path.parent.parent / "modules.json"
                return inner.parent if inner.is_file() else path.parent
    return None


def _from_hub(name: str) -> Path:
    """Download a model from the Hugging Face hub, unless its cache holds it."""
    from huggingface_hub import snapshot_download

    wanted = [*_FINGERPRINT_FILES, "modules.json", *(f"0_Transformer/{file}" for file in _FINGERPRINT_FILES)]
    try:
        with contextlib.suppress(FileNotFoundError):
            cached = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
            if any(cached.rglob("*.safetensors")):
                return cached
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub's client raises whatever its HTTP library of the day raises
        raise ConfigError(
            f"embedding.model {name!r} is no folder, no installed package that ships a model, and could not be "
            f"fetched from the Hugging Face hub ({type(error).__name__}: {_one_line(error)}); give the path of a "
            f"folder with the model, or install a package that ships it{_nearest_package(name)}"
        ) from error


def _nearest_package(name: str) -> str:
    """A hint that names the installed package nearest to `name` that ships a model, or nothing."""
    installed = [dist.name for dist in importlib.metadata.distributions()]
    shipping = [near for near in difflib.get_close_matches(Path(name).name, installed, n=5) if _packaged(near)]
    return f"; did you mean {shipping[0]!r}?" if shipping else ""


def _find_device(asked: str) -> str:
    """The device that `auto` means here, told without importing torch."""
    if asked != "auto":
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", asked):
            raise ConfigError(f"embedding.device: unknown device {asked!r}; known: auto, cpu, mps, cuda, cuda:N")
        return asked
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    spec = importlib.util.find_spec("torch")
    count = ctypes.c_int(0)
    with contextlib.suppress(OSError):  # no torch, no driver: no GPU
        version = Path((spec and spec.origin) or "").with_name("version.py")
        if not runpy.run_path(str(version))["cuda"]:  # a build of torch without CUDA
            return "cpu"
        driver = ctypes.CDLL("libcuda.so.1")
        if driver.cuInit(0) == 0:
            driver.cuDeviceGetCount(ctypes.byref(count))
    return "cuda" if count.value else "cpu"


def _int8_device(asked: str) -> str:
    """The device of int8, checked for what it needs."""
    if asked not in ("auto", "cpu"):
        raise ConfigError(f"embedding.precision is int8, which runs on the CPU, and embedding.device is {asked!r}")
    lacking = [name for name in INT8_PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise ConfigError(
            f"embedding.precision is int8, and {' and '.join(lacking)} is not installed: pip install 'recsys[int8]', "
            "or set precision to auto"
        )
    return "cpu"


def _find_precision(asked: str, device: str) -> str:
    """The precision that `auto` means on a device: half where its hardware computes in it, else float32."""
    if asked != "auto":
        return asked
    if device != "cpu":
        return "float16"
    flags = Path("/proc/cpuinfo")
    fast = flags.is_file() and re.search(r"\b(amx|avx512)_bf16\b", flags.read_text(encoding="utf-8"))
    return "bfloat16" if fast else "float32"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


ENCODERS: dict[str, Callable[[EmbeddingConfig, Path | None], Encoder]] = {"transformer": TransformerEncoder}
