"""What the log says of the business: what sells, what rises, what goes together, when customers come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import BoolArray, LongArray
from recsys.formatting import moment
from recsys.types import DAY, Id, Interactions, Tables

LISTED = 10
WINDOW_DAYS = 28
LEAST_WINDOWS = 4  # a shorter log is compared in quarters of its span
RISE = 2.0  # standard errors of a Poisson count
CATEGORIES = 6
WEEKLY_UP_TO = 400  # days from which on categories are counted by the month
PAIR_ITEMS = 2_000  # pairs are counted among the most frequent items
LARGEST_BASKET = 100
LEAST_PAIRS = 5
GAP_BANDS = {"1 day": 1, "2-3": 3, "4-7": 7, "8-14": 14, "15-30": 30, "31-60": 60, "61-120": 120, "over 120": None}
BACK_WITHIN = (7, 30, 90, 180)
HABIT_DAYS = 4  # days with a purchase from which on a customer has a usual gap
LATE = 3.0  # times the usual gap, from which on a customer is gone rather than due


def business(tables: Tables, *, show_users: bool = False) -> dict[str, Any]:
    """Count what happened in the shop, in events of the kinds that the engine predicts.

    Args:
        tables: The tables.
        show_users: Name the customers who are due.

    Returns:
        Plain data. `together`: pairs of items bought at once, with their `count`, the `share` of the first item's
        baskets that hold the second, and the `lift`. With a clock also `window_days`; `best` and `rising` items with
        their events in the last window, `now`, and the one before, `before`; `categories`: events by category in each
        period; `returns`: the gaps between a customer's days by band, their median, and the share of new customers who
        came back within so many days; `due`: how many customers have passed their usual gap, and the most frequent.
    """
    log = tables.interactions.take(tables.interactions.target)
    found: dict[str, Any] = {"events": len(log), "together": _together(tables, log)}
    if tables.clock == "time" and len(log):
        found |= _items(tables, log) | {
            "categories": _categories(tables, log),
            "returns": _returns(log),
            "due": _due(tables, log, show_users),
        }
    return found


def without_users(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `business` found without the customers that it names."""
    return {key: {**value, "users": []} if key == "due" else value for key, value in found.items()}


