"""Prices that look wrong: those of new items beside items with like texts, those of known items beside their own past.

The expected price of a new item is the mean, in logarithms, of a ridge regression on TF-IDF of its texts and of its
eight neighbours by them. How far off is usual is learned from the other items, each judged without its own price: a
conformal range (Lei and others 2018, "Distribution-Free Predictive Inference for Regression"), wider where neighbours
disagree. Nothing here forecasts a price: the last weekly median is nearer to the next one than a trend is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.config import Config
from recsys.errors import DataError, UnknownIdError
from recsys.extras import require
from recsys.tables.sales import PRICE, Sales, load_sales
from recsys.types import Id

TEXTS = ("title", "category", "brand", "description")
NEIGHBOURS = 8
NEARNESS = 0.2  # the cosine distance at which a neighbour's weight has fallen to 1/e
FOLDS = 5
LEAST_ITEMS = 50
MOST_ITEMS = 10_000  # to learn from
COVERED = 0.8
SPREAD = 0.4  # added to the neighbours' disagreement, in logarithms
OWN_SPREAD = 0.1  # added to a known item's own
LEAST_LINES = 5  # lines with a price from which on an item is known
SLIPPED = 10.0
PLANTED = 0.05  # of the items, to measure how slipped decimals are found
AMONG = 100
SEED = 7

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PriceStudy:
    """Prices, those most off first.

    Attributes:
        new: Items with fewer than five priced lines: `item_id`, `title`, `price`, `expected`, `low` and `high` of the
            80% range, `as_far` (the share of known prices that lie as far off), `neighbours` (structs of `item_id`,
            `title`, `price`, nearest first).
        known: Items with more: `item_id`, `title`, `price` of the latest line, `expected` (the median of the earlier
            ones), `low`, `high`, `as_far`, `lines`.
        measured: On this catalogue, each item judged as if it were new: `items`, `r2` of the logarithms, `coverage` of
            the 80% range of one half of the items by the other; for slipped decimals (times ten) in 5% of the items,
            `auc` and the share of them `first` among the `among` most off.
    """

    new: pl.DataFrame
    known: pl.DataFrame
    measured: dict[str, Any]

    def of(self, item_id: Id) -> PriceStudy:
        """Select one item.

        Raises:
            UnknownIdError: no item of that id has a price.
        """
        new, known = (frame.filter(pl.col("item_id").cast(pl.String) == str(item_id))
                      for frame in (self.new, self.known))  # fmt: skip
        if new.is_empty() and known.is_empty():
            raise UnknownIdError(f"no item {str(item_id)!r} with a price above 0 is in the catalogue or the log")
        return PriceStudy(new, known, self.measured)


def study_prices(config: Config, price: str = PRICE) -> PriceStudy:
    """Look for suspicious prices in a catalogue and its log.

    Args:
        config: Names the tables.
        price: The log's column of prices of a unit.

    Raises:
        ConfigError: the extra `train` is missing; else as `load_sales`.
        DataError: fewer than 50 items have a price and a text; else as `load_sales`.
        ArtifactError: as `load_sales`.
    """
    return find_prices(load_sales(config.data, config.folder, price=price))


def find_prices(sales: Sales) -> PriceStudy:
    """Look for suspicious prices, see `study_prices`."""
    known = find_known(sales)
    items = sales.catalog.frame.filter(~pl.col("item_id").is_in(known["item_id"].implode()))
    model = PriceModel(sales.catalog.frame)
    return PriceStudy(model.judge(items), known, model.measured)


class PriceModel:
    """What items with such texts cost.

    Args:
        items: `item_id`, `price` and any of `title`, `category`, `brand`, `description`; those with a price above 0 and
            a text are learned from, at most 10,000 drawn at random.

    Raises:
        ConfigError: the extra `train` is missing.
        DataError: fewer than 50 items have a price and a text.
    """

    def __init__(self, items: pl.DataFrame) -> None:
        require("train", "recsys prices", "sklearn", "scipy")
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.neighbors import NearestNeighbors
        from sklearn.pipeline import make_union

        items = _priced(items)
        if items.height < LEAST_ITEMS:
            raise DataError(f"{items.height} items of the catalogue have a price above 0 and a text: what a new one "
                            f"should cost is learned from at least {LEAST_ITEMS}")  # fmt: skip
        if items.height > MOST_ITEMS:
            items = items.sample(MOST_ITEMS, seed=SEED)
        self._items, self._logs = items, np.log(items["price"].to_numpy())
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
        self._vectorizer = make_union(words, parts)
        vectors = self._vectorizer.fit_transform(items["text"].to_list())
        self._search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, metric="cosine").fit(vectors)
        self._fold = np.random.default_rng(SEED).permutation(np.arange(items.height) % FOLDS)
        self._folds = [_ridge(vectors[self._fold != fold], self._logs[self._fold != fold]) for fold in range(FOLDS)]
        self._expected, self._unit, _ = self._judge(vectors, np.arange(items.height))
        self._scores = np.sort(np.abs(self._logs - self._expected) / self._unit)
        self.measured = self._measure()

    def judge(self, items: pl.DataFrame) -> pl.DataFrame:
        """Say what items should cost, each without its own price; as `PriceStudy.new`, the most off first.

        Args:
            items: As those that the model learned from; ones without a price above 0 or a text are left out.
        """
        items = _priced(items)
        places = pl.DataFrame({"item_id": self._items["item_id"]}).with_row_index("place")
        own = items.select("item_id").join(places, on="item_id", how="left", maintain_order="left")["place"]
        own_rows = own.cast(pl.Int64).fill_null(-1).to_numpy()
        if items.is_empty():
            expected, unit, nearest = np.zeros(0), np.ones(0), np.zeros((0, NEIGHBOURS), np.int64)
        else:
            expected, unit, nearest = self._judge(self._vectorizer.transform(items["text"].to_list()), own_rows)
        judged = _judged(items.select("item_id", "title", "price"), expected, unit, self._scores)
        about = self._items.select("item_id", "title", "price").to_struct("neighbours")
        shown = about.gather(nearest.ravel()).reshape((len(nearest), NEIGHBOURS)) if len(nearest) else None
        listed = pl.Series("neighbours", [] if shown is None else shown.to_list(), pl.List(about.dtype))
        return judged.with_columns(listed).sort("as_far", "off", descending=[False, True]).drop("off")

    def _judge(self, vectors: Any, own: NDArray[np.int64]) -> tuple[Doubles, Doubles, NDArray[np.int64]]:
        """Expected logarithms `(n,)`, their unit `(n,)` and neighbours `(n, 8)`; `own` is an item's place or -1."""
        distance, nearest = self._search.kneighbors(vectors)
        # An item is no neighbour of itself; who has 8 others before it leaves out the last.
        distance = np.where(nearest == own[:, None], np.inf, distance)
        order = np.argsort(distance, axis=1, kind="stable")[:, :NEIGHBOURS]
        distance, nearest = np.take_along_axis(distance, order, 1), np.take_along_axis(nearest, order, 1)
        weight = np.exp(-distance / NEARNESS)
        weight /= weight.sum(axis=1, keepdims=True)
        prices = self._logs[nearest]
        near = (weight * prices).sum(axis=1)
        spread = np.sqrt((weight * (prices - near[:, None]) ** 2).sum(axis=1))
        # Items of the model by the fold that did not see them, others by the mean of folds, which saw as many items.
        linear = np.column_stack([model.predict(vectors) for model in self._folds])
        linear = np.where(own >= 0, linear[np.arange(len(own)), self._fold[own]], linear.mean(axis=1))
        return (near + linear) / 2, spread + SPREAD, nearest

    def _measure(self) -> dict[str, Any]:
        rng, n = np.random.default_rng(SEED), len(self._logs)
        off = self._logs - self._expected
        half = rng.permutation(n)
        one, other = half[: n // 2], half[n // 2 :]
        reach = _quantile(np.sort(np.abs(off[one]) / self._unit[one]))
        slipped = np.zeros(n, dtype=bool)
        slipped[rng.choice(n, max(int(n * PLANTED), 1), replace=False)] = True
        scores = np.abs(off + np.log(SLIPPED) * slipped) / self._unit
        among = min(AMONG, int(slipped.sum()))
        first = slipped[np.argsort(-scores, kind="stable")[:among]]
        return {"items": n, "r2": float(1 - (off**2).sum() / ((self._logs - self._logs.mean()) ** 2).sum()),
                "coverage": float((np.abs(off[other]) <= reach * self._unit[other]).mean()),
                "auc": _area(scores, slipped), "among": among, "first": float(first.mean())}  # fmt: skip


def _ridge(vectors: Any, logs: Doubles) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0, solver="sparse_cg").fit(vectors, logs)


