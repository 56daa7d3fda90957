"""How well item vectors alone find what users did next: what a tuned encoder has to improve."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys.arrays import FloatArray, unit_rows
from recsys.embedding.whitening import Whitening
from recsys.evaluation.protocol import Evaluator, Targets, between
from recsys.parallel.threads import batches
from recsys.ragged import pair_keys
from recsys.retrieval.base import top_unblocked
from recsys.retrieval.semantic import Semantic
from recsys.tables.split import Fold
from recsys.types import Catalog, Ranking, State

TOP, DEEP = 10, 500
RARE = 4  # known events up to which an item counts as rare
SCORE = f"ndcg@{TOP}"


def measure(raw: FloatArray, catalog: Catalog, fold: Fold, *, whitening: bool, drop_seen: bool, users: int,
            seed: int) -> dict[str, float]:  # fmt: skip
    """Rank the whole catalogue by the text of a history alone, as the retriever `semantic` does.

    Args:
        raw: Features of the items as the encoder gives them `(I, d)`.
        catalog: The items.
        fold: What was known, and what followed.
        whitening: Whether the run whitens vectors.
        drop_seen: Whether lists leave out what a user had.
        users: Users to sample at most.
        seed: Seed of the sample.

    Returns:
        `recall@10`, `ndcg@10` and `recall@500` over users; `new`: the share of the targets on new items that are among
        the first 10; `rare`: the same of items with 1 to 4 known events. Those without a target are left out.
    """
    vectors = Whitening.fit(raw).apply(raw) if whitening else unit_rows(raw)
    targets = Targets.of(fold, len(catalog), drop_seen)
    targets = _sampled(targets, users, seed)
    fitted = Semantic(depth=1, index="Flat").fit(State(catalog, fold.known, vectors, fold.as_of))
    evaluator = Evaluator(targets, [TOP, DEEP])
    start = 0
    for chosen in batches(targets.users):
        histories = fold.histories(chosen)
        blocked = (
            np.unique(pair_keys(histories.owner, histories.item, len(catalog))) if drop_seen else np.zeros(0, np.int64)
        )
        hits = top_unblocked(fitted.ask(histories), evaluator.length, blocked, len(catalog))
        found = np.zeros((len(hits.item), 1), np.int32)
        evaluator.add("text", start, Ranking(hits.offsets, hits.item, hits.score, found))
        start += len(chosen)
    wanted = ("recall", TOP), ("ndcg", TOP), ("recall", DEEP)
    measured = {f"{name}@{k}": float(evaluator.per_user("text", name, k).mean()) for name, k in wanted}
    place, events = evaluator.places["text"], targets.item_events[targets.item]
    for name, span in {"new": (0, 0), "rare": (1, RARE)}.items():
        some = between(events, *span)
        if some.any():
            measured[name] = float(((place >= 0) & (place < TOP))[some].mean())
    return measured


def _sampled(targets: Targets, users: int, seed: int) -> Targets:
    """Keep the targets of at most so many users."""
    n = len(targets.users)
    if n <= users:
        return targets
    kept = np.sort(np.random.default_rng(seed).choice(n, users, replace=False))
    chosen = np.isin(targets.owner, kept)
    owner = np.searchsorted(kept, targets.owner[chosen])
    keys = pair_keys(owner, targets.item[chosen], targets.n_items)
    return Targets(targets.users[kept], keys, targets.known_events[kept], targets.item_events, targets.n_items,
                   targets.removed[:0])  # fmt: skip


def improves(before: dict[str, float], after: dict[str, float]) -> tuple[bool, str]:
    """Decide whether a tuned encoder is worth publishing.

    Args:
        before: What `measure` said of the encoder as it was.
        after: What it says of the tuned one.

    Returns:
        Whether ndcg improved and the recall of new items (of rare ones, where no new item is wanted) did not fall; and
        both numbers in words.
    """
    newest = "new" if "new" in before else "rare"
    better = after[SCORE] > before[SCORE]
    said = f"{SCORE} by text alone {before[SCORE]:.4f} before and {after[SCORE]:.4f} after"
    kept: Any = True
    if newest in before:
        kept = after[newest] >= before[newest]
        said += f", recall@{TOP} of {newest} items {before[newest]:.4f} and {after[newest]:.4f}"
    return bool(better and kept), said