def _items(tables: Tables, log: Interactions) -> dict[str, Any]:
    """The best sellers of the last window, and the items that rose against the window before."""
    span = int(log.time.max() - log.time.min()) + 1
    window = min(WINDOW_DAYS * DAY, max(span // LEAST_WINDOWS, 1))
    end = int(log.time.max()) + 1
    n = len(tables.catalog)
    now = np.bincount(log.item[log.time >= end - window], minlength=n)
    earlier = (log.time < end - window) & (log.time >= end - 2 * window)
    before = np.bincount(log.item[earlier], minlength=n)
    # The difference of two Poisson counts, in its standard errors; one event more in each, for items that are new.
    rise = (now - before) / np.sqrt(now + before + 2)
    best = [row for row in np.argsort(-now, kind="stable")[:LISTED] if now[row]]
    rising = [row for row in np.argsort(-rise, kind="stable")[:LISTED] if rise[row] >= RISE]

    def listed(rows: list[Any]) -> list[dict[str, Any]]:
        return [_named(tables, row) | {"now": int(now[row]), "before": int(before[row])} for row in rows]

    return {"window_days": window / DAY, "best": listed(best), "rising": listed(rising)}


def _named(tables: Tables, row: int) -> dict[str, Any]:
    return {"item_id": tables.catalog.ids[int(row)], "title": tables.catalog.title(int(row))}


def _categories(tables: Tables, log: Interactions) -> dict[str, Any]:
    """Events of the greatest top categories by week or month; the first and the last period are left out as partial."""
    top = tables.catalog.top_categories
    if not top.drop_nulls().len():
        return {}
    every = "1w" if (int(log.time.max()) - int(log.time.min())) / DAY <= WEEKLY_UP_TO else "1mo"
    when = pl.Series("time", log.time).cast(pl.Datetime("us")).dt.truncate(every).dt.date()
    events = pl.DataFrame({"period": when, "category": top.gather(log.item)})
    counts = events.group_by("period", "category").len().drop_nulls()
    periods = sorted(events["period"].unique())[1:-1]
    largest = counts.group_by("category").agg(pl.col("len").sum()).sort("len", "category", descending=[True, False])
    names = largest["category"].head(CATEGORIES).to_list()
    cells = {(period, name): count for period, name, count in counts.iter_rows()}
    return {
        "every": "week" if every == "1w" else "month",
        "periods": [str(period) for period in periods],
        "events": {name: [cells.get((period, name), 0) for period in periods] for name in names},
    }


def _together(tables: Tables, log: Interactions) -> dict[str, Any]:
    """Pairs of items in one basket, by log-likelihood ratio.

    A basket is what a customer took on one day (at one moment, where only the order is known). The ratio is that of
    Dunning 1993, "Accurate Methods for the Statistics of Surprise and Coincidence"; it prefers pairs that are both
    frequent and far from chance.
    """
    from scipy.sparse import csr_array

    n = len(tables.catalog)
    count = np.bincount(log.item, minlength=n)
    kept = np.sort(np.argsort(-count, kind="stable")[:PAIR_ITEMS])
    place = np.full(n, -1)
    place[kept] = np.arange(len(kept))
    day = log.time // DAY if tables.clock == "time" else log.time
    line = pl.DataFrame({"user": log.user, "day": day, "item": place[log.item]}).unique()
    basket = line.select(pl.struct("user", "day").rank("dense") - 1).to_series().to_numpy()
    size = np.bincount(basket)
    item = line["item"].to_numpy()
    wanted = (item >= 0) & (size[basket] <= LARGEST_BASKET)
    lines = csr_array((np.ones(wanted.sum(), np.int32), (basket[wanted], item[wanted])), (len(size), len(kept)))
    both = (lines.T @ lines).tocoo()
    upper = both.row < both.col
    one, other, pairs = both.row[upper], both.col[upper], both.data[upper].astype(np.float64)
    own, baskets = np.asarray(lines.sum(axis=0), np.float64), float((size <= LARGEST_BASKET).sum())
    lift = pairs * baskets / (own[one] * own[other])
    score = np.where((pairs >= LEAST_PAIRS) & (lift > 1), _likelihood_ratio(pairs, own[one], own[other], baskets), 0)
    first = [row for row in np.argsort(-score, kind="stable")[:LISTED] if score[row] > 0]
    found = [
        {"item": _named(tables, kept[one[row]]), "other": _named(tables, kept[other[row]]), "count": int(pairs[row]),
         "share": float(pairs[row] / own[one[row]]), "lift": float(lift[row])}
        for row in first
    ]  # fmt: skip
    return {"pairs": found, "baskets": int(baskets), "left_out": int((size > LARGEST_BASKET).sum()),
            "items": len(kept)}  # fmt: skip


def _likelihood_ratio(both: Any, one: Any, other: Any, total: float) -> Any:
    """Return Dunning's ratio of each pair `(p,)` from the counts of both, of each, and of all baskets."""

    def entropy(*cells: Any) -> Any:
        return sum(np.where(cell > 0, cell * np.log(np.maximum(cell, 1e-300) / total), 0) for cell in cells)

    cells = both, one - both, other - both, total - one - other + both
    return 2 * (entropy(*cells) - entropy(one, total - one) - entropy(other, total - other))


def _days(log: Interactions) -> tuple[LongArray, LongArray, BoolArray]:
    """The distinct (user, day) pairs in order, and whether each is its user's first."""
    days = np.unique(np.stack([log.user.astype(np.int64), log.time // DAY]), axis=1)
    first = np.ones(days.shape[1], dtype=bool)
    first[1:] = days[0, 1:] != days[0, :-1]
    return days[0], days[1], first


def _returns(log: Interactions) -> dict[str, Any]:
    """The gaps between a customer's days with an event, and how many new customers came back, by when."""
    _, day, first = _days(log)
    gaps = np.diff(day)[~first[1:]]
    ends = [high for high in GAP_BANDS.values() if high is not None]
    bands = np.bincount(np.searchsorted(ends, gaps), minlength=len(GAP_BANDS))
    begun = day[first]
    second = np.full(len(begun), np.iinfo(np.int64).max)
    place = np.flatnonzero(first)
    has = np.append(~first[1:], False)[place]
    second[has] = day[place[has] + 1]
    back = {}
    for within in BACK_WITHIN:
        watched = begun <= day.max() - within  # those who could have come back in time
        if watched.sum() >= 100:
            back[within] = float((second[watched] - begun[watched] <= within).mean())
    return {
        "gaps": dict(zip(GAP_BANDS, bands.tolist(), strict=True)),
        "median_days": float(np.median(gaps)) if len(gaps) else None,
        "once": float(1 - has.mean()),
        "back_within": back,
    }


def _due(tables: Tables, log: Interactions, show_users: bool) -> dict[str, Any]:
    """Customers with a habit who have passed their usual gap, and not by so much that they are gone."""
    user, day, first = _days(log)
    between = pl.DataFrame({"user": user[1:], "gap": np.diff(day)}).filter(~pl.Series(first[1:]))
    habits = between.group_by("user").agg(gap=pl.col("gap").median(), days=pl.len() + 1)
    last = pl.DataFrame({"user": user, "day": day}).group_by("user").agg(last=pl.col("day").max())
    today = int(log.time.max()) // DAY
    habits = habits.join(last, on="user").filter(pl.col("days") >= HABIT_DAYS)
    habits = habits.with_columns(since=today - pl.col("last"))
    late = pl.col("since") > pl.col("gap")
    due = habits.filter(late & (pl.col("since") <= LATE * pl.col("gap"))).sort("days", "user", descending=[True, False])
    shown: list[dict[str, Any]] = []
    for row in due.head(LISTED).iter_rows(named=True) if show_users else ():
        name: Id = tables.user_ids[row["user"]]
        shown.append({"user_id": name, "days": row["days"], "usual_gap": float(row["gap"]), "since": row["since"]})
    gone = habits.filter(pl.col("since") > LATE * pl.col("gap")).height
    return {"as_of": moment(int(log.time.max()), "time"), "habit": habits.height, "due": due.height, "gone": gone,
            "users": shown}  # fmt: skip
