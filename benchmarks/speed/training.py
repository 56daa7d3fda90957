"""Training at scale: from raw tables to a published bundle, without the encoding of texts."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from benchmarks.speed import synthetic
from benchmarks.speed.measure import Row, alternately, growth_mb, median
from recsys.config import Config, parse_config
from recsys.engine.calibration import fit_calibrated
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.jobs.ingest import ingest
from recsys.jobs.train import publish
from recsys.retrieval.covisitation import covisitation_matrix
from recsys.types import Interactions, State

TITLE = "Training"
ABOUT = """
Synthetic logs of 1, 4 and 20 million events, 20 a user and 100 an item: from Parquet to a bundle, all that `recsys
train` does except the encoding, whose vectors are synthetic too. The config is that of a large shop: retrievers,
features and network of `configs/demo.yaml`, with co-visitation over five baskets and a second one of the very next, two
cuts to learn from and a third for the probabilities. The scorer learns from the lists of 10,000 users a cut
(`train_users`, by default 50,000): its time grows with them and not with the log. Beside co-visitation: the same
counts, neither scaled nor cut to the strongest, by a join of the log with itself in polars. Each retriever is also
fitted once, alone.
"""
CASES = (
    "1m", "1m_covisitation", "1m_retrievers", "4m", "4m_covisitation", "4m_retrievers", "20m", "20m_covisitation",
    "20m_retrievers",
)  # fmt: skip
EVENTS = {"1m": 1_000_000, "4m": 4_000_000, "20m": 20_000_000}
PER_USER, PER_ITEM = 20, 100  # events
TRAIN_USERS = 10_000
WINDOW = 5
RETRIEVERS: dict[str, dict[str, Any]] = {
    "repeat": {"depth": 150, "decay": 0.97},
    "semantic": {"depth": 50, "decay": 0.9, "newest": 30},
    "covisitation": {"depth": 100, "window": WINDOW, "decay": 0.9, "newest": 60, "neighbours": 200},
    "covisitation_next": {"kind": "covisitation", "depth": 0, "window": 1, "decay": 0, "neighbours": 200},
    "recent_popularity": {"kind": "popularity", "depth": 100, "half_life_days": 28},
    "popularity": {"depth": 0},
}
FURTHER: dict[str, dict[str, Any]] = {
    "tower": {}, "item_knn": {}, "ease": {}, "slit": {}, "text_covisitation": {}, "lexical": {},
}  # fmt: skip
FEATURES = ["scores", "ranks", "found_by", "log_popularity", "category_share", "category_last", "parent_share",
            "brand_share", "history_length", "own_count", "own_recency", "repeat_rate", "due"]  # fmt: skip


def config_of(folder: Path, retrievers: dict[str, dict[str, Any]] = RETRIEVERS) -> Config:
    """The config of a large shop whose tables and results lie in a folder."""
    return parse_config(
        {
            "name": "made",
            "output": str(folder),
            "data": {
                "catalog": {"path": str(folder / "items.parquet")},
                "interactions": {"path": str(folder / "events.parquet")},
            },
            "split": {"kind": "time", "horizon_days": 28, "folds": 2},
            "retrievers": retrievers,
            "train_users": TRAIN_USERS,
            "features": FEATURES,
            "scorer": {"kind": "mlp"},
            "rules": {"seen": "keep"},
        }
    )


def write(folder: Path, n_events: int) -> None:
    """Write both tables as a shop has them: ids as text, the log in order of time."""
    n_items = n_events // PER_ITEM
    catalog, log = synthetic.catalog(n_items), synthetic.interactions(n_events // PER_USER, n_items, n_events)
    catalog.frame.write_parquet(folder / "items.parquet")
    order = np.argsort(log.time)
    frame = pl.DataFrame({"user": log.user[order], "item": log.item[order], "time": log.time[order]})
    frame.select(
        user_id=pl.format("u{}", pl.col("user").cast(pl.String).str.zfill(7)),
        item_id=pl.format("i{}", pl.col("item").cast(pl.String).str.zfill(7)),
        timestamp=pl.col("time").cast(pl.Datetime("us")),
    ).write_parquet(folder / "events.parquet")


class Laps:
    """Progress of a training: seconds by stage.

    The time before a cut's first lists and that between the two scorers are spent on retrievers and features; each
    report comes after its work, so the first batch or pass of a stage counts to what went before it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage, self._last = "", time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Count the time since the last report."""
        now = time.perf_counter()
        kind, before = (re.split(r"\W", name)[0] for name in (stage, self._stage))
        fitted = stage != self._stage and (kind == "candidates" or (kind == before and stage.startswith("scorer 1/")))
        self.seconds["retrievers" if fitted else kind] += now - self._last
        self._stage, self._last = stage, now


def whole(folder: Path, n_items: int) -> dict[str, float]:
    """Train from tables to bundle; return the seconds of each part."""
    config, seconds = config_of(folder), {}
    plan = Plan.of(config)
    begun = time.perf_counter()
    tables = ingest(config)
    seconds["ingest"] = time.perf_counter() - begun
    embeddings = Embeddings(synthetic.vectors(n_items), tables.catalog)
    laps = Laps()
    model, about, _ = fit_calibrated(plan, tables.interactions, embeddings, plan.end(tables.interactions), laps)
    laps("probabilities", 1, 1)
    seconds |= laps.seconds
    begun = time.perf_counter()
    publish(config, tables, embeddings, model, {"probability": about})
    return seconds | {"publish": time.perf_counter() - begun}


def joined_counts(log: Interactions) -> pl.DataFrame:
    """Return the pairs within `WINDOW` events of one user and their weights, by a join of the log with itself."""
    frame = pl.DataFrame({"user": log.user, "item": log.item}).with_columns(place=pl.int_range(pl.len()).over("user"))
    pairs = frame.lazy().join(frame.lazy(), on="user", suffix="_then")
    gap = pl.col("place_then") - pl.col("place")
    near = pairs.filter((gap.abs() <= WINDOW) & (pl.col("item") != pl.col("item_then")))
    worth = pl.when(gap > 0).then(1 / gap).otherwise(0.5 / -gap)
    return near.group_by("item", "item_then").agg(worth.sum()).collect(engine="streaming")


def run(case: str, data: Path) -> list[Row]:
    """Measure one size: the whole training, co-visitation beside a join, or each retriever."""
    size, _, only = case.partition("_")
    return {"": _whole, "covisitation": _beside_a_join, "retrievers": _retrievers}[only](size)


def _whole(size: str) -> list[Row]:
    n_events = EVENTS[size]
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, n_events)
        parts: dict[str, float] = {}
        grown = growth_mb(lambda: parts.update(whole(folder, n_events // PER_ITEM)))
    large = n_events == EVENTS["20m"]
    parts_named = {
        "ingest": "tables read, checked, numbered",
        "retrievers": "retrievers and features, at three cuts and at the end",
        "candidates": "lists to learn from, at three cuts",
        "scorer": "two scorers",
        "probabilities": "calibration",
        "publish": "bundle written",
    }
    return [
        Row(f"from tables to bundle, {size} events", sum(parts.values()), "s", wanted="<= 900" if large else "",
            size=n_events, ours_mb=grown),
        Row(f"its peak memory, {size} events", grown, "MB", wanted="<= 10000" if large else ""),
        *(Row(f"{name}, {size} events", parts[part], "s") for part, name in parts_named.items()),
    ]  # fmt: skip


def _beside_a_join(size: str) -> list[Row]:
    """Measure co-visitation beside a join, or alone if the pairs of the join outgrow the memory."""
    n_events = EVENTS[size]
    log = synthetic.interactions(n_events // PER_USER, n_events // PER_ITEM, n_events)
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: covisitation_matrix(log, n_events // PER_ITEM, WINDOW, 0.5, 200),
        "join": lambda: joined_counts(log),
    }
    if n_events > EVENTS["4m"]:
        del works["join"]
    seconds = {name: median(values) for name, values in alternately(works, rounds=3, warm=0).items()}
    grown = {name: growth_mb(work) for name, work in works.items()}
    wanted = "<= 1" if "join" in works else ""
    return [Row(f"co-visitation, window {WINDOW}, {size} events", seconds["ours"], "s", "polars, join and count",
                seconds.get("join"), wanted, n_events, grown["ours"], grown.get("join"))]  # fmt: skip


def _retrievers(size: str) -> list[Row]:
    n_events = EVENTS[size]
    n_items = n_events // PER_ITEM
    log = synthetic.interactions(n_events // PER_USER, n_items, n_events)
    state = State(synthetic.catalog(n_items), log, synthetic.vectors(n_items), int(log.time.max()) + 1)
    rows = []
    for name, retriever in Plan.of(config_of(Path(), RETRIEVERS | FURTHER)).retrievers.items():
        begun = time.perf_counter()
        grown = growth_mb(partial(retriever.fit, state))
        seconds = time.perf_counter() - begun
        rows.append(Row(f"{name} fitted once, {size} events", seconds, "s", size=n_events, ours_mb=grown))
    return rows
