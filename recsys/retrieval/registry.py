"""The retrievers that a config can name."""

from __future__ import annotations

from recsys.retrieval.base import Retriever
from recsys.retrieval.item_to_item import Covisitation, Ease, ItemKNN, Lexical, Slit, TextCovisitation
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic
from recsys.retrieval.tower import Tower

RETRIEVERS: dict[str, type[Retriever]] = {
    "semantic": Semantic,
    "tower": Tower,
    "covisitation": Covisitation,
    "text_covisitation": TextCovisitation,
    "lexical": Lexical,
    "item_knn": ItemKNN,
    "ease": Ease,
    "slit": Slit,
    "popularity": Popularity,
    "repeat": Repeat,
}
