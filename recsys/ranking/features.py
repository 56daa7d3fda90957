"""Features: named functions of a (query, candidate) pair, vectorised over all pairs of a batch.

A query is one history at one moment. A feature sees nothing later: `prepare` gets the state of the catalogue and the
logs at the moment of fitting, `compute` the histories up to the moment of each query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.errors import ConfigError
from recsys.ragged import order_by_score, pair_keys, places_of, score_keys
from recsys.ranking.feature_context import Context
from recsys.registry import Family
from recsys.tables.split import next_moments
from recsys.types import DAY, Candidates, State

Arrays = dict[str, NDArray[Any]]
Prepared = Mapping[str, NDArray[Any]]
LATE_DECAY = 0.8
NO_USER_TEXT = "feature {!r} needs the users' text vectors: set embedding.user_text to true"
POPULARITY = ["0", "1-4", "5-9", "10-49", "50+"]
OF_RETRIEVER = "retriever"  # the topic of a feature with a column for each retriever: that retriever's topic


def _nothing(state: State) -> Arrays:
    return {}


def _one_column(context: Context) -> list[str]:
    return [""]


@dataclass(frozen=True)
class Feature:
    """One member of the family: a column, or a block of columns, of what the scorer learns from.

    Attributes:
        name: What a config calls it by (`features: [NAME]`).
        compute: Returns the feature of every pair, `(n,)`, or `(n, m)` for a block, all finite. Gets the `Context` and
            what `prepare` returned.
        prepare: Computes statistics once, when the path is fitted, from a state that ends at the moment of fitting.
            Returns plain arrays for the bundle, whose first axis is the items of the catalogue.
        names: Labels the columns of a block; a single column is labelled by the name alone.
        topic: Heading under which explanations in words sum features that say the same (a key of
            `recsys.explain.phrases.PUSHES`, or words of its own). By default the feature speaks for itself.
        needs_clock: Whether it counts days, so that it means nothing where only the order of events is known.
        needs_user_text: Whether it reads `Histories.text_vectors`, which `embedding.user_text` makes.
    """

    name: str
    compute: Callable[[Context, Prepared], NDArray[Any]]
    prepare: Callable[[State], Arrays] = _nothing
    names: Callable[[Context], list[str]] = _one_column
    topic: str = ""
    needs_clock: bool = False
    needs_user_text: bool = False


FEATURES: Family[Feature] = Family("feature", "recsys.ranking.features", group="recsys.features")


def _retriever_names(context: Context) -> list[str]:
    return list(context.answers)


def scores(context: Context, prepared: Prepared) -> FloatArray:
    """Every retriever's score, as log(1 + |score|) with its sign, so that the tails of counts stay short."""
    raw = context.scores
    return np.sign(raw) * np.log1p(np.abs(raw))


def ranks(context: Context, prepared: Prepared) -> FloatArray:
    """Log of 1 + the pair's place among the query's candidates by every retriever's score; equals share a place."""
    score = _rounded(context.scores)
    if context.joining is None:
        rank = _ranks_in_list(context.candidates, score)
    else:
        rank = _ranks_if_added(context, score, context.joining)
    return np.log1p(rank).astype(np.float32)


def _ranks_in_list(candidates: Candidates, score: FloatArray) -> LongArray:
    """The place of each score `(n, r)` in its query's list; scores not above 0 are no evidence, and come last."""
    n_lists, (n, columns) = len(candidates.offsets) - 1, score.shape
    owner = (candidates.owner + n_lists * np.arange(columns)[:, None]).ravel()
    score = score.T.ravel()
    order = order_by_score(owner, score)
    place, best = np.tile(places_of(candidates.offsets), columns), score[order]
    # Equal scores share the first one's place: otherwise the order of the catalogue would be a feature.
    first = np.ones(len(score), dtype=bool)
    first[1:] = (best[1:] != best[:-1]) | (place[1:] == 0)
    rank = np.empty(len(score), dtype=np.int64)
    rank[order] = place[np.maximum.accumulate(np.where(first, np.arange(len(score)), 0))]
    has = score > 0
    evidence = np.bincount(owner[has], minlength=n_lists * columns)
    return np.where(has, rank, evidence[owner]).reshape(columns, n).T


def _ranks_if_added(context: Context, score: FloatArray, lists: Context) -> LongArray:
    """The place that each score `(n, r)` would have if it alone joined the list of its query."""
    ends = lists.candidates.offsets[1:][context.owner]
    pairs = zip(_rounded(lists.scores).T, np.maximum(score, 0).T, strict=True)
    below = [
        np.searchsorted(np.sort(score_keys(lists.owner, listed)), score_keys(context.owner, own), side="right")
        for listed, own in pairs
    ]
    return ends[:, None] - np.stack(below, axis=1)


def _rounded(score: FloatArray) -> FloatArray:
    """Round to 18 binary digits, so that equal scores stay equal when their sums ran in another order."""
    bits = np.ascontiguousarray(score, dtype=np.float32).view(np.int32)
    return ((bits + 32) & ~np.int32(63)).view(np.float32)


