"""The items nearest to a vector, with their titles."""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys.arrays import FloatArray, Rows
from recsys.retrieval.variants import Variants
from recsys.types import Catalog


def titled(catalog: Catalog, rows: Rows) -> pl.DataFrame:
    """Return the columns item_id and title of some items."""
    titles = pl.Series([catalog.title(int(row)) for row in rows], dtype=pl.String)
    return pl.DataFrame({"item_id": catalog.ids.gather(rows), "title": titles})


def nearest_items(catalog: Catalog, vectors: FloatArray, query: FloatArray, k: int, without: Rows,
                  variants: Variants | None) -> pl.DataFrame:  # fmt: skip
    """Find the items with the greatest inner products.

    Args:
        catalog: The catalogue.
        vectors: Its unit vectors `(I, d)`.
        query: The query vector `(d,)`.
        k: How many items.
        without: Rows of items to leave out.
        variants: Of each product the nearest variant alone is listed; None lists all.

    Returns:
        Columns item_id, title, score, nearest first.
    """
    score = vectors @ query
    score[without] = -np.inf
    order = np.argsort(-score, kind="stable") if variants is not None else _top(score, k + len(without))
    order = order[np.isfinite(score[order])]
    if variants is not None:
        order = order[variants.first_of_each(np.zeros(len(order), dtype=np.int64), order)]
    best = order[:k]
    return titled(catalog, best).with_columns(pl.Series("score", score[best]))


def _top(score: FloatArray, k: int) -> Rows:
    k = min(k, len(score))
    best = np.argpartition(-score, max(k - 1, 0))[:k]
    return best[np.argsort(-score[best], kind="stable")]
