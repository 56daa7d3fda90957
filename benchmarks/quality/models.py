"""Every model of the benchmark by its name in tables, in `--models` and in the files of results."""

from __future__ import annotations

from benchmarks.quality import classical, engine_models, linear, sasrec
from benchmarks.quality.protocols import Rival
from recsys.config import Config

# Every other model is compared with this one.
ENGINE = "mlp"
# Models that differ only in the scorer share a process.
TOGETHER = ("mlp", "lightgbm", "logistic")

RIVALS: dict[str, type[Rival]] = {
    "popularity": classical.Popularity,
    "recent_popularity": classical.RecentPopularity,
    "repeat_last": classical.RepeatLast,
    "item_knn": classical.ItemKNN,
    "covisitation": classical.Covisitation,
    "bm25": classical.BM25,
    "text": classical.Text,
    "ials": classical.IALS,
    "ease": linear.EASE,
    "slist": linear.SLIST,
    "sasrec": sasrec.SASRec,
    "seed": engine_models.Seed,
    "logistic": engine_models.Logistic,
    "lightgbm": engine_models.LightGBM,
    "mlp": engine_models.Engine,
}


def pointless(model: str, config: Config) -> str:
    """Say why a model is left out of a task; empty if it is not."""
    if model == "recent_popularity" and config.data.clock == "order":
        return "the log has no dates"
    if model == "repeat_last" and config.rules.seen == "drop":
        return "seen items are removed"
    return ""
