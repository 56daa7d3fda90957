"""Measure the semantic indexes of a config against exact search: recall of the true 100 nearest, speed, size."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys.cli.console import Progress
from recsys.cli.job import job
from recsys.config import Config
from recsys.engine.embeddings import embed
from recsys.engine.jobs import ingest
from recsys.engine.training import build_retrievers
from recsys.retrieval.index import EXACT, Index
from recsys.retrieval.retrievers import Semantic
from recsys.types import FloatArray

K = 100
QUERIES = 1000


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """Nothing is saved: a bundle holds its index. This is how to choose `index` and `search` before training."""
    vectors = embed(config, ingest(config).catalog).items
    wanted = {
        name: retriever for name, retriever in build_retrievers(config).items() if isinstance(retriever, Semantic)
    }
    told = {EXACT: measure(vectors, EXACT, "")}
    for name, retriever in wanted.items():
        told[name] = measure(vectors, retriever.index, retriever.search) | {"floor": retriever.floor}
    return {"items": len(vectors), "dimension": vectors.shape[1], "indexes": told}


def measure(vectors: FloatArray, factory: str, search: str) -> dict[str, Any]:
    """Build one index; search it with a sample of the vectors."""
    began = time.monotonic()
    index = Index.build(vectors, factory, search)
    built = time.monotonic()
    queries = vectors[np.linspace(0, len(vectors) - 1, min(QUERIES, len(vectors))).astype(np.int64)]
    index.search(queries, K)
    searched = time.monotonic()
    return {
        "index": factory,
        "search": search,
        f"recall@{K}": round(index.recall(vectors, K), 4),
        "build_seconds": round(built - began, 3),
        "queries_per_second": round(len(queries) / (searched - built)),
        "bytes": int(index.to_bytes().nbytes),
    }


if __name__ == "__main__":
    job(stage, __doc__)
