"""What an engine has to beat: retrievers whose own order is the ranking, fitted on the same state."""

from __future__ import annotations

from recsys.retrieval.retrievers import ItemKNN, Popularity, Repeat, Retriever, Semantic

BASELINES: dict[str, Retriever] = {
    "popularity": Popularity(),
    "recent_popularity": Popularity(half_life_days=30),
    "item_knn": ItemKNN(),
    "repeat": Repeat(),
    "text": Semantic(),
}
