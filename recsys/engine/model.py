"""The one path: retrieve, featurize, score, rank. Training, evaluation, batch and serving all go through `Model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.ranking.features import Context, Featurizer
from recsys.ranking.rules import best, fill
from recsys.ranking.scorers import FittedScorer
from recsys.retrieval.answers import Answer
from recsys.retrieval.candidates import most_barred, seen_keys, union, without
from recsys.retrieval.fitted import Fitted
from recsys.types import FloatArray, Histories, Hits, IntArray, LongArray, Ranking


@dataclass(frozen=True, eq=False)
class Retrieval:
    """The fitted retrievers of one moment, the first half of the path.

    `depths` says how many items each retriever proposes; 0 for those that only score. `popular` holds all items,
    most popular first, and fills short lists. `drop_seen` keeps items of the own history out, however old; retrievers
    and features look at its newest `history` events.
    """

    fitted: Mapping[str, Fitted]
    depths: Mapping[str, int]
    vectors: FloatArray
    popular: IntArray
    drop_seen: bool
    history: int = 200

    @property
    def proposers(self) -> list[str]:
        """Names of the retrievers that propose items: the columns of `Candidates.found`."""
        return [name for name, depth in self.depths.items() if depth > 0]

    def ask(self, histories: Histories) -> dict[str, Answer]:
        """Let every retriever prepare to answer these histories."""
        return {name: fitted.ask(histories) for name, fitted in self.fitted.items()}

    def barred(self, histories: Histories) -> LongArray:
        """The (asker, item) keys that no list may hold, ascending."""
        return seen_keys(histories, len(self.vectors)) if self.drop_seen else np.zeros(0, dtype=np.int64)

    def hits(self, answers: Mapping[str, Answer], barred: LongArray, deeper: int = 1) -> list[Hits]:
        """What each proposer found when asked for `deeper` times its depth, barred pairs taken out."""
        n_items = len(self.vectors)
        most = most_barred(barred, n_items)
        found = []
        for name in self.proposers:
            depth = deeper * self.depths[name]
            found.append(without(answers[name].top(min(n_items, depth + min(most, depth))), barred, n_items, depth))
        return found

    def context(self, histories: Histories) -> Context:
        """Retrieve: all that features need to look at. The whole history bars items, its newest events ask for some."""
        barred = self.barred(histories)
        histories = histories.newest(self.history)
        answers = self.ask(histories)
        candidates = union(self.hits(answers, barred), len(histories), len(self.vectors))
        return Context(histories, candidates, answers, self.vectors, barred)


@dataclass(frozen=True, eq=False)
class Model:
    """Everything fitted: ranks any histories. Holds only arrays, so threads may share it."""

    retrieval: Retrieval
    featurizer: Featurizer
    scorer: FittedScorer

    def rank(self, histories: Histories, k: int) -> Ranking:
        """Return exactly `k` items for each asker, best first, as long as the catalogue can give them."""
        context = self.retrieval.context(histories)
        return self.order(context, self.score(context), k)

    def score(self, context: Context) -> FloatArray:
        """Return the scorer's score of every candidate `(n,)`."""
        return self.scorer.score(self.featurizer.compute(context))

    def order(self, context: Context, score: FloatArray, k: int) -> Ranking:
        """Cut scored candidates to `k` and fill what is short."""
        ranking = best(context.candidates, score, k)
        return fill(ranking, self.retrieval.popular, context.barred, context.n_items, k)
