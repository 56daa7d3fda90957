"""Experiments of the audit: fit again over changed tables, and compare what must stay the same.

Reading code cannot prove that nothing looks past the cut; a rerun in which everything past the cut is different can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.engine.embeddings import Embeddings
from recsys.engine.model import Retrieval
from recsys.engine.plan import Plan
from recsys.engine.training import fit_retrieval
from recsys.evaluation.metrics import METRICS
from recsys.parallel.threads import batches
from recsys.progress import quiet
from recsys.ragged import find_keys, offsets_of, order_by_score, owners_of, pair_keys, places_of
from recsys.ranking.feature_context import Context
from recsys.ranking.featurizer import Featurizer
from recsys.tables.split import Fold, holdouts
from recsys.types import Candidates, Catalog, Interactions, State

NEGATIVES = 100
K = 10
DEVIATIONS = 4  # a run without leaks falls outside once in 16,000


@dataclass(frozen=True, eq=False)
class Rerun:
    """Retrievers and features fitted at one cut: the candidates of its users, and their features."""

    fold: Fold
    retrieval: Retrieval
    featurizer: Featurizer
    embeddings: Embeddings

    @classmethod
    def of(cls, plan: Plan, interactions: Interactions, embeddings: Embeddings,
           as_of: int | None, number: int) -> Rerun:  # fmt: skip
        """Start from the tables: cut `number` times, and fit at the last cut."""
        fold = holdouts(interactions, plan.split, as_of, number, least=2)[-1]
        state = State(embeddings.catalog, fold.known, embeddings.items, fold.as_of)
        return cls(fold, fit_retrieval(plan, state), Featurizer.fit(plan.features, state), embeddings)

    def context(self, users: LongArray) -> Context:
        """Retrieve for some users as of the cut."""
        return self.retrieval.context(self.embeddings.with_text_vectors(self.fold.histories(users)))

    def names(self, users: LongArray) -> list[str]:
        """Return a label for each column of `compute`."""
        return self.featurizer.names(self.context(users[:1]))

    def compute(self, users: LongArray, pairs: Candidates) -> FloatArray:
        """Return the features of given pairs `(n, f)`, with the places where this run's retrievers found them."""
        context = self.context(users)
        own, n_items = context.candidates, context.n_items
        place = find_keys(pair_keys(own.owner, own.item, n_items), pair_keys(pairs.owner, pairs.item, n_items))
        found = np.full((len(place), own.found.shape[1]), -1, dtype=np.int32)
        found[place >= 0] = own.found[place[place >= 0]]
        return self.featurizer.compute(replace(context, candidates=Candidates(pairs.offsets, pairs.item, found)))

    def labels(self, users: LongArray, pairs: Candidates) -> BoolArray:
        """Return whether the user of each pair had its item after the cut `(n,)`."""
        n_items = len(self.embeddings.items)
        wanted = np.unique(pair_keys(self.fold.labels.user, self.fold.labels.item, n_items))
        return find_keys(wanted, pair_keys(users[pairs.owner], pairs.item, n_items)) >= 0


def propose(run: Rerun, users: LongArray) -> Candidates:
    """Return the candidates of users, as one ragged array in their order."""
    parts = [run.context(some).candidates for some in batches(users)]
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Candidates(
        offsets_of(lengths), np.concatenate([p.item for p in parts]), np.concatenate([p.found for p in parts])
    )


def replace_future(whole: Interactions, fold: Fold, users: LongArray, pairs: Candidates, n_items: int,
                   rng: np.random.Generator) -> Interactions:  # fmt: skip
    """Replace every event after the cut by a random one; what the cut knows stays as it is.

    In a cut by time the events go to other users first; in a per-user cut a user's last event must stay theirs.

    Args:
        whole: All interactions.
        fold: The cut.
        users: Users whose candidates are known `(u,)`.
        pairs: Their candidates, one list for each. An event of such a user gets one of them, so that the labels of a
            list are random; an event of another user gets any item of the catalogue.
        n_items: Items in the catalogue.
        rng: Draws the events.
    """
    later = places_of(whole.offsets) >= np.diff(fold.known.offsets)[whole.user]
    user, item = whole.user.copy(), whole.item.copy()
    if fold.as_of is not None:
        user[later] = rng.permutation(user[later])
    query = np.full(whole.n_users, -1, dtype=np.int64)
    query[users] = np.arange(len(users))
    query = query[user[later]]
    length = np.where(query >= 0, np.diff(pairs.offsets)[query], 0)
    own = pairs.offsets[query] + (rng.random(len(query)) * length).astype(np.int64)
    anything = rng.integers(n_items, size=len(query))
    if len(pairs.item):
        item[later] = np.where(length > 0, pairs.item[np.where(length > 0, own, 0)], anything)
    else:
        item[later] = anything
    order = np.lexsort((whole.time, user))
    return Interactions(user[order], item[order], whole.time[order], whole.weight[order], whole.target[order],
                        whole.n_users)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Renumbering:
    """New row numbers: `item[i]` is the new row of item `i`, `user[u]` that of user `u`."""

    item: LongArray
    user: LongArray

    @classmethod
    def sample(cls, n_items: int, n_users: int, rng: np.random.Generator) -> Renumbering:
        """Choose new row numbers at random."""
        return cls(rng.permutation(n_items), rng.permutation(n_users))

    def interactions(self, whole: Interactions) -> Interactions:
        """Return the same events under the new numbers."""
        user = self.user[whole.user].astype(np.int32)
        order = np.argsort(user, kind="stable")
        item = self.item[whole.item].astype(np.int32)
        return Interactions(user[order], item[order], whole.time[order], whole.weight[order], whole.target[order],
                            whole.n_users)  # fmt: skip

    def embeddings(self, embeddings: Embeddings) -> Embeddings:
        """Return the catalogue and its vectors in the new order. Ids stay in place, so each item gets another one."""
        source = np.argsort(self.item)
        frame = embeddings.catalog.frame
        moved = Catalog(frame[source].with_columns(frame["item_id"]))
        return replace(embeddings, items=embeddings.items[source], catalog=moved)

    def pairs(self, pairs: Candidates) -> tuple[Candidates, LongArray]:
        """Return pairs under the new numbers, and the earlier place of each `(n,)`."""
        item = self.item[pairs.item].astype(np.int32)
        order = np.lexsort((item, pairs.owner))
        return Candidates(pairs.offsets, item[order], pairs.found[order]), order


