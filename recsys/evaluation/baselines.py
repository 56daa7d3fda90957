"""Baselines that an engine has to beat: retrievers whose own order is the ranking, fitted on the same state."""

from __future__ import annotations

from recsys.retrieval.base import Retriever
from recsys.retrieval.item_knn import ItemKNN
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic

BASELINES: dict[str, Retriever] = {
    "popularity": Popularity(),
    "recent_popularity": Popularity(half_life_days=30),
    "item_knn": ItemKNN(),
    "repeat": Repeat(),
    "text": Semantic(),
}
