"""Candidates for all users, reranked and written to Parquet, beside FAISS alone and `implicit`."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.speed import synthetic
from benchmarks.speed.measure import Row, alternately, growth_mb, median, peak_mb
from recsys import Recommender
from recsys.arrays import LongArray
from recsys.artifacts import bundle
from recsys.artifacts.persistence import load_histories
from recsys.config import Config, parse_config
from recsys.engine.model import Retrieval
from recsys.jobs.candidates import write_candidates
from recsys.parallel.threads import batches, cores, in_threads
from recsys.retrieval.index import Index
from recsys.types import Histories

TITLE = "Everyone"
ABOUT = """
`write_candidates`: 100 items for each user, from about 330 candidates that text vectors (200), co-visitation (100)
and recent popularity (50) propose, without what the user had; 21 features, three averaged MLPs, probabilities,
Parquet. Beside it: the limit, which is the batch search for the 200 nearest in the same index with all cores (FAISS,
and the exact products of what it found if it compares short codes), and `implicit` (`recommend` for 100 items without
those already liked, factors of the same size). Retrieval alone is the same retriever called through the engine: query
vectors computed from histories, a deeper search to leave out what the user had, ragged lists. Synthetic shops of 384
dimensions and 20 events a user, `index: auto`; users per second.
"""
SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000, "1m_everyone": 1_000_000}
CASES = tuple(SIZES)
USERS = {"10k": 20_000, "100k": 20_000, "1m": 8_192, "1m_everyone": 1_000_000}
RIVAL_SCORES = 1e9  # (user, item) pairs that `implicit` scores in a round
DEPTH, K = 200, 100
FOLDER = Path("artifacts/speed")  # where there is room: a bundle of a million items takes 4 GB


def run(case: str, data: Path) -> list[Row]:
    """Publish a shop in its own process, and measure every way to answer its users."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # so that the peak is without publishing
            apart.submit(publish, case, Path(folder) / "bundle").result()
        recommender = Recommender.load(Path(folder) / "bundle")
        if case == "1m_everyone":
            return whole_job(recommender, Path(folder) / "out")
        return compared(recommender, case, Path(folder))


def settings() -> Config:
    """Return a usual config."""
    return parse_config({
        "name": "made",
        "data": {"catalog": {}, "interactions": {}},
        "split": {"kind": "time", "horizon_days": 28, "folds": 2},
        "train_users": 2000,
        "retrievers": {
            "semantic": {"depth": DEPTH, "decay": 0.9, "newest": 30},
            "covisitation": {"depth": 100, "window": 1, "decay": 0.9, "newest": 60, "neighbours": 200},
            "recent_popularity": {"kind": "popularity", "depth": 50, "half_life_days": 28},
            "popularity": {"depth": 0},
        },
        "features": ["scores", "ranks", "found_by", "log_popularity", "category_share", "category_last", "parent_share",
                     "brand_share", "history_length", "own_count", "own_recency", "repeat_rate", "due"],
        "scorer": {"kind": "mlp"},
    })  # fmt: skip