def _priced(items: pl.DataFrame) -> pl.DataFrame:
    texts = [pl.col(name).cast(pl.String) for name in TEXTS if name in items.columns]
    text = pl.concat_str(texts, separator=" ", ignore_nulls=True).str.strip_chars() if texts else pl.lit("")
    return items.with_columns(text=text).filter((pl.col("price") > 0) & (pl.col("text") != ""))


def _judged(items: pl.DataFrame, expected: Doubles, unit: Doubles, scores: Doubles) -> pl.DataFrame:
    """Add range and share: `scores (m,)` of known prices, ascending."""
    off = np.abs(np.log(items["price"].to_numpy()) - expected) / unit
    reach = _quantile(scores) * unit
    as_far = (len(scores) - np.searchsorted(scores, off, side="left")) / max(len(scores), 1)
    return items.with_columns(expected=np.exp(expected), low=np.exp(expected - reach), high=np.exp(expected + reach),
                              as_far=as_far, off=off)  # fmt: skip


def _quantile(scores: Doubles) -> float:
    """The conformal quantile of ascending scores: the ceiling of (n + 1) x 80%."""
    return float(scores[min(int(np.ceil((len(scores) + 1) * COVERED)), len(scores)) - 1]) if len(scores) else 0.0


def _area(scores: Doubles, positive: NDArray[np.bool_]) -> float:
    """How often a positive stands above another."""
    ranks = pl.Series(scores).rank().to_numpy()
    some, rest = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - some * (some + 1) / 2) / (some * rest))


