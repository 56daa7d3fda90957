"""The one path: retrieve, featurize, score, rank. Training, evaluation, batch and serving all use `Model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.ragged import pair_keys
from recsys.ranking.calibration import Calibrator, log_totals
from recsys.ranking.feature_context import Context
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.rules import Cap, best, cut, fill
from recsys.ranking.scorers.base import FittedScorer
from recsys.retrieval.base import Answer, Fitted, top_unblocked
from recsys.retrieval.candidates import list_all, seen_keys, union
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.variants import Variants
from recsys.types import Candidates, Histories, Hits, Ranking


@dataclass(frozen=True, eq=False)
class Retrieval:
    """The fitted retrievers of one moment: the first half of the path.

    Attributes:
        fitted: The retrievers by name.
        depths: How many items each retriever proposes; 0 for one that only scores.
        vectors: The item vectors `(I, d)`.
        popular: All items, most popular first `(I,)`; they fill short lists.
        drop_seen: Whether lists leave out every item of the user's history, however old.
        history: How many of the newest events of a history retrievers and features look at.
        variants: Which items are variants of one product; None where none are.
        seen_products: Whether with `drop_seen` lists leave out every variant of what the user had, not that one alone.
    """

    fitted: Mapping[str, Fitted]
    depths: Mapping[str, int]
    vectors: FloatArray
    popular: IntArray
    drop_seen: bool
    history: int = 200
    variants: Variants | None = None
    seen_products: bool = False

    @property
    def proposers(self) -> list[str]:
        """The names of the retrievers that propose items: the columns of `Candidates.found`."""
        return [name for name, depth in self.depths.items() if depth > 0]

    def ask(self, histories: Histories) -> dict[str, Answer]:
        """Prepare the answer of every retriever to these histories."""
        return {name: fitted.ask(histories) for name, fitted in self.fitted.items()}

    def blocked_pairs(self, histories: Histories) -> LongArray:
        """Return the keys of the (query, item) pairs that no list may hold, ascending."""
        if not self.drop_seen:
            return np.zeros(0, dtype=np.int64)
        seen = seen_keys(histories, len(self.vectors))
        return seen if self.variants is None or not self.seen_products else self.variants.expand(seen)

    def hits(self, answers: Mapping[str, Answer], blocked_pairs: LongArray, deeper: int = 1,
             allowed: ItemFilter | None = None, one_variant: bool = False) -> list[Hits]:  # fmt: skip
        """List what each proposer finds among the items that are allowed and not blocked, `deeper` times its depth.

        With `one_variant` it looks deeper, and proposes the best variant of as many products.
        """
        n_items = len(self.vectors)
        if one_variant and self.variants is not None:
            deep = self.hits(answers, blocked_pairs, deeper * self.variants.spread, allowed)
            depths = [deeper * self.depths[name] for name in self.proposers]
            return [self.variants.one_each(hits, depth) for hits, depth in zip(deep, depths, strict=True)]
        return [
            top_unblocked(answers[name], deeper * self.depths[name], blocked_pairs, n_items, allowed)
            for name in self.proposers
        ]

    def context(self, histories: Histories, allowed: ItemFilter | None = None, excluded: IntArray | None = None,
                rerank: bool = False, answers: Mapping[str, Answer] | None = None,
                one_variant: bool = False) -> Context:  # fmt: skip
        """Retrieve candidates, and collect all that features look at.

        Args:
            histories: The queries. Their newest events retrieve; with `drop_seen` the whole history blocks its items.
            allowed: The items that lists may hold; None for the whole catalogue.
            excluded: Item rows `(e,)` that no list may hold.
            rerank: Make every allowed item a candidate, whether a retriever proposes it or not.
            answers: The answers of an earlier context of the same histories, so that nothing is searched twice.
            one_variant: Let each retriever propose one variant of a product.
        """
        n_items, n_lists = len(self.vectors), len(histories)
        blocked_pairs = self.blocked_pairs(histories)
        if excluded is not None and len(excluded):
            owner = np.repeat(np.arange(n_lists), len(excluded))
            blocked_pairs = np.union1d(blocked_pairs, pair_keys(owner, np.tile(excluded, n_lists), n_items))
        histories = histories.newest(self.history)
        answers = self.ask(histories) if answers is None else answers
        hits = self.hits(answers, blocked_pairs, allowed=allowed, one_variant=one_variant)
        if rerank and allowed is not None:
            candidates = union([*hits, list_all(allowed.rows, blocked_pairs, n_lists, n_items)], n_lists, n_items)
            candidates = Candidates(candidates.offsets, candidates.item, candidates.found[:, :-1])
        else:
            candidates = union(hits, n_lists, n_items)
        return Context(histories, candidates, answers, self.vectors, blocked_pairs, allowed)


@dataclass(frozen=True, eq=False)
class Model:
    """All fitted parts: ranks any histories. Holds only arrays, so threads may share it.

    `calibrator` is None where probabilities could not be learned or were not asked for.
    """

    retrieval: Retrieval
    featurizer: Featurizer
    scorer: FittedScorer
    calibrator: Calibrator | None = None

    def rank(
        self, histories: Histories, k: int, allowed: ItemFilter | None = None, caps: Sequence[Cap] = ()
    ) -> Ranking:
        """Rank items for each query.

        Args:
            histories: The queries.
            k: How many items each list should hold.
            allowed: The items that lists may hold; None for the whole catalogue.
            caps: How many items of one kind a list may hold.

        Returns:
            `k` items for each query, best first; fewer only where the catalogue has no more that are allowed.
        """
        context = self.retrieval.context(histories, allowed)
        return self.order(context, self.score(context), k, caps)

    def score(self, context: Context) -> FloatArray:
        """Return the scorer's score of every candidate `(n,)`."""
        return self.scorer.score(self.featurizer.compute(context))

    def probability(self, context: Context, score: FloatArray) -> FloatArray:
        """Return the probability of every candidate `(n,)` from its score; NaN without a calibrator."""
        if self.calibrator is None:
            return np.full(len(score), np.nan, dtype=np.float32)
        log_share = score - log_totals(context.candidates, score)[context.owner]
        return self.calibrator.probability(log_share, context.owner, context.histories)

    def order(self, context: Context, score: FloatArray, k: int, caps: Sequence[Cap] = ()) -> Ranking:
        """Cut scored candidates to `k` items a list, and fill short lists."""
        ranking = best(context.candidates, score, None if caps else k)
        return self.fill(context, cut(ranking, k, caps), k, caps)

    def fill(self, context: Context, ranking: Ranking, k: int, caps: Sequence[Cap] = ()) -> Ranking:
        """Fill lists shorter than `k` with the most popular items that the request allows."""
        popular = self.retrieval.popular if context.allowed is None else context.allowed.popular
        return fill(ranking, popular, context.blocked_pairs, context.n_items, k, caps)
