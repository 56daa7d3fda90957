"""Measure the semantic indexes of a config against exact search: recall of the true 100 nearest, speed, size."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from recsys.cli.console import Progress
from recsys.cli.job import job
from recsys.config import Config
from recsys.engine.embeddings import embed
from recsys.engine.plan import Plan
from recsys.jobs.ingest import ingest
from recsys.retrieval.index import EXACT, Index, K
from recsys.retrieval.semantic import Semantic
from recsys.types import State


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """Nothing is saved: a bundle holds its index. Use this to choose `index` and `search` before training."""
    plan = Plan.of(config)
    tables = ingest(config)
    vectors = embed(config.embedding, tables.catalog, config.vector_folder).items
    state = State(tables.catalog, tables.interactions, vectors, plan.end(tables.interactions))
    semantic = {name: retriever for name, retriever in plan.retrievers.items() if isinstance(retriever, Semantic)}
    indexes = {EXACT: measure(Semantic(index=EXACT), state)}
    indexes |= {name: measure(retriever, state) | {"floor": retriever.floor} for name, retriever in semantic.items()}
    return {"items": len(vectors), "dimension": vectors.shape[1], "indexes": indexes}


def measure(retriever: Semantic, state: State) -> dict[str, Any]:
    """Build one index as training would, and search it with the queries that it is measured with."""
    queries = retriever.index_tuning_queries(state)
    began = time.monotonic()
    index = Index.build_measured(state.vectors, queries, retriever.index, retriever.search, retriever.floor)
    built = time.monotonic()
    index.search(queries, K)
    searched = time.monotonic()
    return {
        "index": index.factory,
        "search": index.search_params,
        f"recall@{K}": round(index.found, 4),
        "build_seconds": round(built - began, 3),
        "queries_per_second": round(len(queries) / (searched - built)),
        "bytes": 0 if index.exact else int(index.to_bytes().nbytes),
    }


if __name__ == "__main__":
    job(stage, __doc__)
