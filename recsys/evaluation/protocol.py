"""The protocol: full ranking of the catalogue against what users did next, without sampled negatives.

Each distinct (user, item) pair after the cut is one target. A model is judged by the place of each target in the user's
list; every metric and slice follows from these places. Ties count against the model: every other item of the same score
is placed before a target. Sampled negatives would change which model is best (Krichene and Rendle 2020, "On Sampled
Metrics for Item Recommendation").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.arrays import BoolArray, IntArray, LongArray
from recsys.evaluation.losses import loss_budget
from recsys.evaluation.metrics import METRICS
from recsys.evaluation.significance import paired_interval
from recsys.ragged import find_keys, owners_of, pair_keys, places_of
from recsys.tables.split import Fold, next_moments
from recsys.types import DAY, Ranking

HISTORY_SLICES = {"no history": (0, 0), "1-4 events": (1, 4), "5-19 events": (5, 19), "20+ events": (20, None)}
ITEM_SLICES = {"new": (0, 0), "1-4": (1, 4), "5-9": (5, 9), "10-49": (10, 49), "50+": (50, None)}
CATEGORY_SLICES = 12  # the categories with the most targets
GAP_SLICES = {"no history": (-1, -1), "same day": (0, 0), "1-30 days": (1, 30), "over 30 days": (31, None)}
ALL, DEEP = "all", "deeper"
TARGETS = "targets"  # beside the models, what users really did


@dataclass(frozen=True, eq=False)
class Targets:
    """The users of an evaluation, and the items that are right for each.

    Attributes:
        users: Rows of the users with a target, ascending `(U,)`.
        keys: Keys of the targets, (place in `users`, item), ascending `(P,)`.
        known_events: Known events of each of these users `(U,)`.
        item_events: Known events of each catalogue item `(I,)`.
        n_items: Items in the catalogue.
        removed: User row of each label that the rules leave out `(R,)`.
        gap_days: Calendar days (UTC) from the user's newest known event to each target `(P,)`, -1 without one; None
            where no time is known.
    """

    users: LongArray
    keys: LongArray
    known_events: LongArray
    item_events: LongArray
    n_items: int
    removed: LongArray
    gap_days: LongArray | None = None

    @classmethod
    def of(cls, fold: Fold, n_items: int, drop_seen: bool, clock: str = "order") -> Targets:
        """Collect the targets of a fold.

        An item that a user had several times after the cut is one target, at the first of these moments.

        Args:
            fold: What is known, and the labels after the cut.
            n_items: Items in the catalogue.
            drop_seen: Leave out items that the user already had.
            clock: `data.clock` of the config; with `time` the gap to each target is measured.
        """
        keys, first = np.unique(pair_keys(fold.labels.user, fold.labels.item, n_items), return_index=True)
        had = np.unique(pair_keys(fold.known.user, fold.known.item, n_items)) if drop_seen else keys[:0]
        kept = find_keys(had, keys) < 0
        user, item = np.divmod(keys[kept], n_items)
        known = np.diff(fold.known.offsets)
        gaps = None
        if clock == "time":
            days = fold.labels.time[first[kept]] // DAY - (next_moments(fold.known)[user] - 1) // DAY
            gaps = np.where(known[user] > 0, days, -1)
        users, owner = np.unique(user, return_inverse=True)
        events = np.bincount(fold.known.item, minlength=n_items)
        return cls(users, pair_keys(owner, item, n_items), known[users], events, n_items, keys[~kept] // n_items, gaps)

    @property
    def owner(self) -> LongArray:
        """Place in `users` of each target `(P,)`."""
        return self.keys // self.n_items

    @property
    def item(self) -> LongArray:
        """Item of each target `(P,)`."""
        return self.keys % self.n_items

    @property
    def user(self) -> LongArray:
        """User row of each target `(P,)`."""
        return self.users[self.owner]

    @property
    def n_relevant(self) -> LongArray:
        """Targets of each user `(U,)`, at least 1."""
        return np.bincount(self.owner, minlength=len(self.users))


@dataclass(eq=False)
class Evaluator:
    """Collects the lists of several models, batch by batch, and reports on them.

    Attributes:
        targets: What is right.
        ks: Lengths at which lists are judged.
        categories: The category of each item `(I,)`, null for none, to slice by; None where no item has one.
        places: For each model the place of each target, from 0 `(P,)`; -1 where its list lacks it.
        shown: For each model how often it showed each item in its first `max(ks)` places `(I,)`.
        in_candidates: For each retriever whether it proposed each target `(P,)`; see `add_candidates`.
    """

    targets: Targets
    ks: list[int]
    categories: pl.Series | None = None
    places: dict[str, IntArray] = field(default_factory=dict)
    shown: dict[str, LongArray] = field(default_factory=dict)
    in_candidates: dict[str, BoolArray] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Length of the lists that `add` needs: the longest that is judged, and room for each target of a user.

        Where items of one score reach past the end of a list that long, it still holds enough items that are no targets
        to push its targets out of what is judged.
        """
        return max(self.ks) + int(self.targets.n_relevant.max(initial=0))

    def add(self, model: str, start: int, ranking: Ranking) -> None:
        """Record the lists of a batch of users.

        Args:
            model: The model that made them.
            start: Place in `targets.users` of the batch's first user.
            ranking: One list for each user, `length` items each as far as the catalogue has them.
        """
        target = self._targets(start, owners_of(ranking.offsets), ranking.item)
        wanted = target >= 0
        place = self.places.setdefault(model, np.full(len(self.targets.keys), -1, dtype=np.int32))
        place[target[wanted]] = places_against(ranking, wanted, self.targets.item_events)[wanted]
        top = ranking.item[places_of(ranking.offsets) < max(self.ks)]
        seen = self.shown.setdefault(model, np.zeros(self.targets.n_items, dtype=np.int64))
        seen += np.bincount(top, minlength=self.targets.n_items)

    def add_candidates(self, retriever: str, start: int, owner: LongArray, item: IntArray) -> None:
        """Record which targets a retriever proposed to a batch of users.

        Args:
            retriever: Its name; `ALL` for all retrievers together, `DEEP` for all of them asked for `losses.DEEPER`
                times their depth.
            start: Place in `targets.users` of the batch's first user.
            owner: The user of each proposed item, counted from `start` `(n,)`.
            item: The proposed items `(n,)`.
        """
        target = self._targets(start, owner, item)
        held = self.in_candidates.setdefault(retriever, np.zeros(len(self.targets.keys), dtype=bool))
        held[target[target >= 0]] = True

    def _targets(self, start: int, owner: LongArray, item: IntArray) -> LongArray:
        """Find the target that each (query, item) pair is `(n,)`; -1 for none. Queries count from place `start`."""
        return find_keys(self.targets.keys, pair_keys(owner + start, item, self.targets.n_items))

    def per_user(self, model: str, metric: str, k: int) -> NDArray[np.float64]:
        """Compute one metric of one model at `k` for each user `(U,)`."""
        found = self.places[model] >= 0
        hits = np.zeros((len(self.targets.users), max(self.ks)), dtype=bool)
        near = found & (self.places[model] < max(self.ks))
        hits[self.targets.owner[near], self.places[model][near]] = True
        return METRICS[metric](hits, self.targets.n_relevant, k)

    def metrics(self, model: str, users: BoolArray | None = None) -> dict[str, float]:
        """Average every metric at every `k` over all users, or those of a mask `(U,)`; keys are `METRIC@K`."""
        chosen = slice(None) if users is None else users
        return {f"{m}@{k}": float(self.per_user(model, m, k)[chosen].mean()) for m in METRICS for k in self.ks}

    def beyond_accuracy(self, model: str) -> dict[str, float]:
        """Measure coverage and novelty of the first `max(ks)` places.

        Coverage is the share of the catalogue that was shown to anyone. Novelty is the mean of -log2 of the shown
        items' share of events, smoothed by one event each (Zhou et al. 2010, "Solving the apparent diversity-accuracy
        dilemma of recommender systems").
        """
        shown, events = self.shown[model], self.targets.item_events
        share = (events + 1) / (events.sum() + len(events))
        k = max(self.ks)
        novelty = float(-(shown * np.log2(share)).sum() / max(shown.sum(), 1))
        return {f"coverage@{k}": float((shown > 0).mean()), f"novelty@{k}": novelty}

    def exposure(self) -> dict[str, dict[str, float]]:
        """Measure what popularity the first `max(ks)` places of each model's lists have.

        Returns:
            For each model, and for what users did next (`targets`): the share of the places that items of each band of
            known events fill, by its name in `ITEM_SLICES`; and `gini`, how unequally the places fall on the items of
            the catalogue: 0 where each has as many, near 1 where few have all.
        """
        counts = {TARGETS: np.bincount(self.targets.item, minlength=self.targets.n_items)} | self.shown
        bands = {name: between(self.targets.item_events, *span) for name, span in ITEM_SLICES.items()}
        return {
            name: {band: float(count[held].sum() / max(count.sum(), 1)) for band, held in bands.items()}
            | {"gini": _gini(count)}
            for name, count in counts.items()
        }

    def report(self, engine: str, k: int = 10, seed: int = 0) -> dict[str, Any]:
        """Report everything that was measured, as plain numbers.

        Args:
            engine: The model that the others are compared with.
            k: Length of the list for differences and losses; the longest judged where it is not in `ks`.
            seed: Seed of the bootstrap.

        Returns:
            `metrics` of each model; `differences`: the paired bootstrap interval (95%) of the engine's ndcg@k less each
            other model's; `slices` by users' history, items' events, the categories with the most targets and, with a
            clock, gaps; `losses`: the loss budget; `exposure`; `candidate_recall` of each retriever; the numbers of
            `users` and `targets`.
        """
        k = k if k in self.ks else max(self.ks)
        targets = self.targets
        users = {name: between(targets.known_events, *span) for name, span in HISTORY_SLICES.items()}
        own = self.per_user(engine, "ndcg", k)
        return {
            "metrics": {model: self.metrics(model) | self.beyond_accuracy(model) for model in self.places},
            "differences": {
                model: paired_interval(own, self.per_user(model, "ndcg", k), seed)
                for model in self.places
                if model != engine
            },
            "slices": {
                "users": {
                    name: {"users": int(mask.sum())}
                    | {model: self.metrics(model, mask) for model in self.places if mask.any()}
                    for name, mask in users.items()
                },
                "items": self._sliced(targets.item_events[targets.item], ITEM_SLICES),
            }
            | ({} if self.categories is None else {"categories": self._by_category(self.categories)})
            | ({} if targets.gap_days is None else {"gaps": self._sliced(targets.gap_days, GAP_SLICES)}),
            "exposure": self.exposure(),
            "losses": loss_budget(targets.user, self.places[engine], self.in_candidates[ALL],
                                  self.in_candidates[DEEP], targets.removed, k, seed),
            "candidate_recall": {name: float(held.mean()) for name, held in self.in_candidates.items()},
            "users": len(targets.users),
            "targets": len(targets.keys),
        }  # fmt: skip

    def _by_category(self, categories: pl.Series) -> dict[str, dict[str, Any]]:
        """Measure recall over the targets of each of the categories with the most targets."""
        names = categories.unique().drop_nulls().sort()
        code = categories.cast(pl.Enum(names)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()[self.targets.item]
        most = np.argsort(-np.bincount(code[code >= 0], minlength=len(names)), kind="stable")[:CATEGORY_SLICES]
        return self._sliced(code, {names[int(one)]: (int(one), int(one)) for one in most})

    def _sliced(self, values: LongArray, slices: Mapping[str, tuple[int, int | None]]) -> dict[str, dict[str, Any]]:
        """Measure the recall of each model over the targets whose value `(P,)` lies in each slice."""
        report: dict[str, dict[str, Any]] = {}
        for name, span in slices.items():
            mask = between(values, *span)
            report[name] = {"targets": int(mask.sum())}
            for model, place in self.places.items() if mask.any() else ():
                near = np.where(place < 0, max(self.ks), place)[mask]
                report[name][model] = {f"recall@{k}": float((near < k).mean()) for k in self.ks}
        return report


def places_against(ranking: Ranking, wanted: BoolArray, events: LongArray) -> LongArray:
    """Place the items of lists so that each wanted one comes last among its equals.

    Equals have one score. Items that filled a short list are in the order of their known events, and equal by these.
    Where only the order of the catalogue decided, this decides against the wanted items.

    Args:
        ranking: Lists, best first.
        wanted: Which of their items are wanted `(n,)`.
        events: Known events of each catalogue item `(I,)`.

    Returns:
        The place of each item in its list, from 0 `(n,)`.
    """
    n = len(ranking.item)
    owner = owners_of(ranking.offsets)
    filled: BoolArray = np.all(ranking.found < 0, axis=1)
    ours = np.where(filled, events[ranking.item], 0)
    differs = np.where(filled[1:], ours[1:] != ours[:-1], ranking.score[1:] != ranking.score[:-1])
    starts = np.ones(n, dtype=bool)
    starts[1:] = differs | (filled[1:] != filled[:-1]) | (owner[1:] != owner[:-1])
    order = np.argsort(2 * np.cumsum(starts) + wanted, kind="stable")
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    return place - ranking.offsets[owner]


def _gini(counts: LongArray) -> float:
    """Return the Gini coefficient of counts `(I,)`, at least 0; 0 where all are 0."""
    ascending, n = np.sort(counts), len(counts)
    total = float(ascending.sum())
    return float(((2 * np.arange(1, n + 1) - n - 1) * ascending).sum() / (n * total)) if total else 0.0


def between(values: LongArray, low: int, high: int | None) -> BoolArray:
    """Return whether each value lies between two bounds, both included; None is no upper bound."""
    return (values >= low) & (True if high is None else values <= high)
