"""What an objective is: examples from what was known at one moment, and a loss that an encoder learns by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recsys.arrays import FloatArray, LongArray
from recsys.types import State

if TYPE_CHECKING:
    from recsys.finetuning.losses import Loss


@dataclass(frozen=True, eq=False)
class Corpus:
    """What an objective may learn from.

    Attributes:
        state: What was known at the moment of tuning; its vectors are those of the encoder as it starts.
        tokens: Token ids of the items' texts, ragged `(n,)`, special tokens included.
        offsets: Ragged offsets `(I + 1,)`.
        padding: Token id that fills a batch.
        mask: Token id of a hidden word; None where the tokenizer has none.
        special: Token ids that are no words.
        vocabulary: How many token ids there are.
        drop_seen: Whether lists leave out what the user had.
    """

    state: State
    tokens: LongArray
    offsets: LongArray
    padding: int
    mask: int | None
    special: frozenset[int]
    vocabulary: int
    drop_seen: bool

    @cached_property
    def counts(self) -> LongArray:
        """Known events of each item `(I,)`."""
        return np.bincount(self.state.interactions.item, minlength=len(self.offsets) - 1)

    def pad(self, items: LongArray) -> dict[str, LongArray]:
        """Return the texts of some items as `input_ids` and `attention_mask` `(i, t)`."""
        starts, ends = self.offsets[items, None], self.offsets[items + 1, None]
        place = starts + np.arange(int((ends - starts).max(initial=1)))
        real = place < ends
        ids = np.where(real, self.tokens[np.minimum(place, len(self.tokens) - 1)], self.padding)
        return {"input_ids": ids, "attention_mask": real.astype(np.int64)}


@dataclass(frozen=True)
class Objective(ABC):
    """The settings of an objective, as a config names them under `finetune.objectives`.

    Attributes:
        epochs: How often the training goes through the examples.
        steps: Batches at most; None for no limit.
    """

    name: ClassVar[str]
    epochs: Annotated[float, Field(gt=0)] = 1.0
    steps: Annotated[int, Field(ge=1)] | None = None

    @abstractmethod
    def examples(self, corpus: Corpus, rng: np.random.Generator) -> LongArray:
        """Return the examples, one a row `(n, w)`. What a column means is the objective's own matter.

        Raises:
            DataError: the log or the texts give none.
        """

    @abstractmethod
    def collate(self, corpus: Corpus, rows: LongArray, rng: np.random.Generator) -> dict[str, Any]:
        """Turn some examples `(b, w)` into the arrays that the loss takes, by name."""

    @abstractmethod
    def loss(self, corpus: Corpus, encoder: Any) -> Loss:
        """Return the loss over a pooled encoder as a torch module."""


def candidates_of(corpus: Corpus, targets: LongArray, others: LongArray) -> tuple[LongArray, FloatArray]:
    """Collect the items that a softmax over a batch chooses among, and what to add to their scores.

    An item that comes as a target comes as often as it is popular; the correction is the negative log of the chance
    that it is in the batch (Bengio and Senécal 2008; Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling").

    Args:
        corpus: What is learned from.
        targets: The right items `(b,)`.
        others: Further items, which are wrong for those who got them `(m,)`; not corrected.

    Returns:
        The items, ascending, none twice `(c,)`, and their corrections `(c,)` float32.
    """
    items = np.unique(np.concatenate([targets, others]))
    share = corpus.counts[items] / max(int(corpus.counts.sum()), 1)
    chance = -np.expm1(len(targets) * np.log1p(-np.minimum(share, 1 - 1e-9)))
    sampled = np.isin(items, targets)
    return items, np.where(sampled, -np.log(np.maximum(chance, 1e-9)), 0).astype(np.float32)
