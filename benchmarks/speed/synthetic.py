"""Synthetic catalogues and logs: vectors that cluster like those of real texts, popularity by Zipf's law."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from recsys.arrays import FloatArray, unit_rows
from recsys.artifacts.persistence import save
from recsys.config import Config
from recsys.engine.calibration import fit_calibrated
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.engine.training import assemble_model, query_moments
from recsys.ragged import offsets_of, owners_of
from recsys.types import DAY, Catalog, Interactions

DIMENSIONS = 384
BLOCK = 65_536
BEGIN = 1_600_000_000_000_000  # microseconds: September 2020
DAYS = 365
SECOND = 1_000_000
TAUGHT = 10_000  # items of the shop that the scorer of a synthetic bundle is trained on


def vectors(n_items: int, seed: int = 0, dimensions: int = DIMENSIONS) -> FloatArray:
    """Return unit vectors `(I, d)` float32: about one cluster for every 50 items, in clusters of clusters.

    Some items are nearly identical, some unlike any other. At 100,000 items the nearest neighbour has a cosine of
    .89 on average, the 100th .49, a random item 0; whitened titles of completejourney (92,000): .99, .58, 0.
    """
    rng = np.random.default_rng([seed, 1])
    fine = max(2, n_items // 50)
    coarse = rng.standard_normal((max(2, fine // 40), dimensions), dtype=np.float32)
    centres = coarse[rng.integers(len(coarse), size=fine)]
    centres += rng.standard_normal((fine, dimensions), dtype=np.float32)
    made = np.empty((n_items, dimensions), dtype=np.float32)
    for start in range(0, n_items, BLOCK):
        part = made[start : start + BLOCK]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        part *= rng.uniform(0.05, 1.2, size=(len(part), 1)).astype(np.float32)
        part += centres[rng.integers(fine, size=len(part))]
        part[:] = unit_rows(part)
    return made


def interactions(n_users: int, n_items: int, n_events: int, seed: int = 0) -> Interactions:
    """Return a year's log: users differ in activity, items in popularity (Zipf, exponent .8), sequences in habit.

    Half of a user's events stay within 50 rows of the one before, so that co-visitation has something to find.
    """
    rng = np.random.default_rng([seed, 2])
    share = rng.gamma(1.0, size=n_users)
    counts = rng.multinomial(n_events, share / share.sum())
    offsets = offsets_of(counts)
    user = owners_of(offsets).astype(np.int32)
    popularity = 1 / np.arange(1, n_items + 1) ** 0.8
    ranked = np.searchsorted(np.cumsum(popularity) / popularity.sum(), rng.random(n_events)).clip(max=n_items - 1)
    item = rng.permutation(n_items)[ranked]
    near = np.flatnonzero(rng.random(n_events) < 0.5)
    near = near[(near > 0) & (user[near] == user[near - 1])]
    item[near] = (item[near - 1] + rng.integers(1, 50, len(near))) % n_items
    # In seconds: a million users' years of microseconds, one after the other, do not fit 64 bits.
    year = DAYS * DAY // SECOND
    before = user.astype(np.int64) * year
    time = BEGIN + (np.sort(rng.integers(year, size=n_events) + before) - before) * SECOND
    ones = np.ones(n_events, dtype=np.float32)
    return Interactions(user, item.astype(np.int32), time, ones, np.ones(n_events, dtype=bool), n_users)


def catalog(n_items: int, seed: int = 0) -> Catalog:
    """Return items with an id, a title of their row, one of 500 categories, one of many brands and a price."""
    rng = np.random.default_rng([seed, 3])
    category = rng.integers(500, size=n_items)
    frame = pl.DataFrame(
        {
            "item_id": pl.Series([f"i{row:07d}" for row in range(n_items)]),
            "title": pl.Series([f"item {row}" for row in range(n_items)]),
            "description": pl.Series([None] * n_items, dtype=pl.String),
            "category": [f"Department {code % 20} > Shelf {code}" for code in category],
            "brand": [f"brand {code}" for code in rng.zipf(1.3, n_items).clip(max=max(10, n_items // 100))],
            "price": rng.lognormal(2.5, 1, n_items).round(2),
        }
    )
    return Catalog(frame)


def publish(folder: Path, config: Config, n_users: int, n_items: int, n_events: int, asking: int = 0) -> Path:
    """Publish a bundle of a synthetic shop under `folder`, of its first `asking` users (0: all); return its folder.

    Scorer and calibrator are trained on a small shop: their weights do not change how fast they are.
    """
    small = interactions(2_500, TAUGHT, 50_000)
    exact = {name: {key: value for key, value in settings.items() if key not in ("index", "search")}
             for name, settings in config.retrievers.items()}  # fmt: skip
    taught, *_ = fit_calibrated(Plan.of(config.model_copy(update={"retrievers": exact})), small,
                               Embeddings(vectors(TAUGHT), catalog(TAUGHT)), end_of(small))  # fmt: skip
    known, embeddings = interactions(n_users, n_items, n_events), Embeddings(vectors(n_items), catalog(n_items))
    model = assemble_model(Plan.of(config), known, embeddings, end_of(known), taught.scorer)
    rows = np.arange(asking or n_users)
    ids = pl.Series("user_id", [f"u{row:07d}" for row in rows])
    return save(folder, config, replace(model, calibrator=taught.calibrator), embeddings, ids,
                known.histories(rows, query_moments(known, end_of(known))[rows]), {})  # fmt: skip


def end_of(known: Interactions) -> int:
    """Return the first moment after a log."""
    return int(known.time.max()) + 1
