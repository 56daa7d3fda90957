"""The shop's own words: pre-training goes on, on its texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recsys.arrays import LongArray
from recsys.errors import DataError
from recsys.finetuning.base import Corpus, Objective
from recsys.finetuning.registry import OBJECTIVES

IGNORED = -100  # the label of a token that is not to be found


@OBJECTIVES.register
@dataclass(frozen=True)
class MaskedWords(Objective):
    """Masked words on the texts of the items that had an event before the cut.

    A share of the tokens is to be found again; of these, eight in ten are hidden, one is replaced by a random token
    and one stays (Devlin et al. 2019, "BERT", arXiv 1810.04805; Gururangan et al. 2020, "Don't Stop Pretraining",
    arXiv 2004.10964, for going on with it on one's own texts).

    Attributes:
        share: The share of tokens to be found again.
    """

    name: ClassVar[str] = "masked_words"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.15

    def examples(self, corpus: Corpus, rng: np.random.Generator) -> LongArray:
        """The items with an event `(n, 1)`.

        Raises:
            DataError: no item has one, or the tokenizer has no token that hides a word.
        """
        if corpus.mask is None:
            raise DataError(
                "finetune: the tokenizer of embedding.model has no mask token, so masked_words cannot be learned"
            )
        items = np.flatnonzero(corpus.counts)
        if not len(items):
            raise DataError("finetune: no item has an event before the cut, so masked_words has no text to learn from")
        return items[:, None]

    def collate(self, corpus: Corpus, rows: LongArray, rng: np.random.Generator) -> dict[str, Any]:
        batch = corpus.pad(rows[:, 0])
        ids = batch["input_ids"]
        words = (batch["attention_mask"] > 0) & ~np.isin(ids, list(corpus.special))
        wanted = words & (rng.random(ids.shape) < self.share)
        if not wanted.any() and words.any():  # a batch of short texts: at least one word
            wanted.flat[rng.choice(np.flatnonzero(words))] = True
        kind = rng.random(ids.shape)
        other = np.where(kind < 0.9, rng.integers(corpus.vocabulary, size=ids.shape), ids)
        hidden = np.where(kind < 0.8, np.int64(corpus.mask or 0), other)
        return batch | {"input_ids": np.where(wanted, hidden, ids), "labels": np.where(wanted, ids, IGNORED)}

    def loss(self, corpus: Corpus, encoder: Any) -> Any:
        from recsys.finetuning.losses import MaskedWordsLoss

        return MaskedWordsLoss(encoder)
