"""A feature in one file, as docs/extending.md shows it: how dear an item is in its shop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.ranking.feature_context import Context
from recsys.ranking.features import Arrays, Feature, Prepared
from recsys.types import State


def prepare(state: State) -> Arrays:
    """Log of each item's price over the median price `(I,)`; 0 where no price is known."""
    price = state.catalog.frame["price"].cast(float).fill_null(np.nan).to_numpy()
    known = np.isfinite(price) & (price > 0)
    usual = np.median(price[known]) if known.any() else 1.0
    return {"level": np.where(known, np.log(np.where(known, price, usual) / usual), 0).astype(np.float32)}


def compute(context: Context, prepared: Prepared) -> NDArray[np.float32]:
    """The price level of each pair's item `(n,)`."""
    return prepared["level"][context.item]


PRICE_LEVEL = Feature("price_level", compute, prepare)
