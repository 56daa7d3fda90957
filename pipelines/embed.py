"""Encode the catalogue of a config into the vector store; only texts that the store lacks are encoded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from recsys.cli.job import job
from recsys.config import Config
from recsys.engine.embeddings import embed
from recsys.jobs.ingest import ingest
from recsys.progress import Progress


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """The vectors stay under `vectors/` in the output folder, where every later stage finds them."""
    catalog = ingest(config).catalog
    began = time.monotonic()
    embeddings = embed(config.embedding, catalog, config.vector_folder)
    summary: dict[str, Any] = {"items": len(catalog), "dimension": embeddings.items.shape[1],
                               "seconds": round(time.monotonic() - began, 2)}  # fmt: skip
    if embeddings.space is not None and embeddings.space.store is not None:
        last = embeddings.space.store.last
        summary |= {"encoded": last.encoded, "found": last.found, "encoder": embeddings.space.encoder.fingerprint}
    return summary


if __name__ == "__main__":
    job(stage, __doc__)