def found_by(context: Context, prepared: Prepared) -> FloatArray:
    """How many retrievers put the item among the candidates."""
    return (context.candidates.found >= 0).sum(axis=1).astype(np.float32)


def _prepare_count(state: State) -> Arrays:
    return {"count": np.bincount(state.interactions.item, minlength=len(state.catalog)).astype(np.float32)}


def log_popularity(context: Context, prepared: Prepared) -> FloatArray:
    """Log of 1 + the item's events."""
    return np.log1p(prepared["count"][context.item])


def _prepare_late(state: State) -> Arrays:
    """For each item: its events, decayed by the number of later baskets of their user, and the share that is left."""
    events = state.interactions
    users = np.arange(events.n_users)
    age = events.histories(users, next_moments(events)).age
    n_items = len(state.catalog)
    count = np.bincount(events.item, minlength=n_items)
    late = np.bincount(events.item, weights=LATE_DECAY**age, minlength=n_items)
    share = (late + 1) / (count + 2)
    return {"late": np.log1p(late).astype(np.float32), "share": share.astype(np.float32)}


def late_popularity(context: Context, prepared: Prepared) -> FloatArray:
    """Recent popularity, which counts an event less the more its user did since.

    Two columns: log of 1 + the decayed events, and their smoothed share of all events of the item. Where only the order
    of events is known, this separates a rising item from one whose time has passed.
    """
    return np.stack([prepared["late"][context.item], prepared["share"][context.item]], axis=1)


def text_by_popularity(context: Context, prepared: Prepared) -> FloatArray:
    """Best text match, split by how much behaviour the item has: 0, 1-4, 5-9, 10-49, 50 and more events."""
    place = np.digitize(prepared["count"][context.item], [1, 5, 10, 50])
    block = np.zeros((len(place), len(POPULARITY)), dtype=np.float32)
    block[np.arange(len(place)), place] = context.best_match
    return block


def history_length(context: Context, prepared: Prepared) -> FloatArray:
    """Log of 1 + the events of the history."""
    return np.log1p(context.histories.lengths.astype(np.float32))[context.owner]


def best_match(context: Context, prepared: Prepared) -> FloatArray:
    """Greatest cosine of the candidate with one of the 10 newest items of the history; 0 without history."""
    return context.best_match


def _share(context: Context, code: IntArray) -> FloatArray:
    """Share of the history whose code equals the candidate's `(n,)`; 0 where the candidate has no code."""
    histories, n_items, wanted = context.histories, context.n_items, code[context.item]
    past = code[histories.item]
    hit = _count_each(
        pair_keys(histories.owner, past, n_items)[past >= 0],
        np.where(wanted >= 0, pair_keys(context.owner, wanted, n_items), -1),
    )
    return (hit / np.maximum(histories.lengths[context.owner], 1)).astype(np.float32)


def _count_each(keys: LongArray, wanted: LongArray) -> LongArray:
    """Count how often each wanted key `(n,)` occurs among some keys."""
    ascending = np.sort(keys)
    return np.searchsorted(ascending, wanted, side="right") - np.searchsorted(ascending, wanted)


def _last_equal(context: Context, code: IntArray) -> FloatArray:
    histories = context.histories
    last = np.full(len(histories), -1, dtype=np.int64)
    filled = histories.lengths > 0
    last[filled] = code[histories.item[histories.offsets[1:][filled] - 1]]
    own = code[context.item]
    return ((own >= 0) & (own == last[context.owner])).astype(np.float32)


def _prepare_category(state: State) -> Arrays:
    return {"code": state.catalog.category_codes[0]}


def _prepare_parent(state: State) -> Arrays:
    return {"code": state.catalog.category_codes[1]}


def _prepare_brand(state: State) -> Arrays:
    return {"code": state.catalog.brand_codes}


def code_share(context: Context, prepared: Prepared) -> FloatArray:
    """Share of the history in the candidate's category, parent category or brand."""
    return _share(context, prepared["code"])


def code_last(context: Context, prepared: Prepared) -> FloatArray:
    """1 where the newest event has the candidate's category, parent category or brand."""
    return _last_equal(context, prepared["code"])


def _prepare_price(state: State) -> Arrays:
    price = state.catalog.frame["price"].cast(float).fill_null(np.nan).to_numpy()
    known = np.isfinite(price) & (price > 0)
    log_price = np.where(known, np.log(np.where(known, price, 1)), np.nan).astype(np.float32)
    return {"log_price": log_price}


def price_gap(context: Context, prepared: Prepared) -> FloatArray:
    """Absolute log ratio of the price to the usual (geometric mean) price of the history; 0 where either is unknown."""
    log_price, histories = prepared["log_price"], context.histories
    past = log_price[histories.item]
    known = np.isfinite(past)
    total = np.bincount(histories.owner[known], weights=past[known], minlength=len(histories))
    count = np.bincount(histories.owner[known], minlength=len(histories))
    usual = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    gap = np.abs(log_price[context.item] - usual[context.owner])
    return np.where(np.isfinite(gap), gap, 0).astype(np.float32)


