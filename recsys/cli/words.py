"""Numbers, times and the scorer's reasons in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from recsys.config import Config
from recsys.types import DAY

if TYPE_CHECKING:
    from recsys.serving.recommendations import Recommendation


# What pushes a score: words where it pushes up, and where it pushes down.
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
}
FEATURES = {
    "own_count": "own",
    "own_recency": "own",
    "due": "due",
    "repeat_rate": "again",
    "log_popularity": "popular",
    "late_popularity": "now",
    "text_by_popularity": "text",
    "best_match": "text",
    "cls_pair": "text",
    "category_share": "category",
    "category_last": "category",
    "parent_share": "category",
    "parent_last": "category",
    "brand_share": "brand",
    "brand_last": "brand",
    "price_gap": "price",
    "history_length": "length",
    "found_by": "ways",
}
RETRIEVERS = {
    "repeat": "own",
    "semantic": "text",
    "lexical": "text",
    "popularity": "popular",
    "tower": "follows",
    "covisitation": "follows",
    "text_covisitation": "follows",
    "item_knn": "follows",
    "ease": "follows",
    "slit": "follows",
}


@dataclass(frozen=True)
class Past:
    """What a user did with one item: how often, and how many days before the present the last time was."""

    times: int
    days: float | None


def pasts(history: pl.DataFrame, now: int | None) -> dict[object, Past]:
    """Count a history (item_id, title, time) by item. `now` in microseconds; None where time is no clock."""
    counted = history.group_by("item_id").agg(times=pl.len(), last=pl.col("time").max())
    return {
        item: Past(times, None if now is None else max(now - last, 0) / DAY)
        for item, times, last in counted.iter_rows()
    }


def why(item: Recommendation, own: Mapping[object, Past], config: Config, follows: str | None = None) -> str:
    """Tell in words what moved an item's score most, what pushed it down after a "but".

    `own` is what the user did before: where it holds the item, that is told first. `follows` is the title of the item
    that this one follows, where known.
    """
    past = own.get(item.item_id)
    if not item.reasons:
        return "popular: fills the list"
    push: dict[str, float] = {"own": 0.0} if past else {}
    for feature, amount in item.reasons.items():
        topic = _topic(feature, config)
        if topic == "due" and past is None:
            topic = "own"
        push[topic] = push.get(topic, 0) + amount
    if "popular" in push and "now" in push:  # "popular now but not popular" is the scorer splitting one hair
        push["now"] += push.pop("popular")
    strongest = sorted(push, key=lambda topic: (past is None or topic != "own", -abs(push[topic])))
    up = [_phrase(topic, True, past, follows) for topic in strongest if push[topic] >= 0]
    down = [_phrase(topic, False, past, follows) for topic in strongest if push[topic] < 0]
    return "; ".join(up + [f"but {phrase}" for phrase in down])


def _topic(feature: str, config: Config) -> str:
    """The heading under which features say the same thing; a feature unknown here speaks for itself."""
    family, _, rest = feature.partition(".")
    if family not in ("scores", "ranks"):
        return FEATURES.get(family, feature.replace("_", " "))
    settings = config.retrievers.get(rest, {})
    kind = settings.get("kind", rest)
    if kind == "popularity" and settings.get("half_life_days"):
        return "now"
    return RETRIEVERS.get(kind, rest.replace("_", " "))


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


def ago(days: float | None) -> str:
    """Tell how long ago something was: `today`, `5 days ago`, `3 months ago`."""
    if days is None:
        return "some time ago"
    if days < 1:
        return "within a day"
    if days < 60:
        return f"{plural(round(days), 'day')} ago"
    return f"{round(days / 30.44)} months ago"


def percent(probability: float | None) -> str:
    """Tell a probability: `31%`, `2.4%`, `<0.1%`; nothing for None."""
    if probability is None:
        return ""
    if probability < 0.001:
        return "<0.1%"
    return f"{probability:.0%}" if probability >= 0.0995 else f"{probability:.1%}"


def plural(count: int, noun: str) -> str:
    """Put a number before a noun: `1 user`, `2,467 users`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def moment(time: int, clock: str) -> str:
    """Tell a stored time: a date, or the plain number where it only orders events."""
    return str(time) if clock == "order" else f"{datetime.fromtimestamp(time / 1_000_000, UTC):%Y-%m-%d}"


def instant(time: int, clock: str) -> str | int:
    """Give a stored time to a program: ISO 8601, or the plain number where it only orders events."""
    return time if clock == "order" else datetime.fromtimestamp(time / 1_000_000, UTC).isoformat()


def counted(reasons: Mapping[str, int]) -> str:
    """List reasons with their counts: `19,774 not a product, 8,869 quantity: zero`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "none"


def size(count: float) -> str:
    """Tell a number of bytes."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
