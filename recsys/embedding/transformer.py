"""The transformer encoder: texts in, raw BERT features out. Torch is imported when the first text is encoded."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.config import EmbeddingConfig
from recsys.embedding.hardware import check_int8, find_device, find_precision
from recsys.embedding.locate import FINGERPRINT_FILES, find_model, find_usage, one_line, read_json
from recsys.embedding.registry import ENCODERS
from recsys.errors import ConfigError
from recsys.extras import require
from recsys.ragged import offsets_of

T = TypeVar("T")
Forward = Callable[[LongArray, IntArray], FloatArray]

log = logging.getLogger(__name__)

# Part of the fingerprint. Raise it when a change of this module's arithmetic changes vectors.
_VERSION = "1"

# Texts tokenised and sorted by length at once: enough that padding is rare, few enough to stay small in memory.
_WINDOW = 16_384

# A CPU is fastest while a batch stays in its cache (all-MiniLM-L6-v2, texts a second with 8192 / 1024 tokens:
# bfloat16 190 / 305, int8 230 / 470); a GPU wants large ones.
_CPU_TOKENS, _GPU_TOKENS = 1024, 8192

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


@ENCODERS.register
class TransformerEncoder:
    """The final-layer features of any BERT-like model in a `transformers` or `sentence-transformers` layout.

    `pooling: cls` takes the final layer's output at the first token (Devlin et al. 2019, "BERT", arXiv 1810.04805).
    `pooling: mean` takes the average over a text's tokens (Reimers and Gurevych 2019, "Sentence-BERT", arXiv
    1908.10084). Left out, it is CLS, or what a sentence-transformers model with a default prompt declares; so is the
    prefix, which stands before each text (`query: ` of E5). The normalisation that such a model declares is not
    applied.

    Args:
        config: The `embedding` section of a config.
        cache: Where the int8 model is kept, by fingerprint. None: it is derived again each time.

    Raises:
        ConfigError: The model is not found, is no BERT-like model, or has no safetensors weights; `device` or
            `max_tokens` does not suit it; `precision: int8` is set for a GPU or its packages are missing.
    """

    name: ClassVar[str] = "transformer"

    def __init__(self, config: EmbeddingConfig, cache: Path | None = None) -> None:
        self._folder = find_model(config.model)
        self._config = config
        described = read_json(self._folder / "config.json")
        self.dimension = int(described.get("hidden_size") or described["dim"])  # DistilBERT says dim
        longest = described.get("max_position_embeddings")
        if longest and config.max_tokens > longest:
            raise ConfigError(
                f"embedding.max_tokens is {config.max_tokens}, and {config.model} reads {longest} tokens at most: "
                f"set max_tokens to {longest} or less"
            )
        usage = find_usage(config, self._folder)
        self.pooling, self._prefix = usage.pooling, usage.prefix
        self._cache = cache
        if config.precision == "int8":
            check_int8(config.device)
        self._device = "cpu" if config.precision == "int8" else find_device(config.device)
        self._precision = find_precision(config.precision, self._device)
        self._lock = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 over the weight, tokenizer and config files, the pooling, prefix, `max_tokens` and precision."""
        digest = hashlib.sha256()
        for setting in (_VERSION, self.pooling, self._config.max_tokens, self._precision):
            digest.update(f"{setting}\n".encode())
        if self._prefix:
            digest.update(f"prefix {self._prefix!r}\n".encode())
        for path in sorted({path for pattern in FINGERPRINT_FILES for path in self._folder.glob(pattern)}):
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Encode texts; equal texts are computed once.

        Returns:
            Raw features `(n, d)` float32.
        """
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        features = np.empty((len(distinct), self.dimension), dtype=np.float32)
        for rows, batch in self.encode_batches(list(distinct)):
            features[rows] = batch
        return features[np.fromiter((distinct[text] for text in texts), dtype=np.int64, count=len(texts))]

    def encode_batches(self, texts: Sequence[str]) -> Iterator[tuple[LongArray, FloatArray]]:
        """Encode texts in batches of at most `batch_tokens` padded tokens, halved where memory runs out.

        Yields:
            `(rows, features)`: row numbers `(b,)` and their raw features `(b, d)` float32, longest texts first.

        Raises:
            ConfigError: A value is not finite, one text alone does not fit into memory, the device is not there, the
                model cannot be loaded, or the extra `train` is missing.
        """
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
    def _parts(self) -> tuple[Any, Forward]:
        """The tokenizer and the model's forward pass; loaded on first use."""
        require("train", "encoding texts", "torch", "transformers")
        from transformers import AutoTokenizer

        tokenizer = self._loaded(
            lambda: AutoTokenizer.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)
        )
        tokenizer.truncation_side = "right"
        if self._precision == "int8":
            from recsys.embedding.int8 import load_int8

            return tokenizer, load_int8(self._cache and self._cache / self.fingerprint, self._pooled)
        return tokenizer, self._torch()

    def _torch(self) -> Forward:
        """Load the model on its device in its precision."""
        import torch

        kind = self._device.split(":")[0]
        if kind != "cpu" and not getattr(torch, kind).is_available():
            raise ConfigError(
                f"embedding.device is {self._device!r}, and torch {torch.__version__} sees no such device here: "
                "set it to cpu, or install the torch build for it"
            )
        model = self._pooled().to(self._device, getattr(torch, self._precision))

        def forward(ids: LongArray, mask: IntArray) -> FloatArray:
            with torch.inference_mode():
                pooled = model(torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device))
                features: FloatArray = pooled.cpu().numpy()
                return features

        return forward

    def _pooled(self) -> Any:
        """Load the model in float32 on the CPU, with its pooling."""
        from recsys.embedding.pooling import load_pooled

        return self._loaded(lambda: load_pooled(self._folder, self.pooling))

    def _loaded(self, load: Callable[[], T]) -> T:
        """Call `load`, without the library's own bar and report; turn what it raises into a `ConfigError`."""
        from transformers.utils import logging as messages

        had_progress_bar, verbosity = messages.is_progress_bar_enabled(), messages.get_verbosity()
        messages.disable_progress_bar()  # it would mix with our own bar
        messages.set_verbosity_error()  # it reports missing poolers, which are never used
        try:
            return load()
        except ConfigError:
            raise
        except Exception as error:  # a model folder can be broken in more ways than the library has exceptions for
            raise ConfigError(f"embedding.model {self._folder} cannot be loaded: {one_line(error)}") from error
        finally:
            messages.set_verbosity(verbosity)
            if had_progress_bar:
                messages.enable_progress_bar()

    def _tokenize(self, texts: Sequence[str]) -> tuple[LongArray, LongArray]:
        """Tokenise texts into one ragged array of token ids `(n,)`, with its offsets."""
        # tokenizers refuse lone surrogates
        valid = [(self._prefix + text).encode("utf-8", "replace").decode() for text in texts]
        # Under the lock: the model must load once, and a fast tokenizer's settings are not thread-safe.
        with self._lock:
            tokenizer = self._parts[0]
            ids = tokenizer(valid, truncation=True, max_length=self._config.max_tokens, verbose=False)["input_ids"]
        offsets = offsets_of(np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)))
        return np.fromiter(itertools.chain.from_iterable(ids), dtype=np.int64, count=int(offsets[-1])), offsets

    def _pad(self, tokens: LongArray, offsets: LongArray, rows: LongArray) -> tuple[LongArray, IntArray]:
        """Pad the tokens of some rows to one length; return ids and mask `(b, t)`."""
        starts, ends = offsets[rows, None], offsets[rows + 1, None]
        place = starts + np.arange(int((ends - starts).max()))
        mask = place < ends
        padding = self._parts[0].pad_token_id or 0
        return np.where(mask, tokens[np.minimum(place, len(tokens) - 1)], padding), mask.astype(np.int32)

    def _features(self, ids: LongArray, mask: IntArray) -> FloatArray | None:
        """Compute the pooled features of one batch; None where memory ran out."""
        try:
            return self._parts[1](ids, mask)
        except RuntimeError as error:
            if not any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
                raise
            return None

    def _halve(self, texts: int, longest: int) -> int:
        """Return a smaller `batch_tokens` after a batch of so many texts did not fit into memory."""
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
