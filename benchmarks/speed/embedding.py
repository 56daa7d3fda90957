"""Texts a second beside `SentenceTransformer.encode`, and what a faster mode costs in cosine and ranking quality."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.speed.measure import Row, alternately, median
from benchmarks.speed.topic import STORE
from recsys.arrays import FloatArray, unit_rows
from recsys.config import Config, EmbeddingConfig, load_config
from recsys.embedding.locate import find_model
from recsys.embedding.registry import load_encoder
from recsys.embedding.texts import item_texts
from recsys.engine.embeddings import embed
from recsys.evaluation.protocol import Evaluator, Targets
from recsys.evaluation.significance import paired_interval
from recsys.jobs.ingest import ingest
from recsys.parallel.threads import BATCH, batches
from recsys.retrieval.base import top_unblocked
from recsys.retrieval.candidates import seen_keys
from recsys.retrieval.semantic import Semantic
from recsys.tables.split import Fold, holdout
from recsys.types import Catalog, Ranking, State, Tables

TITLE = "Encoding texts"
ABOUT = """
Products of Beauty (title and category path, 32 tokens on average) by all-MiniLM-L6-v2, beside
`SentenceTransformer.encode` with its defaults (float32, batches of 32), with the same pooling and length. What a mode
costs is measured on all 12,101 products: their cosine to float32, and the ndcg of ranking by text alone, with each
user's last event but one as the target. Last, the stage `embed` with an empty store, then with one product in a hundred
renamed; torch is imported before either.
"""
CASES = ("speed", "cost", "again")
RIVAL = "SentenceTransformer.encode"
WANTED = {"float32": "", "bfloat16": ">= 2.5", "int8": ">= 3.5"}
TEXTS = 640
K = 10


def run(case: str, data: Path) -> list[Row]:
    """Measure one case."""
    os.environ["RECSYS_DATA"] = str(data / "beauty")
    config = load_config("configs/beauty.yaml").model_copy(update={"output": str(STORE / "embedding")})
    tables = ingest(config)
    if case == "speed":
        return speed(item_texts(tables.catalog, config.embedding.text))
    return cost(config, tables) if case == "cost" else again(config, tables.catalog)


def speed(catalogue: list[str]) -> list[Row]:
    """Time all modes and the rival on the same texts, in turn."""
    from sentence_transformers import SentenceTransformer

    texts = [catalogue[row] for row in np.random.default_rng(0).permutation(len(catalogue))[:TEXTS]]
    model = SentenceTransformer(str(find_model(EmbeddingConfig().model)), device="cpu")
    same = EmbeddingConfig(pooling="mean", max_tokens=model.max_seq_length, device="cpu")
    encoders = {mode: load_encoder(same.model_copy(update={"precision": mode})) for mode in WANTED}
    works = {mode: lambda encoder=encoder: encoder.encode(texts) for mode, encoder in encoders.items()}
    seconds = alternately(works | {RIVAL: lambda: model.encode(texts, batch_size=32)}, rounds=3)
    rate = {name: len(texts) / median(taken) for name, taken in seconds.items()}
    rows = [Row(mode, rate[mode], "texts/s", RIVAL, rate[RIVAL], wanted) for mode, wanted in WANTED.items()]
    cosine = np.einsum("nd,nd->n", unit_rows(encoders["float32"].encode(texts)), unit_rows(model.encode(texts)))
    return [*rows, Row(f"float32, cosine to {RIVAL}, least", float(cosine.min()), "", wanted=">= 0.9995")]


def cost(config: Config, tables: Tables) -> list[Row]:
    """Measure the cosine to float32, and the ndcg of ranking by text alone at the validation cut."""
    fold = holdout(holdout(tables.interactions, config.split).known, config.split)
    raw, gained = {}, {}
    for mode in WANTED:
        embeddings = embed(_with(config, precision=mode).embedding, tables.catalog, config.vector_folder)
        space = embeddings.space
        assert space is not None
        assert space.store is not None
        raw[mode] = unit_rows(space.store.encode(item_texts(tables.catalog, config.embedding.text), space.encoder))
        gained[mode] = _text_alone(tables.catalog, fold, embeddings.items)
    rows = []
    for mode in ("bfloat16", "int8"):
        cosine = np.einsum("nd,nd->n", raw[mode], raw["float32"])
        change = paired_interval(gained[mode], gained["float32"], config.seed)
        rows += [
            Row(f"{mode}, cosine to float32, mean", float(cosine.mean()), "",
                wanted=">= 0.999" if mode == "bfloat16" else "", note=f"1% lie below {np.quantile(cosine, 0.01):.4f}"),
            Row(f"{mode}, ndcg@{K} by text alone", float(gained[mode].mean()), "", "float32",
                float(gained["float32"].mean()), note=f"{len(gained[mode]):,} users"),
            Row(f"{mode}, upper end of what ndcg@{K} changes by", change["high"], "", wanted=">= 0",
                note=f"{change['mean']:+.5f}, 95% from {change['low']:+.5f} to {change['high']:+.5f}"),
        ]  # fmt: skip
    return rows


def again(config: Config, catalog: Catalog) -> list[Row]:
    """Time a first run of the stage and one after a hundredth of the rows changed; torch is imported beforehand."""
    load_encoder(config.embedding).encode(["warm"])
    output = STORE / "embedding" / "again"
    shutil.rmtree(output, ignore_errors=True)
    config = config.model_copy(update={"output": str(output)})
    changed = pl.int_range(pl.len()) % 100 == 0
    renamed = catalog.frame.with_columns(
        pl.when(changed).then(pl.col("title").fill_null("") + " (new)").otherwise(pl.col("title")).alias("title")
    )
    seconds = []
    for rows in (catalog, Catalog(renamed)):
        begun = time.perf_counter()
        embed(config.embedding, rows, config.vector_folder)
        seconds.append(time.perf_counter() - begun)
    shutil.rmtree(output)
    return [Row("embed, 1% of the rows changed", seconds[1], "s", "the first run", seconds[0], "<= 0.03")]


def _with(config: Config, **settings: Any) -> Config:
    return config.model_copy(update={"embedding": config.embedding.model_copy(update=settings)})


def _text_alone(catalog: Catalog, fold: Fold, vectors: FloatArray) -> NDArray[np.float64]:
    """Return the ndcg `(U,)` of the unseen items nearest to each user's history."""
    targets = Targets.of(fold, len(catalog), drop_seen=True)
    fitted = Semantic(depth=K).fit(State(catalog, fold.known, vectors))
    board = Evaluator(targets, [K])
    for number, users in enumerate(batches(targets.users)):
        histories = fold.histories(users)
        hits = top_unblocked(fitted.ask(histories), K, seen_keys(histories, len(catalog)), len(catalog))
        board.add(
            "text",
            number * BATCH,
            Ranking(hits.offsets, hits.item, hits.score, np.zeros((len(hits.item), 1), np.int32)),
        )
    return board.per_user("text", "ndcg", K)