@dataclass(frozen=True, eq=False)
class Lists:
    """Ragged lists of candidates for a scorer: features `(n, f)`, lengths `(L,)`, labels `(n,)`; each has a label."""

    x: FloatArray
    lengths: LongArray
    y: BoolArray

    @classmethod
    def sample(cls, pairs: Candidates, x: FloatArray, y: BoolArray, rng: np.random.Generator) -> Lists:
        """Keep the lists that hold a label, with all their labels and about `NEGATIVES` other candidates."""
        hit = np.bincount(pairs.owner, weights=y, minlength=len(pairs.offsets) - 1) > 0
        share = NEGATIVES / np.maximum(np.diff(pairs.offsets), 1)
        kept = hit[pairs.owner] & (y | (rng.random(len(y)) < share[pairs.owner]))
        lengths = np.bincount(pairs.owner[kept], minlength=len(hit))[hit]
        return cls(x[kept], lengths, y[kept])

    @classmethod
    def join(cls, parts: list[Lists]) -> Lists:
        """Concatenate lists."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "lengths", "y")))

    def halves(self) -> tuple[Lists, Lists]:
        """Split into every other list and the rest."""
        odd = np.arange(len(self.lengths)) % 2 == 1
        inside = np.repeat(odd, self.lengths)
        return (Lists(self.x[~inside], self.lengths[~odd], self.y[~inside]),
                Lists(self.x[inside], self.lengths[odd], self.y[inside]))  # fmt: skip

    def metrics(self, score: FloatArray) -> dict[str, float]:
        """Return the mean recall and ndcg of the first `K` places of lists ordered by `score` `(n,)`."""
        offsets = offsets_of(self.lengths)
        owner, place = owners_of(offsets), places_of(offsets)
        order = order_by_score(owner, score)
        hits = np.zeros((len(self.lengths), K), dtype=bool)
        shown = place < K
        hits[owner[shown], place[shown]] = self.y[order[shown]]
        return {f"{name}@{K}": float(METRICS[name](hits, self._relevant, K).mean()) for name in ("recall", "ndcg")}

    def chance(self) -> dict[str, tuple[float, float]]:
        """Return the range of the same means for lists in random order: `DEVIATIONS` standard deviations each way.

        The variance is exact: a list's value is the sum of the weights of the places that its labels take, sampled
        without replacement.
        """
        length, relevant = self.lengths, self._relevant
        discount = 1 / np.log2(np.arange(2, K + 2))
        weights = {"recall": (np.ones(K), relevant), "ndcg": (discount, _sums(discount)[np.minimum(relevant, K)])}
        ranges = {}
        for name, (weight, most) in weights.items():
            shown = np.minimum(length, K)
            total, square = _sums(weight)[shown], _sums(weight**2)[shown]
            mean = relevant * total / length / most
            spread = (square - total**2 / length) / np.maximum(length - 1, 1)
            deviation = np.sqrt((relevant * (1 - relevant / length) * spread / most**2).sum()) / len(length)
            width = DEVIATIONS * float(deviation)
            ranges[f"{name}@{K}"] = (float(mean.mean()) - width, float(mean.mean()) + width)
        return ranges

    @property
    def _relevant(self) -> LongArray:
        return np.add.reduceat(self.y.astype(np.int64), offsets_of(self.lengths)[:-1])


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate(([0], np.cumsum(values)))


def fit_and_judge(plan: Plan, lists: Lists) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Fit the scorer on half of the lists; return its metrics on the rest, and their range for random order."""
    learn, held = lists.halves()
    fitted = plan.scorer.fit(learn.x, offsets_of(learn.lengths), learn.y.astype(np.float32), plan.seed, quiet)
    return held.metrics(fitted.score(held.x)), held.chance()


def count_first_alone(pairs: Candidates, x: FloatArray, y: BoolArray) -> NDArray[np.int64]:
    """Count for each column `(f,)` the lists in which it alone puts a label before every other candidate.

    A column counts in the direction, ascending or descending, in which it does so more often.
    """
    labels = np.bincount(pairs.owner, weights=y, minlength=len(pairs.offsets) - 1)
    both = (labels > 0) & (labels < np.diff(pairs.offsets))
    inside = both[pairs.owner]
    if not inside.any():
        return np.zeros(x.shape[1], dtype=np.int64)
    starts = offsets_of(np.diff(pairs.offsets)[both])[:-1]
    value, label = x[inside], y[inside][:, None]
    firsts = [
        np.maximum.reduceat(np.where(label, signed, -np.inf), starts)
        > np.maximum.reduceat(np.where(label, -np.inf, signed), starts)
        for signed in (value, -value)
    ]
    return np.maximum(firsts[0].sum(axis=0), firsts[1].sum(axis=0))
