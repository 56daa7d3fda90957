"""Cuts in time: what was known, and the events that followed, which label it.

Training, validation and test all use `holdout`: a test cut is a holdout of everything, a training cut is a
holdout of what was known at the test cut, and so on backwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recsys.arrays import BoolArray, LongArray
from recsys.config import LeaveLastOut, RandomHoldout, TimeSplit
from recsys.errors import DataError, LeakageError
from recsys.ragged import pair_keys
from recsys.types import DAY, Histories, Interactions

Split = LeaveLastOut | RandomHoldout | TimeSplit


@dataclass(frozen=True, eq=False)
class Fold:
    """One cut. `moment` `(U,)` is when each user asks; `as_of` the same for all of them, None in a per-user cut.

    `known` holds only what came before, `labels` only target events at or after the cut.

    Raises `LeakageError` where the two overlap.
    """

    known: Interactions
    labels: Interactions
    moment: LongArray
    as_of: int | None

    def __post_init__(self) -> None:
        if len(self.known):
            late = self.known.time >= self.moment[self.known.user]
            if late.any():
                raise LeakageError(f"{int(late.sum())} known events lie at or after the cut that they should precede")
        if self.as_of is not None and len(self.labels) and self.labels.time.min() < self.as_of:
            early = int((self.labels.time < self.as_of).sum())
            raise LeakageError(f"{early} labels lie before the cut at {self.as_of}")

    def histories(self, users: LongArray, newest: int | None = None) -> Histories:
        """Return what these users had done (or only the `newest` of it) when they ask."""
        return self.known.histories(users, self.moment[users], newest)

    @property
    def labelled_users(self) -> LongArray:
        """Rows of the users with at least one label, ascending."""
        return np.unique(self.labels.user).astype(np.int64)


def hide_items(fold: Fold, items: BoolArray) -> Fold:
    """Return the cut at which nobody had these items `(I,)` yet.

    What users had again is no label then: of something new nobody has a second one.
    """
    hidden = items[fold.known.item]
    had, wanted = (pair_keys(some.user, some.item, len(items)) for some in (fold.known.take(hidden), fold.labels))
    return replace(fold, known=fold.known.take(~hidden), labels=fold.labels.take(~np.isin(wanted, had)))


def shuffle_events(interactions: Interactions, seed: int, ties_only: bool = False) -> Interactions:
    """Return the log with the events of each user in a random order; moments stay where they are.

    Args:
        interactions: The log.
        seed: Of the order.
        ties_only: Change places only among events of one user at one moment.
    """
    drawn = np.random.default_rng(seed).random(len(interactions))
    keys = (drawn, interactions.time, interactions.user) if ties_only else (drawn, interactions.user)
    order = np.lexsort(keys)
    return replace(interactions, item=interactions.item[order], weight=interactions.weight[order],
                   target=interactions.target[order])  # fmt: skip


def next_moments(known: Interactions) -> LongArray:
    """Return for each user the first moment after their own last event `(U,)`; 0 for users with none."""
    moments = np.zeros(known.n_users, dtype=np.int64)
    filled = np.diff(known.offsets) > 0
    moments[filled] = known.time[known.offsets[1:][filled] - 1] + 1
    return moments


def holdout(interactions: Interactions, split: Split, as_of: int | None = None) -> Fold:
    """Cut once: at the last `horizon_days` before `as_of`, or before each user's last target event.

    `as_of` is the first moment that is not known (by default just after the last event).
    Raises `DataError` where nothing is left on one side of the cut.
    """
    if not len(interactions):
        raise DataError("there are no interactions to split")
    fold = _by_time(interactions, split, as_of) if isinstance(split, TimeSplit) else _last_out(interactions)
    if not len(fold.known) or not len(fold.labels):
        raise DataError(
            f"the split leaves {len(fold.known)} known events and {len(fold.labels)} labels of "
            f"{len(interactions)} events: both sides need some; use a shorter horizon, fewer folds or more data"
        )
    return fold


def holdouts(interactions: Interactions, split: Split, as_of: int | None, most: int,
             least: int = 1) -> list[Fold]:  # fmt: skip
    """Cut `most` times, each cut a holdout of what the one before it knew; fewer where the data end, but `least`.

    Raises as `holdout` does where not even so many cuts can be made, and `LeakageError` where one refuses itself.
    """
    folds: list[Fold] = []
    while len(folds) < most:
        try:
            folds.append(holdout(interactions, split, as_of))
        except LeakageError:
            raise
        except DataError:
            if len(folds) < least:
                raise
            break
        interactions, as_of = folds[-1].known, folds[-1].as_of
    return folds


def _by_time(interactions: Interactions, split: TimeSplit, as_of: int | None) -> Fold:
    end = int(interactions.time.max()) + 1 if as_of is None else as_of
    cut = end - round(split.horizon_days * DAY)
    known = interactions.take(interactions.time < cut)
    labels = interactions.take((interactions.time >= cut) & (interactions.time < end) & interactions.target)
    return Fold(known, labels, np.full(interactions.n_users, cut, dtype=np.int64), cut)


def _last_out(interactions: Interactions) -> Fold:
    rows = np.arange(len(interactions))
    last = np.full(interactions.n_users, -1, dtype=np.int64)
    target = interactions.target
    np.maximum.at(last, interactions.user[target], rows[target])
    # A user whose only event is the last one has nothing to be asked about: it stays known.
    last[last <= interactions.offsets[:-1]] = -1
    before = (last[interactions.user] < 0) | (rows < last[interactions.user])
    known, labels = interactions.take(before), interactions.take(last[last >= 0])
    moment = next_moments(known)
    moment[labels.user] = np.maximum(moment[labels.user], labels.time)
    return Fold(known, labels, moment, None)
