"""Items that followed each other lie close."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recsys.arrays import LongArray
from recsys.errors import DataError
from recsys.finetuning.base import Corpus, Objective, candidates_of
from recsys.finetuning.registry import OBJECTIVES
from recsys.ragged import find_keys, pair_keys

NEIGHBOURS = 50  # nearest texts of an item, among which hard negatives are found


@OBJECTIVES.register
@dataclass(frozen=True)
class Pairs(Objective):
    """Contrastive learning on pairs of items that one user had within a few events of each other.

    In-batch softmax with the log-Q correction; an item that is known to follow is never a negative. Hard negatives are
    texts near to the first item's that never followed it, as the engine's own `semantic` retriever would list them
    (Karpukhin et al. 2020, "Dense Passage Retrieval", arXiv 2004.04906).

    Attributes:
        distance: Events between the two, at most.
        temperature: Divides the cosines.
        hard_negatives: Hard negatives of each pair.
    """

    name: ClassVar[str] = "pairs"
    distance: Annotated[int, Field(ge=1)] = 2
    temperature: Annotated[float, Field(gt=0)] = 0.05
    hard_negatives: Annotated[int, Field(ge=0)] = 1

    def examples(self, corpus: Corpus, rng: np.random.Generator) -> LongArray:
        """(item, follower, hard negatives …) of each pair; a pair that many users have comes as often, up to 10 times.

        Raises:
            DataError: no user has two different items within the distance.
        """
        events, n_items = corpus.state.interactions, len(corpus.offsets) - 1
        keys = []
        for step in range(1, self.distance + 1):
            same = events.user[step:] == events.user[:-step]
            first, second = events.item[:-step][same], events.item[step:][same]
            keys.append(pair_keys(first, second, n_items)[first != second])
        key, count = np.unique(np.concatenate(keys), return_counts=True)
        if not len(key):
            raise DataError(
                f"finetune: no user has two different items within {self.distance} events before the cut, so there are "
                "no pairs to learn from: use more data, or the objective masked_words"
            )
        drawn = np.repeat(key, np.minimum(count, 10))
        pairs = np.stack([drawn // n_items, drawn % n_items], axis=1)
        if not self.hard_negatives:
            return pairs
        return np.concatenate([pairs, self._negatives(corpus, key, pairs[:, 0], rng)], axis=1)

    def _negatives(self, corpus: Corpus, known: LongArray, left: LongArray, rng: np.random.Generator) -> LongArray:
        """Near texts of each left item that never followed it `(n, hard_negatives)`; a random item where all did."""
        from recsys.retrieval.index import Index

        vectors, n_items = corpus.state.vectors, len(corpus.offsets) - 1
        items, place = np.unique(left, return_inverse=True)
        near = Index(vectors).search(vectors[items], min(NEIGHBOURS, n_items))[0].astype(np.int64)
        keys = pair_keys(np.repeat(items, near.shape[1]), near.ravel(), n_items)
        follows = find_keys(known, keys).reshape(near.shape)
        usable = (near >= 0) & (near != items[:, None]) & (follows < 0)
        order = np.argsort(np.where(usable, rng.random(near.shape), 2), axis=1)[:, : self.hard_negatives]
        chosen = np.take_along_axis(near, order, axis=1)
        fine = np.take_along_axis(usable, order, axis=1)
        return np.where(fine, chosen, rng.integers(n_items, size=chosen.shape))[place]

    def collate(self, corpus: Corpus, rows: LongArray, rng: np.random.Generator) -> dict[str, Any]:
        left, right, negatives = rows[:, 0], rows[:, 1], rows[:, 2:].ravel()
        candidates, correction = candidates_of(corpus, right, negatives)
        items = np.union1d(left, candidates)
        n_items = len(corpus.offsets) - 1
        own = candidates[None, :] == right[:, None]
        follows = np.isin(pair_keys(np.repeat(left, len(candidates)), np.tile(candidates, len(left)), n_items),
                          pair_keys(left, right, n_items)).reshape(own.shape)  # fmt: skip
        blocked = (follows | (candidates[None, :] == left[:, None])) & ~own
        return corpus.pad(items) | {
            "left": np.searchsorted(items, left),
            "candidates": np.searchsorted(items, candidates),
            "correction": correction,
            "blocked": blocked,
            "target": np.searchsorted(candidates, right),
        }

    def loss(self, corpus: Corpus, encoder: Any) -> Any:
        from recsys.finetuning.losses import PairLoss

        return PairLoss(encoder, self.temperature)
