"""A model as a bundle's arrays and tables, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from recsys.config import Config
from recsys.engine import bundle, soundness
from recsys.engine.bundle import Bundle
from recsys.engine.embeddings import Embeddings
from recsys.engine.model import Model, Retrieval
from recsys.engine.training import build_retrievers
from recsys.ranking.features import Featurizer
from recsys.ranking.scorers import FittedScorer
from recsys.types import FloatArray, Histories


def restore(config: Config, loaded: Bundle) -> Model:
    """Rebuild the model that `save` published: arrays stay memory-mapped. Raises as `soundness.check` does."""
    soundness.check(config, loaded)
    vectors: FloatArray = loaded.arrays["vectors"]
    retrievers = build_retrievers(config)
    fitted = {n: r.restore(loaded.group(f"retrievers/{n}"), vectors) for n, r in retrievers.items()}
    retrieval = Retrieval(
        fitted=fitted,
        depths={name: retriever.depth for name, retriever in retrievers.items()},
        vectors=vectors,
        popular=loaded.arrays["popular"],
        drop_seen=config.rules.seen == "drop",
        history=config.history,
    )
    featurizer = Featurizer({name: loaded.group(f"features/{name}") for name in config.features})
    return Model(retrieval, featurizer, FittedScorer.from_arrays(loaded.group("scorer")))


def save(root: Path, config: Config, model: Model, embeddings: Embeddings, user_ids: pl.Series, histories: Histories,
         about: Mapping[str, Any]) -> Path:  # fmt: skip
    """Publish a fitted model as a new version under `root`; return its folder. `about` joins the manifest."""
    arrays: dict[str, Any] = {"vectors": model.retrieval.vectors, "popular": model.retrieval.popular}
    for name in ("offsets", "item", "time", "weight", "as_of", "text_vectors"):
        if (part := getattr(histories, name)) is not None:
            arrays[f"histories/{name}"] = part
    for name, fitted in model.retrieval.fitted.items():
        arrays |= {f"retrievers/{name}/{key}": array for key, array in fitted.arrays().items()}
    for name, prepared in model.featurizer.prepared.items():
        arrays |= {f"features/{name}/{key}": array for key, array in prepared.items()}
    arrays |= {f"scorer/{key}": array for key, array in model.scorer.arrays().items()}
    encoder = ""
    if embeddings.space is not None:
        encoder = embeddings.space.encoder.fingerprint
        if embeddings.space.whitening is not None:
            arrays |= {f"whitening/{key}": array for key, array in embeddings.space.whitening.arrays().items()}
    tables = {"catalog": embeddings.catalog.frame, "users": pl.DataFrame({"user_id": user_ids})}
    return bundle.publish(root, arrays, tables, {"name": config.name, "config": config.model_dump(mode="json"),
                                                 "encoder": encoder, **about})  # fmt: skip