def own_count(context: Context, prepared: Prepared) -> FloatArray:
    """Log of 1 + how often the history holds this very item."""
    histories, n_items = context.histories, context.n_items
    had = pair_keys(histories.owner, histories.item, n_items)
    return np.log1p(_count_each(had, pair_keys(context.owner, context.item, n_items))).astype(np.float32)


def own_recency(context: Context, prepared: Prepared) -> FloatArray:
    """1 / (1 + baskets since the history last held this very item); 0 for never."""
    row = context.own_event
    age = context.histories.age[np.maximum(row, 0)] if len(context.histories.item) else np.maximum(row, 0)
    return np.where(row >= 0, 1 / (1 + age), 0).astype(np.float32)


def _prepare_interval(state: State) -> Arrays:
    """For each item: repurchases per buyer, and the log of the usual days between two, both smoothed to the mean."""
    events, n_items = state.interactions, len(state.catalog)
    # The log is in time order within each user; a stable sort keeps it so.
    order = np.argsort(pair_keys(events.user, events.item, n_items), kind="stable")
    user, item, time = events.user[order], events.item[order], events.time[order]
    again = (user[1:] == user[:-1]) & (item[1:] == item[:-1]) & (time[1:] > time[:-1])
    days = (time[1:] - time[:-1])[again] / DAY
    repeats = np.bincount(item[1:][again], minlength=n_items)
    first = np.ones(len(item), dtype=bool)
    first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    pairs = np.bincount(item[first], minlength=n_items)
    overall = np.log(np.maximum(days, 0.04)).mean() if len(days) else 0.0
    total = np.bincount(item[1:][again], weights=np.log(np.maximum(days, 0.04)), minlength=n_items)
    rate = (repeats + 5 * (repeats.sum() / max(pairs.sum(), 1))) / (pairs + 5)
    return {"rate": rate.astype(np.float32), "log_days": ((total + 5 * overall) / (repeats + 5)).astype(np.float32)}


def repeat_rate(context: Context, prepared: Prepared) -> FloatArray:
    """Log of 1 + repurchases per buyer of the item, smoothed towards the mean of the shop."""
    return np.log1p(prepared["rate"][context.item])


def due(context: Context, prepared: Prepared) -> FloatArray:
    """Position in the item's repurchase cycle: three columns, 0 for an item that the history does not hold.

    Log of the days since the history last held it, that less the log of the item's usual days between two purchases,
    and the absolute value of the difference.
    """
    row = context.own_event
    since = np.zeros(len(row), dtype=np.float64)
    own = row >= 0
    days = (context.histories.as_of[context.owner[own]] - context.histories.time[row[own]]) / DAY
    since[own] = np.log(np.maximum(days, 0.04))
    phase = np.where(own, since - prepared["log_days"][context.item], 0)
    return np.stack([since, phase, np.abs(phase)], axis=1).astype(np.float32)


def cls_pair(context: Context, prepared: Prepared) -> FloatArray:
    """The user's text vector beside the item's `(n, 2 d)`: the features of the article that the project began from."""
    histories = context.histories
    if histories.text_vectors is None:
        raise ConfigError(NO_USER_TEXT.format("cls_pair"))
    return np.concatenate([histories.text_vectors[context.owner], context.vectors[context.item]], axis=1)


def _cls_names(context: Context) -> list[str]:
    return [f"{side}{j}" for side in ("user", "item") for j in range(context.vectors.shape[1])]


for _feature in (
    Feature("scores", scores, names=_retriever_names, topic=OF_RETRIEVER),
    Feature("ranks", ranks, names=_retriever_names, topic=OF_RETRIEVER),
    Feature("found_by", found_by, topic="ways"),
    Feature("log_popularity", log_popularity, _prepare_count, topic="popular"),
    Feature("late_popularity", late_popularity, _prepare_late, lambda context: ["log", "share"], topic="now"),
    Feature("text_by_popularity", text_by_popularity, _prepare_count, lambda context: POPULARITY, topic="text"),
    Feature("history_length", history_length, topic="length"),
    Feature("best_match", best_match, topic="text"),
    Feature("category_share", code_share, _prepare_category, topic="category"),
    Feature("category_last", code_last, _prepare_category, topic="category"),
    Feature("parent_share", code_share, _prepare_parent, topic="category"),
    Feature("parent_last", code_last, _prepare_parent, topic="category"),
    Feature("brand_share", code_share, _prepare_brand, topic="brand"),
    Feature("brand_last", code_last, _prepare_brand, topic="brand"),
    Feature("price_gap", price_gap, _prepare_price, topic="price"),
    Feature("own_count", own_count, topic="own"),
    Feature("own_recency", own_recency, topic="own"),
    Feature("repeat_rate", repeat_rate, _prepare_interval, topic="again"),
    Feature("due", due, _prepare_interval, lambda context: ["days", "phase", "distance"], "due", needs_clock=True),
    Feature("cls_pair", cls_pair, names=_cls_names, topic="text", needs_user_text=True),
):
    FEATURES.register(_feature)
