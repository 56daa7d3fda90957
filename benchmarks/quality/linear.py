"""Linear models in closed form, over the most frequent items, with every weight kept: EASE and SLIST."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from scipy import linalg, sparse

from benchmarks.quality.classical import for_strangers, history_matrix, known_counts, popular
from benchmarks.quality.protocols import Fitted, Task
from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.retrieval.similarity import basket_matrix, most_frequent
from recsys.tables.split import Fold
from recsys.types import DAY, Histories

MOST_ITEMS = 12_500
LEAST_WEIGHT = 0.03
BLOCK = 1024
Settings = list[dict[str, Any]]


@dataclass(frozen=True)
class Linear:
    """Weights `(M, M)` from the items of a history to the items scored; only `chosen` items are recommended."""

    chosen: LongArray
    weights: FloatArray
    decay: float
    popular: FloatArray

    def score(self, histories: Histories) -> FloatArray:
        query = history_matrix(histories, self.decay, len(histories.item), len(self.popular))[:, self.chosen]
        score = np.full((len(histories), len(self.popular)), -np.inf, dtype=np.float32)
        score[:, self.chosen] = query @ self.weights
        return for_strangers(score, histories, self.popular)


def dense_product(left: sparse.csr_matrix, right: sparse.csr_matrix) -> FloatArray:
    """Return `left.T @ right` as a dense float32 matrix, a block of rows at a time."""
    rows = left.T.tocsr()
    product = np.empty((rows.shape[0], right.shape[1]), dtype=np.float32)
    for start in range(0, len(product), BLOCK):
        product[start : start + BLOCK] = (rows[start : start + BLOCK] @ right).toarray()
    return product


def had_by_users(known: Fold, n_items: int) -> sparse.csr_matrix:
    """Whether each user had each item, 0 or 1 `(U, I)`."""
    had = known_counts(known, n_items)
    had.data[:] = 1
    return had


@lru_cache(maxsize=1)
def ease_weights(known: Fold, n_items: int, penalty: float) -> tuple[LongArray, FloatArray]:
    """Return the items chosen and the weights `(M, M)` between them, kept for the next call."""
    chosen = most_frequent(known.known, n_items, MOST_ITEMS)
    users = had_by_users(known, n_items)[:, chosen]
    gram = dense_product(users, users)
    gram[np.diag_indices(len(gram))] += penalty
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False, assume_a="pos")
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0)
    return chosen, inverse


@dataclass(frozen=True)
class EASE:
    """The linear autoencoder without self-weights (Steck 2019); queries are decayed histories."""

    penalty: float = 100.0
    decay: float = 1.0
    random: ClassVar[bool] = False
    # Settings that share a fit stand together.
    grid: ClassVar[Settings] = [
        {"penalty": penalty, "decay": decay}
        for penalty, decays in ((100.0, (1.0, 0.8, 0.6)), (500.0, (0.8, 1.0)), (30.0, (0.8,)), (2000.0, (0.8, 1.0)))
        for decay in decays
    ]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        chosen, weights = ease_weights(known, len(task.tables.catalog), self.penalty)
        return Linear(chosen, weights, self.decay, popular(task, known))


def steps(user: IntArray, distances: Iterable[int], decay: float) -> sparse.csr_matrix:
    """Weights `(B, B)` of the baskets of the same user at these distances, falling by `decay` a step from the first."""
    rows, columns, weights = [], [], []
    for number, distance in enumerate(distances):
        row = np.arange(max(0, -distance), min(len(user), len(user) - distance))
        row = row[user[row] == user[row + distance]]
        rows.append(row)
        columns.append(row + distance)
        weights.append(np.full(len(row), decay**number, dtype=np.float32))
    place = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(weights), place), shape=(len(user), len(user)))


@lru_cache(maxsize=1)
def slist_weights(known: Fold, n_items: int, penalty: float, alpha: float, past_decay: float, next_decay: float,
                  half_life_days: float | None) -> tuple[LongArray, FloatArray]:  # fmt: skip
    """Return the items chosen and the weights `(M, M)` between them, kept for the next call."""
    chosen = most_frequent(known.known, n_items, MOST_ITEMS)
    baskets, user = basket_matrix(known.known, n_items)
    baskets = baskets[:, chosen]
    before = range(0, -reach(past_decay), -1)
    after = range(1, reach(next_decay) + 1)
    weight = np.ones(len(user), dtype=np.float32)
    if half_life_days is not None and known.as_of is not None:
        weight = (0.5 ** ((known.as_of - basket_times(known)) / (half_life_days * DAY))).astype(np.float32)
    not_last = np.flatnonzero(user[:-1] == user[1:])
    past = (steps(user, before, past_decay) @ baskets)[not_last]
    future = (steps(user, after, next_decay) @ baskets)[not_last]
    newest = np.zeros(known.known.n_users, dtype=np.float32)
    np.maximum.at(newest, user, weight)
    whole = had_by_users(known, n_items)[:, chosen]
    whole_weighted = sparse.diags(alpha * newest) @ whole
    past_weighted = sparse.diags((1 - alpha) * weight[not_last]) @ past
    same = dense_product(whole_weighted.tocsr(), whole)
    gram = same + dense_product(past_weighted.tocsr(), past)
    gram[np.diag_indices(len(gram))] += penalty
    same += dense_product(past_weighted.tocsr(), future)
    return chosen, linalg.solve(gram, same, overwrite_a=True, overwrite_b=True, check_finite=False, assume_a="pos")


def reach(decay: float) -> int:
    """How many steps weigh at least `LEAST_WEIGHT`."""
    return 1 + math.floor(math.log(LEAST_WEIGHT) / math.log(decay))


def basket_times(known: Fold) -> LongArray:
    """The moment of each basket of `basket_matrix`."""
    events = known.known
    changed = (np.diff(events.time, prepend=-1) != 0) | (np.diff(events.user, prepend=-1) != 0)
    return events.time[changed]


@dataclass(frozen=True)
class SLIST:
    """The session-aware linear model (Choi et al. 2021), with the history of a user as the session.

    One ridge regression over two kinds of rows: whole histories that predict themselves (SLIS, worth `alpha`), and the
    baskets up to a moment, decayed by `past_decay`, that predict those after it, decayed by `next_decay` (SLIT, worth
    1 - `alpha`). Rows count half for each `half_life_days` that they lie back; `decay` is that of the
    query. Solved in closed form, with the self-weights that repurchases need.
    """

    penalty: float = 20.0
    alpha: float = 0.2
    past_decay: float = 0.5
    next_decay: float = 0.7
    half_life_days: float | None = None
    decay: float = 0.8
    random: ClassVar[bool] = False
    # Settings that share a fit stand together.
    grid: ClassVar[Settings] = [
        {},
        {"decay": 0.6},
        {"penalty": 100.0, "half_life_days": 90.0},
        {"penalty": 100.0, "half_life_days": 90.0, "decay": 0.95},
        {"alpha": 0.5, "past_decay": 0.7, "half_life_days": 30.0},
        {"alpha": 0.5, "past_decay": 0.7, "half_life_days": 30.0, "decay": 0.95},
        {"penalty": 10.0, "alpha": 0.05},
        {"penalty": 500.0, "half_life_days": 30.0, "alpha": 0.5},
    ]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        chosen, weights = slist_weights(known, len(task.tables.catalog), self.penalty, self.alpha, self.past_decay,
                                        self.next_decay, self.half_life_days)  # fmt: skip
        return Linear(chosen, weights, self.decay, popular(task, known))
