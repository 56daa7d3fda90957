"""The protocol: full ranking of the catalogue against what users did next, no sampled negatives.

Each distinct (user, item) pair after the cut is one target. A model is judged by the place that each target takes
in the user's list; every metric and slice follows from these places.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.metrics import METRICS
from recsys.evaluation.significance import paired_interval
from recsys.retrieval.candidates import find_keys, pair_keys
from recsys.tables.split import Fold
from recsys.types import BoolArray, IntArray, LongArray, Ranking, owners_of, places_of

HISTORY_SLICES = {"no history": (0, 0), "1-4 events": (1, 4), "5-19 events": (5, 19), "20+ events": (20, None)}
ITEM_SLICES = {"new": (0, 0), "1-4": (1, 4), "5-9": (5, 9), "10-49": (10, 49), "50+": (50, None)}


@dataclass(frozen=True, eq=False)
class Targets:
    """Who is asked and what is right: `users` `(U,)` rows, ascending; `keys` `(P,)` of (place in `users`, item)."""

    users: LongArray
    keys: LongArray
    known_events: LongArray
    item_events: LongArray
    n_items: int

    @classmethod
    def of(cls, fold: Fold, n_items: int, drop_seen: bool) -> Targets:
        """Collect the fold's targets; with `drop_seen` those that the user already had are left out."""
        keys = np.unique(pair_keys(fold.labels.user, fold.labels.item, n_items))
        if drop_seen:
            had = np.unique(pair_keys(fold.known.user, fold.known.item, n_items))
            keys = keys[find_keys(had, keys) < 0]
        users, owner = np.unique(keys // n_items, return_inverse=True)
        known = np.diff(fold.known.offsets)[users]
        events = np.bincount(fold.known.item, minlength=n_items)
        return cls(users, pair_keys(owner, keys % n_items, n_items), known, events, n_items)

    @property
    def owner(self) -> LongArray:
        """Place in `users` of each target `(P,)`."""
        return self.keys // self.n_items

    @property
    def item(self) -> LongArray:
        """Item of each target `(P,)`."""
        return self.keys % self.n_items

    @property
    def n_relevant(self) -> LongArray:
        """Targets of each user `(U,)`, at least 1."""
        return np.bincount(self.owner, minlength=len(self.users))


@dataclass(eq=False)
class Board:
    """Collects the lists of several models, batch by batch, and reports on them."""

    targets: Targets
    ks: list[int]
    places: dict[str, IntArray] = field(default_factory=dict)
    shown: dict[str, LongArray] = field(default_factory=dict)
    in_candidates: dict[str, BoolArray] = field(default_factory=dict)

    def add(self, model: str, start: int, ranking: Ranking) -> None:
        """Note the lists of the users from place `start` on."""
        keys = pair_keys(owners_of(ranking.offsets) + start, ranking.item, self.targets.n_items)
        target = find_keys(self.targets.keys, keys)
        place = self.places.setdefault(model, np.full(len(self.targets.keys), -1, dtype=np.int32))
        place[target[target >= 0]] = places_of(ranking.offsets)[target >= 0]
        top = ranking.item[places_of(ranking.offsets) < max(self.ks)]
        seen = self.shown.setdefault(model, np.zeros(self.targets.n_items, dtype=np.int64))
        seen += np.bincount(top, minlength=self.targets.n_items)

    def add_candidates(self, retriever: str, start: int, owner: LongArray, item: IntArray) -> None:
        """Note which targets a retriever proposed to the users from place `start` on."""
        target = find_keys(self.targets.keys, pair_keys(owner + start, item, self.targets.n_items))
        held = self.in_candidates.setdefault(retriever, np.zeros(len(self.targets.keys), dtype=bool))
        held[target[target >= 0]] = True

    def per_user(self, model: str, metric: str, k: int) -> NDArray[np.float64]:
        """One metric of one model for each user `(U,)`."""
        found = self.places[model] >= 0
        hits = np.zeros((len(self.targets.users), max(self.ks)), dtype=bool)
        near = found & (self.places[model] < max(self.ks))
        hits[self.targets.owner[near], self.places[model][near]] = True
        return METRICS[metric](hits, self.targets.n_relevant, k)

    def metrics(self, model: str, users: BoolArray | None = None) -> dict[str, float]:
        """Means over the users (all, or those of a mask) for every metric and k."""
        chosen = slice(None) if users is None else users
        return {f"{m}@{k}": float(self.per_user(model, m, k)[chosen].mean()) for m in METRICS for k in self.ks}

    def beyond_accuracy(self, model: str) -> dict[str, float]:
        """Coverage and novelty of the first `max(ks)` places.

        Coverage is the share of the catalogue shown to anyone; novelty the mean of -log2 of the shown items' share
        of events, smoothed by one event each (Zhou et al. 2010).
        """
        shown, events = self.shown[model], self.targets.item_events
        share = (events + 1) / (events.sum() + len(events))
        k = max(self.ks)
        novelty = float(-(shown * np.log2(share)).sum() / max(shown.sum(), 1))
        return {f"coverage@{k}": float((shown > 0).mean()), f"novelty@{k}": novelty}

    def report(self, engine: str, k: int = 10, seed: int = 0) -> dict[str, Any]:
        """Everything a person or a program may want to know, as plain numbers.

        `differences` holds the paired bootstrap interval (95%) of the engine's ndcg@k less each other model's.
        """
        k = k if k in self.ks else max(self.ks)
        targets = self.targets
        users = {name: _between(targets.known_events, *span) for name, span in HISTORY_SLICES.items()}
        items = {name: _between(targets.item_events[targets.item], *span) for name, span in ITEM_SLICES.items()}
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
                "items": {
                    name: {"targets": int(mask.sum())}
                    | {
                        model: {f"recall@{n}": float(((place >= 0) & (place < n))[mask].mean()) for n in self.ks}
                        for model, place in self.places.items()
                        if mask.any()
                    }
                    for name, mask in items.items()
                },
            },
            "candidate_recall": {name: float(held.mean()) for name, held in self.in_candidates.items()},
            "users": len(targets.users),
            "targets": len(targets.keys),
        }


def _between(values: LongArray, low: int, high: int | None) -> BoolArray:
    return (values >= low) & (True if high is None else values <= high)
