"""Measure the indexes of a config over text vectors against exact search: recall, speed, size."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from recsys.cli.job import job
from recsys.config import Config
from recsys.engine.embeddings import embed
from recsys.engine.plan import Plan
from recsys.jobs.ingest import ingest
from recsys.progress import Progress
from recsys.retrieval.index import EXACT, RECALL_K
from recsys.retrieval.index_spec import IndexSpec
from recsys.retrieval.semantic import Semantic
from recsys.types import State


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """Nothing is saved: a bundle holds its index. Use this to choose `index` and `search` before training."""
    plan = Plan.of(config)
    tables = ingest(config)
    vectors = embed(config.embedding, tables.catalog, config.vector_folder).items
    state = State(tables.catalog, tables.interactions, vectors, plan.end(tables.interactions))
    specs = {name: retriever.index_spec(state) for name, retriever in plan.retrievers.items()}
    measured = {EXACT: measure(Semantic(index=EXACT).index_spec(state))}
    measured |= {name: measure(spec) | {"floor": spec.floor} for name, spec in specs.items() if spec is not None}
    return {"items": len(vectors), "dimension": vectors.shape[1], "indexes": measured}


def measure(spec: IndexSpec) -> dict[str, Any]:
    """Build one index as training would, and search it with the queries that it is measured with."""
    queries = spec.queries
    began = time.monotonic()
    index = spec.build()
    built = time.monotonic()
    index.search(queries, RECALL_K)
    searched = time.monotonic()
    return {
        "index": index.factory,
        "search": index.search_params,
        f"recall@{RECALL_K}": round(index.measured_recall, 4),
        "build_seconds": round(built - began, 3),
        "queries_per_second": round(len(queries) / (searched - built)),
        "bytes": 0 if index.exact else int(index.to_bytes().nbytes),
    }


if __name__ == "__main__":
    job(stage, __doc__)