def publish(case: str, folder: Path) -> None:
    """Publish the shop of a case."""
    n_items, asking = SIZES[case], USERS[case]
    n_users = max(asking, n_items // 4)
    synthetic.publish(folder, settings(), n_users, n_items, 20 * n_users, asking)


def whole_job(recommender: Recommender, out: Path) -> list[Row]:
    """Measure everyone once, and the peak memory of the process."""
    users = len(recommender.user_ids)
    seconds = median(alternately({"whole": lambda: write_candidates(recommender, out, K)}, rounds=1, warm=0)["whole"])
    size = f"{users:,} users x {len(recommender.catalog):,} items, one run"
    return [
        Row(f"{size}: whole path to Parquet", users / seconds, "users/s"),
        Row(f"{size}: peak memory of the process", peak_mb() / 1024, "GB", wanted="<= 8"),
    ]


def compared(recommender: Recommender, case: str, folder: Path) -> list[Row]:
    """Measure users per second in turn, and how much the memory of each grows."""
    retrieval = recommender._model.retrieval
    histories = load_histories(bundle.load(folder / "bundle"))
    users, n_items = len(histories), len(recommender.catalog)
    alone, queries = text_alone(retrieval), queries_of(retrieval, histories)
    index = searched(retrieval)
    few = min(users, round(RIVAL_SCORES / n_items))
    rival = implicit_of(retrieval, queries, histories)
    outs = itertools.count()
    works: dict[str, Callable[[], object]] = {
        "faiss": lambda: index.search(queries, DEPTH),
        "retrieval": lambda: last(in_threads(lambda some: alone.context(histories.select(some)), rows(users))),
        "whole": lambda: write_candidates(recommender, folder / f"out-{next(outs)}", K),
        "implicit": lambda: rival(few),
    }
    seconds = alternately(works, rounds=3)
    rate = {name: (few if name == "implicit" else users) / median(times) for name, times in seconds.items()}
    memory = {name: growth_mb(work) for name, work in works.items()}
    half = growth_mb(lambda: last(in_threads(lambda some: recommender.rank_rows(some, K), rows(users // 2))))
    full = growth_mb(lambda: last(in_threads(lambda some: recommender.rank_rows(some, K), rows(users))))
    beside = {"faiss": "FAISS batch search", "implicit": "implicit"}
    large = n_items >= SIZES["1m"]

    def row(ours: str, theirs: str, what: str, wanted: str) -> Row:
        return Row(f"{what}, {case} items", rate[ours], "users/s", beside[theirs], rate[theirs], wanted, n_items,
                   memory[ours], memory[theirs])  # fmt: skip

    return [
        row("retrieval", "faiss", "retrieval alone", ">= 0.85"),
        row("whole", "faiss", "whole path to Parquet", ">= 0.35" if large else ""),
        row("whole", "implicit", "whole path to Parquet", ">= 1" if large else ""),
        Row(f"memory of ranking {users:,} users, {case} items", full, "MB", f"{users // 2:,} users", half),
    ]


def rows(users: int) -> Any:
    """Return batches of the first so many users."""
    return batches(np.arange(users))


def last(results: Any) -> None:
    """Consume results one by one and keep none."""
    for _ in results:
        pass


def searched(retrieval: Retrieval) -> Index:
    """Return the index of the semantic retriever."""
    fitted = retrieval.fitted["semantic"]
    assert fitted.index is not None
    return fitted.index


def text_alone(retrieval: Retrieval) -> Retrieval:
    """Return the same retrieval with text vectors as the only retriever."""
    return replace(retrieval, fitted={"semantic": retrieval.fitted["semantic"]}, depths={"semantic": DEPTH})


def queries_of(retrieval: Retrieval, histories: Histories) -> Any:
    """Return the query vectors of all users."""
    ask = text_alone(retrieval).ask

    def queries(some: LongArray) -> Any:
        return ask(histories.select(some))["semantic"].queries  # type: ignore[attr-defined]

    return np.concatenate(list(in_threads(queries, rows(len(histories)))))


def implicit_of(retrieval: Retrieval, queries: Any, histories: Histories) -> Callable[[int], object]:
    """Return `recommend` of `implicit` for the first so many users, with query and item vectors as factors."""
    from implicit.cpu.als import AlternatingLeastSquares

    with threadpool_limits(1, "blas"):  # the package has threads of its own
        model = AlternatingLeastSquares(factors=queries.shape[1], num_threads=cores())
    model.user_factors, model.item_factors = queries, np.ascontiguousarray(retrieval.vectors)
    liked = np.ones(len(histories.item), dtype=np.float32)
    had = sparse.csr_matrix((liked, histories.item, histories.offsets), shape=(len(histories), len(retrieval.vectors)))

    def ask(users: int) -> None:
        with threadpool_limits(1, "blas"):
            for some in rows(users):
                model.recommend(some, had[some], N=K, filter_already_liked_items=True)

    return ask
