"""The index that `auto` chooses, beside exact search of the same vectors."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.speed import synthetic
from benchmarks.speed.measure import MEGABYTE, Row, alternately, growth_mb, median
from recsys.arrays import FloatArray
from recsys.retrieval.index import Index
from recsys.retrieval.index_spec import IndexSpec, synthetic_queries

TITLE = "The index"
ABOUT = """What `index: auto` chooses for vectors of 384 numbers, beside exact search (`faiss.knn`) of the same vectors.
Queries are decayed sums of 2 to 10 items. One query finds 400 items on one thread, 512 queries find 200 each on all
threads. `demo` has the whitened titles of the demo's bundle, if there is one."""

SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
DEMO = Path("artifacts/demo")
CASES = (*SIZES, *(["demo"] if DEMO.is_dir() else []))


def run(case: str, data: Path) -> list[Row]:
    """Measure one catalogue."""
    vectors = _demo() if case == "demo" else synthetic.vectors(SIZES[case])
    queries = synthetic_queries(vectors, 512)
    built: list[Index] = []

    def build() -> None:
        built.append(IndexSpec(vectors, synthetic_queries(vectors)).build())

    begun = time.perf_counter()
    grown = growth_mb(build)
    seconds = time.perf_counter() - begun
    chosen, exact = built[0], Index(vectors)
    size = 0 if case == "demo" else len(vectors)
    kind = "real" if case == "demo" else "made"
    what = f"{len(vectors):,} {kind} items, {chosen.factory} {chosen.search_params}"

    def ask(index: Index, q: FloatArray, k: int) -> Callable[[], object]:
        return lambda: index.search(q, k)

    with threadpool_limits(1):
        one = alternately({"ours": ask(chosen, queries[:1], 400), "exact": ask(exact, queries[:1], 400)}, 30)
    many = alternately({"ours": ask(chosen, queries, 200), "exact": ask(exact, queries, 200)}, 3)
    ours, theirs = median(one["ours"]), median(one["exact"])
    return [
        Row(f"One query: {what}", ours * 1e3, "ms", "exact", theirs * 1e3, "<= 1.1", size),
        Row(f"512 queries: {what}", len(queries) / median(many["ours"]), "queries/s", "exact",
            len(queries) / median(many["exact"]), ">= 0.9", size),
        Row(f"recall@100: {what}", chosen.measured_recall, "share of exact", wanted=">= 0.98"),
        Row(f"Built and measured: {what}", seconds, "s", wanted="<= 180", ours_mb=grown),
        Row(f"In memory beside the vectors: {what}", 0 if chosen.exact else chosen.to_bytes().nbytes / MEGABYTE, "MB",
            "a copy of the vectors", vectors.nbytes / MEGABYTE, "<= 0.2"),
    ]  # fmt: skip


def _demo() -> FloatArray:
    version = (DEMO / "CURRENT").read_text(encoding="utf-8").strip()
    vectors: FloatArray = np.load(DEMO / "versions" / version / "vectors.npy", mmap_mode="r")
    return vectors
