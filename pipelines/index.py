"""Measure the semantic indexes of a config against exact search: recall of the true 100 nearest, speed, size."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from recsys.cli.job import job
from recsys.config import Config
from recsys.engine.embeddings import embed
from recsys.engine.training import build_retrievers
from recsys.jobs.ingest import end_of, ingest
from recsys.progress import Progress
from recsys.retrieval.index import EXACT, Index, K
from recsys.retrieval.semantic import Semantic
from recsys.types import State


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """Nothing is saved: a bundle holds its index. This is how to choose `index` and `search` before training."""
    tables = ingest(config)
    vectors = embed(config, tables.catalog).items
    state = State(tables.catalog, tables.interactions, vectors, end_of(tables, config))
    retrievers = build_retrievers(config).items()
    wanted = {name: retriever for name, retriever in retrievers if isinstance(retriever, Semantic)}
    told = {EXACT: measure(Semantic(index=EXACT), state)}
    told |= {name: measure(retriever, state) | {"floor": retriever.floor} for name, retriever in wanted.items()}
    return {"items": len(vectors), "dimension": vectors.shape[1], "indexes": told}


def measure(retriever: Semantic, state: State) -> dict[str, Any]:
    """Build one index as training would; search it with the queries that it is measured with."""
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
