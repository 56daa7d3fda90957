"""What a benchmarked model must have: settings, `fit` on a cut, and a score for the whole catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from recsys.arrays import FloatArray
from recsys.config import Config
from recsys.engine.embeddings import Embeddings
from recsys.tables.split import Fold
from recsys.types import Histories, State, Tables


@dataclass(frozen=True, eq=False)
class Task:
    """A data set, a cut, and what counts as a target.

    `config` is that of the data set, with `rules.seen` set to what the task needs; `embeddings` are its item vectors,
    whitened.
    """

    name: str
    config: Config
    embeddings: Embeddings
    tables: Tables

    @property
    def drop_seen(self) -> bool:
        """Whether items that the user already had are neither targets nor recommended."""
        return self.config.rules.seen == "drop"

    def state(self, known: Fold) -> State:
        """What was known at a cut."""
        return State(self.tables.catalog, known.known, self.embeddings.items, known.as_of)


class Fitted(Protocol):
    """A fitted rival. One thread calls it, with at most 512 queries at a time."""

    def score(self, histories: Histories) -> FloatArray:
        """Score every item for every query `(U, I)`; -inf is never recommended.

        `full_ranking` masks seen items and breaks ties against the model.
        """


class Rival(Protocol):
    """A dataclass of settings.

    `random` is whether training is random; such a rival runs with three seeds. `grid` lists the settings to try, the
    defaults first, since the budget cuts the list from the end.
    """

    random: ClassVar[bool]
    grid: ClassVar[list[dict[str, Any]]]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        """Learn from `known.known` only. `known.as_of` and `known.moment` are the moments of the queries."""
