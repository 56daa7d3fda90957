"""Who is due for what this week, and what a customer used to buy and buys no longer.

The chance that a customer buys within a week is a logistic regression on how often and how lately the customer bought,
learned at earlier weekly cuts: at each cut it sees only the days before. A second one, over pairs of a customer and an
item, says for what. A usual gap that has passed says little by itself: most customers whose gap is long past have gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.config import Config
from recsys.errors import DataError, UnknownIdError
from recsys.extras import require
from recsys.tables.sales import Sales, load_sales
from recsys.types import Id

WEEK = 7
CUTS = 12  # weeks to learn from
LEAST_DAYS = 6 * WEEK
HALF_LIVES = (7, 28, 91)  # days
HABIT = 3  # days with a purchase from which on an item can be dropped
LATE = 3.0  # times the usual gap, after which an item is dropped
VISITS_SINCE = 2  # times that the customer came without it
AMONG = 100  # customers of the measured precision
MOST_ROWS = 400_000  # pairs to learn from
SEED = 7

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReorderStudy:
    """Who is due in the week from a day on.

    Attributes:
        week: Its first day.
        customers: `user_id`, `by`, `probability` of any purchase within the week, `days` with a purchase, usual
            `interval_days` between them (null after a single one), `last`; the most probable first.
        items: `user_id`, `item_id`, `title`, `probability` of that item within the week, usual `quantity` of a day,
            `interval_days`, `last`; items bought on two days or more, the most probable of each customer first.
        dropped: `user_id`, `item_id`, `title`, `days`, `quantity`, `interval_days`, `last`, `silent_days`,
            `visits_since`; those with the most days first.
        measured: What the same method would have said a week earlier: `week`, `customers`, `precision` among the
            `among` ranked highest, that of `decayed` frequency (half-life 91 days) and of `gap_passed` (those whose
            usual gap has passed, the most frequent first), `expected` customers (the sum of the
            probabilities) and those who `came`.
    """

    week: date
    customers: pl.DataFrame
    items: pl.DataFrame
    dropped: pl.DataFrame
    measured: dict[str, Any]

    def of(self, user_id: Id) -> ReorderStudy:
        """Select one customer.

        Raises:
            UnknownIdError: nobody of that id bought anything before the week.
        """
        known = self.customers["user_id"]
        if str(user_id) not in known.cast(pl.String):
            raise UnknownIdError(f"no customer {str(user_id)!r} bought anything before {self.week}")
        return self._where(pl.col("user_id").cast(pl.String) == str(user_id))

    def by(self, name: str) -> ReorderStudy:
        """Select the customers of one sales representative, or whatever the column `by` holds.

        Raises:
            UnknownIdError: no customer has that value.
        """
        users = self.customers.filter(pl.col("by") == name)["user_id"]
        if users.is_empty():
            known = ", ".join(self.customers["by"].drop_nulls().unique().sort().head(10))
            raise UnknownIdError(f"no customer is of {name!r}; some that are there: {known or 'none'}")
        return self._where(pl.col("user_id").is_in(users.implode()))

    def _where(self, wanted: pl.Expr) -> ReorderStudy:
        customers, items, dropped = (table.filter(wanted) for table in (self.customers, self.items, self.dropped))
        return ReorderStudy(self.week, customers, items, dropped, self.measured)


def study_reorders(config: Config, by: str | None = None) -> ReorderStudy:
    """Say who is due in the week after the log's last day.

    Args:
        config: Names the tables; the events that count are `data.interactions.targets`.
        by: The log's column of sales representatives (or branches): a customer's is that of the latest line.

    Raises:
        ConfigError: `clock: order`, or the extra `train` is missing; else as `load_sales`.
        DataError: the log is shorter than six weeks; else as `load_sales`.
        ArtifactError: as `load_sales`.
    """
    return find_reorders(load_sales(config.data, config.folder, by=by))


def find_reorders(sales: Sales, week: int | None = None) -> ReorderStudy:
    """Say who is due in a week, from the lines before it.

    Args:
        sales: The lines.
        week: Its first day, in days since 1970. Default: the day after the last line.

    Raises:
        ConfigError: the extra `train` is missing.
        DataError: the log before the week is shorter than six weeks.
    """
    require("train", "recsys reorders", "sklearn")
    lines = sales.frame if week is None else sales.frame.filter(pl.col("day") < week)
    if lines.is_empty():
        raise DataError("the log holds no sale before the week: who is due is learned from at least "
                        f"{LEAST_DAYS} days")  # fmt: skip
    first, last = (int(day) for day in lines.select(pl.min("day"), first=pl.max("day")).row(0))
    week = last + 1 if week is None else week
    if week - first < LEAST_DAYS:
        raise DataError(f"the log holds {week - first} days before {_date(week)}: who is due is learned from at least "
                        f"{LEAST_DAYS}")  # fmt: skip
    visits = _visits(lines, ["user"])
    bought = _visits(lines, ["user", "item"])
    cuts = _cuts(first, week)
    now = _rhythm(visits, ["user"], week)
    customers = now.with_columns(probability=_chance(visits, ["user"], cuts, now))
    pairs = _of_pairs(visits, bought, week)
    pairs = pairs.with_columns(probability=_chance_of_pairs(visits, bought, cuts, pairs))
    # An item cannot be likelier than any purchase at all.
    pairs = pairs.join(customers.select("user", most="probability"), on="user")
    pairs = pairs.with_columns(probability=pl.min_horizontal("probability", "most"))
    usual = lines.group_by("user", "item", "day").agg(_total("quantity")).group_by("user", "item")
    pairs = pairs.join(usual.agg(pl.col("quantity").median()), on=["user", "item"], how="left")
    return ReorderStudy(
        _date(week), _named_customers(sales, lines, customers), _named_items(sales, pairs),
        _dropped(sales, visits, pairs, week), measure(visits, week - WEEK, first),
    )  # fmt: skip


def measure(visits: pl.DataFrame, week: int, first: int) -> dict[str, Any]:
    """Measure a week that has passed: who was ranked highest among the customers before it, and who came.

    Args:
        visits: `user` and `day`, a row for each day on which a customer bought.
        week: Its first day, in days since 1970; the six days after it must be in the log.
        first: The log's first day.

    Returns:
        As `ReorderStudy.measured`.
    """
    now = _rhythm(visits, ["user"], week)
    chance = _chance(visits, ["user"], _cuts(first, week), now)
    came = _label(visits, ["user"], week, now)
    passed = now.select(pl.when(pl.col("recency") >= pl.col("gap")).then("days").fill_null(0)).to_series()
    ranked = {"precision": chance, "decayed": now[f"often_{HALF_LIVES[-1]}"].to_numpy(),
              "gap_passed": passed.to_numpy()}  # fmt: skip
    among = min(AMONG, now.height)
    best = {name: float(came[np.argsort(-score, kind="stable")[:among]].mean()) for name, score in ranked.items()}
    return {"week": str(_date(week)), "customers": now.height, "among": among, **best,
            "expected": float(chance.sum()), "came": int(came.sum())}  # fmt: skip


def _visits(lines: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    return lines.select(*keys, "day").unique().sort(*keys, "day")


def _cuts(first: int, week: int) -> list[int]:
    """The earlier weeks to learn from: at most half of the log's span, so that each has a history."""
    return [week - WEEK * back for back in range(1, 1 + min(CUTS, (week - first) // (2 * WEEK)))]


def _rhythm(visits: pl.DataFrame, keys: Sequence[str], cut: int) -> pl.DataFrame:
    """How often and how lately each key bought before a cut: a row a key, in the order of keys."""
    age = (cut - pl.col("day")).cast(pl.Float64)
    often = {f"often_{half}": (0.5 ** (age / half)).sum() for half in HALF_LIVES}
    return visits.filter(pl.col("day") < cut).group_by(keys, maintain_order=True).agg(
        days=pl.len(), recency=age.min(), tenure=age.max(), gap=pl.col("day").diff().median(),
        last=pl.col("day").max(), **often,
    )  # fmt: skip


def _features(rhythm: pl.DataFrame, suffix: str = "") -> Doubles:
    """Logarithms and roots of a rhythm, and whether its gap ends within the week `(n, 13)`; without one, its time."""
    column = {name: rhythm[name + suffix].to_numpy().astype(np.float64) for name in
              ("days", "recency", "tenure", *(f"often_{half}" for half in HALF_LIVES))}  # fmt: skip
    gap = rhythm["gap" + suffix].fill_null(float("nan")).to_numpy().astype(np.float64)
    gap = np.maximum(np.where(np.isnan(gap), column["tenure"], gap), 1)
    late = np.log(column["recency"] / gap)
    due = (column["recency"] <= gap) & (column["recency"] + WEEK > gap)
    counts = [column[f"often_{half}"] for half in HALF_LIVES]
    often = [*(np.log(count + 1e-3) for count in counts), *(np.sqrt(count) for count in counts)]
    return np.column_stack([np.log1p(column["days"]), np.log(column["recency"]), np.log(column["tenure"]),
                            np.log(gap), late, np.minimum(late, 0) ** 2, due, *often])  # fmt: skip


def _label(visits: pl.DataFrame, keys: Sequence[str], cut: int, rhythm: pl.DataFrame) -> NDArray[np.bool_]:
    """Whether each key of a rhythm bought within the week from the cut on."""
    came = visits.filter(pl.col("day").is_between(cut, cut + WEEK - 1)).select(keys).unique()
    return rhythm.select(keys).join(came.with_columns(came=True), on=keys, how="left", maintain_order="left")[
        "came"
    ].fill_null(False).to_numpy()  # fmt: skip


def _chance(visits: pl.DataFrame, keys: Sequence[str], cuts: Sequence[int], now: pl.DataFrame) -> Doubles:
    """The chance of each customer, by what earlier cuts teach."""
    past = [_rhythm(visits, keys, cut) for cut in cuts]
    labels = [_label(visits, keys, cut, rhythm) for cut, rhythm in zip(cuts, past, strict=True)]
    return _regression(np.vstack([_features(rhythm) for rhythm in past]), np.concatenate(labels), _features(now))


def _of_pairs(visits: pl.DataFrame, bought: pl.DataFrame, cut: int) -> pl.DataFrame:
    """The rhythm of each pair with two days or more, beside its customer's."""
    pairs = _rhythm(bought, ["user", "item"], cut).filter(pl.col("days") > 1)
    return pairs.join(_rhythm(visits, ["user"], cut), on="user", suffix="_of_user", maintain_order="left")


def _chance_of_pairs(visits: pl.DataFrame, bought: pl.DataFrame, cuts: Sequence[int],
                     now: pl.DataFrame) -> Doubles:  # fmt: skip
    if now.is_empty():
        return np.zeros(0)
    features, labels = [], []
    for cut in cuts:
        pairs = _of_pairs(visits, bought, cut)
        pairs = pairs if pairs.height <= (most := MOST_ROWS // len(cuts)) else pairs.sample(most, seed=SEED)
        features.append(_pair_features(pairs))
        labels.append(_label(bought, ["user", "item"], cut, pairs))
    return _regression(np.vstack(features), np.concatenate(labels), _pair_features(now))


def _pair_features(pairs: pl.DataFrame) -> Doubles:
    return np.hstack([_features(pairs), _features(pairs, "_of_user")])


def _regression(past: Doubles, labels: NDArray[np.bool_], now: Doubles) -> Doubles:
    """Chances `(m,)`, from rows that were seen `(n, f)`; those seen all alike leave their share."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not len(labels) or labels.all() or not labels.any():
        share = (labels.sum() + 0.5) / (len(labels) + 1)
        return np.full(len(now), share)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(past, labels)
    return model.predict_proba(now)[:, 1]


def _named_customers(sales: Sales, lines: pl.DataFrame, customers: pl.DataFrame) -> pl.DataFrame:
    own = pl.lit(None, pl.String).alias("by")
    if "by" in lines.columns:
        own = pl.col("by").drop_nulls().last()
    by = lines.group_by("user").agg(own) if "by" in lines.columns else lines.select("user", own).unique()
    found = customers.join(by, on="user").sort("probability", "user", descending=[True, False])
    return found.select(_user_id(sales, found), "by", "probability", "days", interval_days="gap", last=_day("last"))


def _named_items(sales: Sales, pairs: pl.DataFrame) -> pl.DataFrame:
    found = pairs.sort("most", "user", "probability", "item", descending=[True, False, True, False])
    return found.select(_user_id(sales, found), *_about_item(sales, found), "probability", "quantity",
                        interval_days="gap", last=_day("last"))  # fmt: skip


def _dropped(sales: Sales, visits: pl.DataFrame, pairs: pl.DataFrame, week: int) -> pl.DataFrame:
    """Habits that stopped while the customer went on coming."""
    silent = pairs.filter((pl.col("days") >= HABIT) & (pl.col("recency") > LATE * pl.col("gap")))
    days = visits.filter(pl.col("day") < week).select("user", visited="day")
    since = silent.select("user", "item", "last").join(days, on="user").filter(pl.col("visited") > pl.col("last"))
    counts = since.group_by("user", "item").agg(visits_since=pl.len())
    found = silent.join(counts.filter(pl.col("visits_since") >= VISITS_SINCE), on=["user", "item"])
    found = found.sort("days", "recency", "user", "item", descending=[True, False, False, False])
    silence = pl.col("recency").cast(pl.Int32)
    return found.select(_user_id(sales, found), *_about_item(sales, found), "days", "quantity", "visits_since",
                        interval_days="gap", last=_day("last"), silent_days=silence)  # fmt: skip


def _user_id(sales: Sales, rows: pl.DataFrame) -> pl.Series:
    return sales.user_ids.gather(rows["user"])


def _about_item(sales: Sales, rows: pl.DataFrame) -> list[pl.Series]:
    titles = pl.Series("title", sales.catalog.titles, pl.String)
    return [sales.catalog.ids.gather(rows["item"]), titles.gather(rows["item"])]


def _total(column: str) -> pl.Expr:
    """The sum; null where nothing is known."""
    return pl.when(pl.col(column).count() > 0).then(pl.col(column).sum())


def _day(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Date)


def _date(day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=day)
