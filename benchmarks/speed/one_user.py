"""The time of one warm `recommend` call, beside the search of its index."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import synthetic
from benchmarks.speed.measure import Row
from recsys import Recommender
from recsys.config import Config, parse_config
from recsys.types import Catalog, Id

TITLE = "One user, warm"
ABOUT = """
`Recommender.recommend` for ten items: retrieval (text vectors, co-visitation, what the user had, recent popularity),
the features of `configs/demo.yaml`, three averaged MLPs, calibrated probabilities and rules, over synthetic catalogues
and the bundle of `recsys demo`. Each request has another user. Next to it, the searches in the index that the request
makes (with a filter an approximate index is searched twice: for the list, and for what the user would get without it);
*beside its searches* is the rest of the request. One thread calls; BLAS has its default threads.
"""
SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
CASES = (*SIZES, "demo")
DEMO = Path("artifacts/demo")
KINDS = ("plain", "where, half of the items", "where, 1 of 100 items", "10 items excluded", "300 candidates given",
         "3 items pinned", "3 events of a session")  # fmt: skip
REQUESTS, WARM = 500, 20
K = 10


def run(case: str, data: Path) -> list[Row]:
    """Measure one case."""
    if case == "demo":
        return measured(Recommender.load(DEMO), case)
    with tempfile.TemporaryDirectory() as folder:
        n_items = SIZES[case]  # twenty events a user, for each fourth item one
        synthetic.publish(Path(folder), settings(), n_items // 4, n_items, 5 * n_items)
        return measured(Recommender.load(folder), case)


def settings() -> Config:
    """Return the retrievers, features and scorer of `configs/demo.yaml`, a little less deep."""
    return parse_config({
        "name": "made",
        "data": {"catalog": {}, "interactions": {}},
        "split": {"kind": "time", "horizon_days": 28, "folds": 2},
        "train_users": 2000,
        "retrievers": {
            "repeat": {"depth": 50, "decay": 0.97},
            "semantic": {"depth": 100, "decay": 0.9, "newest": 30},
            "covisitation": {"depth": 100, "window": 1, "decay": 0.9, "newest": 60, "neighbours": 200},
            "recent_popularity": {"kind": "popularity", "depth": 100, "half_life_days": 28},
            "popularity": {"depth": 0},
        },
        "features": ["scores", "ranks", "found_by", "log_popularity", "category_share", "category_last", "parent_share",
                     "brand_share", "history_length", "own_count", "own_recency", "repeat_rate", "due"],
        "scorer": {"kind": "mlp"},
        "rules": {"seen": "keep"},
    })  # fmt: skip


def requests_of(catalog: Catalog) -> dict[str, Callable[[np.random.Generator], Mapping[str, Any]]]:
    """Return a function a kind of request that draws the arguments of one."""
    price, ids = catalog.frame["price"].drop_nulls().sort(), catalog.ids

    def some(rng: np.random.Generator, number: int) -> list[Id]:
        return ids.gather(rng.integers(len(ids), size=number)).to_list()

    def up_to(share: float) -> str:
        return f"price <= {price[round(share * len(ids))]:.6f}"

    half, few = up_to(0.5), up_to(0.01)
    kinds: tuple[Callable[[np.random.Generator], Mapping[str, Any]], ...] = (
        lambda rng: {},
        lambda rng: {"where": half},
        lambda rng: {"where": few},
        lambda rng: {"exclude": some(rng, 10)},
        lambda rng: {"candidates": some(rng, 300)},
        lambda rng: {"pinned": some(rng, 3)},
        lambda rng: {"history": some(rng, 3)},
    )
    return dict(zip(KINDS, kinds, strict=True))


def measured(recommender: Recommender, case: str) -> list[Row]:
    """Time requests of every kind, and the searches that each of them makes."""
    rng = np.random.default_rng(0)
    searching = searches(recommender)
    rows = []
    for kind, request in requests_of(recommender.catalog).items():
        users = rng.permutation(len(recommender.user_ids))[: WARM + REQUESTS]
        requests = [(recommender.user_ids[int(row)], request(rng)) for row in users]
        whole, alone = np.empty((2, len(users)))
        for number, (user, arguments) in enumerate(requests):
            searching.clear()
            begun = time.perf_counter()
            recommender.recommend(user, K, **arguments)
            whole[number], alone[number] = time.perf_counter() - begun, sum(searching)
        rows += rows_of(kind, case, len(recommender.catalog), 1000 * whole[WARM:], 1000 * alone[WARM:])
    return rows


def searches(recommender: Recommender) -> list[float]:
    """Return a list to which the semantic retriever's index appends the seconds of each search."""
    fitted = recommender._model.retrieval.fitted["semantic"]
    assert fitted.index is not None
    search, seconds = fitted.index.search, list[float]()

    def timed(*arguments: Any) -> Any:
        begun = time.perf_counter()
        found = search(*arguments)
        seconds.append(time.perf_counter() - begun)
        return found

    fitted.index.search = timed  # type: ignore[assignment, method-assign]
    return seconds


def rows_of(kind: str, case: str, n_items: int, whole: NDArray[np.float64], alone: NDArray[np.float64]) -> list[Row]:
    """Return the rows of one kind of request in milliseconds, each with the goal for its catalogue."""
    beside, rows = whole - alone, []
    for name, share, most in (("p50", 50, 2), ("p99", 99, 6)):
        mine, theirs = float(np.percentile(whole, share)), float(np.percentile(alone, share))
        wanted = f"<= {most}" if n_items <= SIZES["100k"] else ""
        rows.append(Row(f"{kind}, {name} beside its searches, {case}", float(np.percentile(beside, share)), "ms",
                        wanted=wanted, size=n_items if name == "p50" and kind == "plain" else 0))  # fmt: skip
        rows.append(Row(f"{kind}, {name} whole, {case}", mine, "ms", "its searches", theirs,
                        wanted="<= 1.5" if n_items > SIZES["100k"] and name == "p50" else ""))  # fmt: skip
    return rows
