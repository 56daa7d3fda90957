"""Full ranking: the place of each target among the whole catalogue, ties broken against the model."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from benchmarks.quality.protocols import Fitted
from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.errors import DataError
from recsys.evaluation.protocol import Evaluator, Targets
from recsys.parallel.threads import batches
from recsys.ragged import offsets_of, order_by_score, places_of
from recsys.retrieval.candidates import seen_keys
from recsys.tables.split import Fold

NEVER = -1


def targets_of(fold: Fold, n_items: int, drop_seen: bool, most: int | None = None, clock: str = "order") -> Targets:
    """Collect the targets of every user, or of at most so many users, always the same ones; see `Targets.of`."""
    targets = Targets.of(fold, n_items, drop_seen, clock)
    if most is None or len(targets.users) <= most:
        return targets
    chosen = np.random.default_rng(0).choice(targets.users, most, replace=False)
    labels = fold.labels.take(np.isin(fold.labels.user, chosen))
    return Targets.of(replace(fold, labels=labels), n_items, drop_seen, clock)


def rank_targets(fitted: Fitted, fold: Fold, targets: Targets, drop_seen: bool) -> IntArray:
    """Return the place of each target `(P,)` from 0; -1 for one that the model never recommends.

    A query is all that a user did before the cut of `fold`; with `drop_seen` those items are masked.
    """
    parts = []
    for users in batches(np.arange(len(targets.users))):
        histories = fold.histories(targets.users[users])
        score = fitted.score(histories)
        if score.shape != (len(users), targets.n_items):
            raise DataError(
                f"{type(fitted).__name__} scored {score.shape} for {len(users)} queries and {targets.n_items} items"
            )
        blocked_pairs = seen_keys(histories, targets.n_items) if drop_seen else np.zeros(0, dtype=np.int64)
        first, last = np.searchsorted(targets.keys, [users[0] * targets.n_items, (users[-1] + 1) * targets.n_items])
        parts.append(place(score, targets.keys[first:last] - users[0] * targets.n_items, blocked_pairs))
    return np.concatenate(parts)


def place(score: FloatArray, keys: LongArray, blocked_pairs: LongArray) -> IntArray:
    """Return the place of each target `(P,)` among the scores of its user.

    Ahead of a target are all items with a score at least as high that are neither blocked nor targets, and those
    targets of its user that score higher (of equals the first ones).

    Args:
        score: Scores `(U, I)`.
        keys: Flat positions `(P,)` of the targets in `score`.
        blocked_pairs: Flat positions of the pairs that no list may hold.

    Raises:
        DataError: a score is not a number.
    """
    if np.isnan(score).any():
        raise DataError(f"{int(np.isnan(score).sum())} of {score.size} scores are not a number")
    n_users, n_items = score.shape
    owner, own = keys // n_items, score[np.divmod(keys, n_items)]
    rest = np.array(score, dtype=np.float32, order="C")
    rest.reshape(-1)[keys] = -np.inf
    rest.reshape(-1)[blocked_pairs] = -np.inf
    rest.sort(axis=1)
    bounds = offsets_of(np.bincount(owner, minlength=n_users))
    ahead = np.empty(len(keys), dtype=np.int64)
    for row, (start, end) in enumerate(pairwise(bounds)):
        ahead[start:end] = n_items - np.searchsorted(rest[row], own[start:end])
    ahead[order_by_score(owner, own)] += places_of(bounds)
    return np.where(own > -np.inf, ahead, NEVER).astype(np.int32)


def evaluator_of(targets: Targets, places: dict[str, IntArray], ks: tuple[int, ...] = (10, 50)) -> Evaluator:
    """Return the metrics of models from the places of their targets."""
    return Evaluator(targets, list(ks), places=places)
