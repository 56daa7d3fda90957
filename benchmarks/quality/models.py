"""Every model of the benchmark, by the name it has in tables, `--models` and the files of its results."""

from __future__ import annotations

from benchmarks.quality import classical, engine_models, linear, sasrec
from benchmarks.quality.rival import Rival
from recsys.config import Config

# The model that all others are compared with.
ENGINE = "mlp"
# Models that share a process, since they differ in the scorer alone.
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
    """Why a model has nothing to say to a task; empty where it has."""
    if model == "recent_popularity" and config.data.clock == "order":
        return "the log has no dates"
    if model == "repeat_last" and config.rules.seen == "drop":
        return "seen items are removed"
    return ""
