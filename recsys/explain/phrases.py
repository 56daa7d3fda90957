"""The reasons of a score in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from recsys.config import Config
from recsys.engine.plan import Plan
from recsys.formatting import ago
from recsys.ranking.features import FEATURES, OF_RETRIEVER
from recsys.types import DAY

# The topics of features and retrievers: words where one pushes a score up, and where it pushes it down.
PUSHES = {
    "due": ("due again", "not due yet"),
    "again": ("people come back for it", "seldom taken twice"),
    "follows": ("often follows the history", "seldom follows the history"),
    "text": ("its text is close to the history", "its text is far from the history"),
    "popular": ("popular", "not popular"),
    "now": ("popular now", "not popular now"),
    "category": ("a category of the history", "a category outside the history"),
    "brand": ("a brand of the history", "a brand outside the history"),
    "price": ("at the usual price", "at an unusual price"),
    "length": ("suits a history of this length", "does not suit a history of this length"),
    "ways": ("found in several ways", "found in few ways"),
    "cold": ("suits a user without history", "suits users with a history more"),
}
# Topics that compare an item with the history: of a user without one they say only that there is none.
OF_HISTORY = {"own", "due", "follows", "text", "category", "brand", "price", "length"}


@dataclass(frozen=True)
class Past:
    """How often a user had one item, and how many days ago the last time was; None where time is no clock."""

    times: int
    days: float | None


def pasts(history: pl.DataFrame, now: int | None) -> dict[object, Past]:
    """Count a history by item.

    Args:
        history: The columns item_id and time, as `Recommender.history` returns them.
        now: The present in microseconds; None where time is no clock.

    Returns:
        What the user did with each item, by its id.
    """
    times: dict[object, list[int]] = {}
    for item, time in zip(history["item_id"].to_list(), history["time"].to_list(), strict=True):
        times.setdefault(item, []).append(time)
    return {item: Past(len(own), None if now is None else max(now - max(own), 0) / DAY) for item, own in times.items()}


def retriever_topics(config: Config) -> dict[str, str]:
    """Return the topic of each retriever of a config, by its name there (see `Retriever.topic`).

    Raises:
        ConfigError: A retriever or a setting of one is unknown.
    """
    return {name: retriever.topic or name.replace("_", " ") for name, retriever in Plan.of(config).retrievers.items()}


def why(reasons: Mapping[str, float], past: Past | None, topics: Mapping[str, str], follows: str | None = None, *,
        cold: bool = False) -> str:  # fmt: skip
    """Say what moved an item's score most; what pushed it down comes after a "but".

    Args:
        reasons: What each feature added to the score; see `Recommendation.reasons`.
        past: What the user did with this very item before, which is said first; None where nothing.
        topics: The topic of each retriever (see `retriever_topics`).
        follows: The title of the item that this one follows, where known.
        cold: Whether the user has no history (`Recommendations.cold`); nothing is then said of one.

    Returns:
        One line, such as `popular; but not due yet`.
    """
    if not reasons:
        return "popular: fills the list"
    push: dict[str, float] = {"own": 0.0} if past else {}
    for feature, amount in reasons.items():
        topic = _topic(feature, topics)
        if cold and topic in OF_HISTORY:
            topic = "cold"
        elif topic == "due" and past is None:
            topic = "own"
        push[topic] = push.get(topic, 0) + amount
    if "popular" in push and "now" in push:  # "popular now but not popular" is the scorer splitting one hair
        push["now"] += push.pop("popular")
    strongest = sorted(push, key=lambda topic: (past is None or topic != "own", -abs(push[topic])))
    up = [_phrase(topic, True, past, follows) for topic in strongest if push[topic] >= 0]
    down = [_phrase(topic, False, past, follows) for topic in strongest if push[topic] < 0]
    return "; ".join(up + [f"but {phrase}" for phrase in down])


def _topic(feature: str, topics: Mapping[str, str]) -> str:
    """The heading under which features say the same thing; a feature unknown here speaks for itself."""
    name, _, rest = feature.partition(".")
    topic = FEATURES[name].topic if name in FEATURES else ""
    if topic != OF_RETRIEVER:
        return topic or feature.replace("_", " ")
    return topics.get(rest, rest.replace("_", " "))


def _phrase(topic: str, up: bool, past: Past | None, follows: str | None) -> str:
    if topic == "own":
        return f"had {_times(past.times)}, last {ago(past.days)}" if past else "never had before"
    if topic == "follows" and up and follows:
        return f"often follows {follows}"
    if topic not in PUSHES:
        return topic if up else f"{topic} (low)"
    return PUSHES[topic][0 if up else 1]


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
