"""What to fit: the members and settings of a config that the engine reads, built once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsys.config import Config, TimeSplit
from recsys.ranking.scorers.base import Scorer
from recsys.retrieval.base import Retriever
from recsys.tables.split import Split
from recsys.types import DAY, Interactions


@dataclass(frozen=True)
class Sampling:
    """Which users and items the scorer learns from.

    Attributes:
        train_users: Users a cut at most.
        rare_weight: The weight of a label on an item with few events; others weigh 1.
        cold_share: The share of users that are asked a second time with only their newest few events.
        new_share: The share of items whose events are hidden at a cut, so that they look new.
    """

    train_users: int
    rare_weight: float
    cold_share: float
    new_share: float


@dataclass(frozen=True)
class Plan:
    """What to fit: built retrievers, the names of features, the built scorer, and how they learn.

    Attributes:
        retrievers: Settings of each retriever, by the name of its scores.
        features: Names of the features.
        scorer: Settings of the scorer.
        split: How the log is cut.
        sampling: Which users and items the scorer learns from.
        history: How many of the newest events of a history retrievers and features look at.
        drop_seen: Whether lists leave out what the user already had.
        seed: Seeds everything that is drawn at random.
        target_kinds: The kinds of event that the model predicts; empty where the log has no kinds.
        calibrate: Whether to learn probabilities.
    """

    retrievers: Mapping[str, Retriever]
    features: list[str]
    scorer: Scorer
    split: Split
    sampling: Sampling
    history: int
    drop_seen: bool
    seed: int
    target_kinds: Sequence[str] = ()
    calibrate: bool = True

    @classmethod
    def of(cls, config: Config) -> Plan:
        """Build the members that a config names.

        Raises:
            SettingError: A name, a setting or a value is wrong.
        """
        return cls(
            retrievers={name: config.build_retriever(name) for name in config.retrievers},
            features=list(config.features),
            scorer=config.build_scorer(),
            split=config.split,
            sampling=Sampling(config.train_users, config.rare_weight, config.cold_share, config.new_share),
            history=config.history,
            drop_seen=config.rules.seen == "drop",
            seed=config.seed,
            target_kinds=tuple(config.data.interactions.targets or config.data.interactions.events),
            calibrate=config.probabilities,
        )

    def end(self, interactions: Interactions) -> int | None:
        """Return the first moment after all interactions; None in a per-user split, where each user has their own."""
        return int(interactions.time.max()) + 1 if self.split.kind == "time" else None

    @property
    def horizon(self) -> int:
        """Microseconds within which an event counts as predicted; 0 where it is the user's next, whenever that is."""
        return round(self.split.horizon_days * DAY) if isinstance(self.split, TimeSplit) else 0