def find_known(sales: Sales) -> pl.DataFrame:
    """Judge the latest price of each item with a history by the earlier ones, as `PriceStudy.known`."""
    lines = sales.frame.filter(pl.col("price").is_not_null()).with_columns(log=pl.col("price").log())
    latest = pl.col("log").last()
    earlier = pl.col("log").slice(0, pl.len() - 1)
    found = lines.group_by("item", maintain_order=True).agg(
        lines=pl.len(), price=pl.col("price").last(), log=latest, middle=earlier.median(),
        spread=(earlier - earlier.median()).abs().median(),
    ).filter(pl.col("lines") >= LEAST_LINES)  # fmt: skip
    titles = pl.Series("title", sales.catalog.titles, pl.String)
    items = found.select(sales.catalog.ids.gather(found["item"]), titles.gather(found["item"]), "price", "lines")
    unit = found["spread"].to_numpy() + OWN_SPREAD
    scores = np.sort(np.abs(found["log"].to_numpy() - found["middle"].to_numpy()) / unit)
    judged = _judged(items, found["middle"].to_numpy(), unit, scores)
    order: Sequence[str] = ("item_id", "title", "price", "expected", "low", "high", "as_far", "lines")
    return judged.sort("off", "item_id", descending=[True, False]).select(order)
