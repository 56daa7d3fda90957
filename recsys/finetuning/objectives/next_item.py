"""The item that followed lies close to the history before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recsys.arrays import LongArray
from recsys.errors import DataError
from recsys.finetuning.base import Corpus, Objective, candidates_of
from recsys.finetuning.registry import OBJECTIVES


@OBJECTIVES.register
@dataclass(frozen=True)
class NextItem(Objective):
    """A history over item texts predicts the next item, and the encoder learns through both.

    The history is pooled as the `semantic` retriever pools it, with a learned weight for each age, so what is learned
    serves retrieval as it is. Sampled softmax with the log-Q correction over the batch (Hou et al. 2022, "UniSRec",
    arXiv 2206.05941, learns sequences over texts; Hidasi and Karatzoglou 2018, arXiv 1706.03847, sample in the batch).

    Attributes:
        length: Events of a history, the newest.
        decay: How much less an event counts for each later one, before it is learned.
        temperature: Divides the cosines.
    """

    name: ClassVar[str] = "next_item"
    length: Annotated[int, Field(ge=1)] = 10
    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    temperature: Annotated[float, Field(gt=0)] = 0.05

    def examples(self, corpus: Corpus, rng: np.random.Generator) -> LongArray:
        """(first row, end row, target row) of each target event that has an earlier one.

        Raises:
            DataError: no user has an event before a target event.
        """
        events = corpus.state.interactions
        rows = np.arange(len(events))
        starts = events.offsets[:-1][events.user]
        fresh = np.ones(len(events), dtype=bool)  # the first row of a user's moment: a basket is no history of its own
        fresh[1:] = (events.user[1:] != events.user[:-1]) | (events.time[1:] != events.time[:-1])
        before = np.maximum.accumulate(np.where(fresh, rows, 0))
        usable = (before > starts) & events.target
        if not usable.any():
            raise DataError(
                "finetune: no user has an event before a target event, so there is no history to learn from"
            )
        first = np.maximum(starts, before - self.length)
        return np.stack([first, before, rows], axis=1)[usable]

    def collate(self, corpus: Corpus, rows: LongArray, rng: np.random.Generator) -> dict[str, Any]:
        item = corpus.state.interactions.item.astype(np.int64)
        ages = np.arange(int((rows[:, 1] - rows[:, 0]).max()))
        place = rows[:, 1, None] - 1 - ages
        real = place >= rows[:, 0, None]
        history = np.where(real, item[np.maximum(place, 0)], -1)
        target = item[rows[:, 2]]
        candidates, correction = candidates_of(corpus, target, history[real])
        items = candidates  # holds the histories too
        own = candidates[None, :] == target[:, None]
        blocked = np.zeros_like(own)
        if corpus.drop_seen:
            owner = np.broadcast_to(np.arange(len(rows))[:, None], history.shape)[real]
            blocked[owner, np.searchsorted(candidates, history[real])] = True
        return corpus.pad(items) | {
            "history": np.searchsorted(items, np.maximum(history, 0)).clip(max=len(items) - 1),
            "real": real,
            "candidates": np.arange(len(candidates)),
            "correction": correction,
            "blocked": blocked & ~own,
            "target": np.searchsorted(candidates, target),
        }

    def loss(self, corpus: Corpus, encoder: Any) -> Any:
        from recsys.finetuning.losses import NextItemLoss

        return NextItemLoss(encoder, self.temperature, self.length, self.decay)
