"""The retrievers that a config can name."""

from __future__ import annotations

from recsys.retrieval.base import Retriever
from recsys.retrieval.covisitation import Covisitation
from recsys.retrieval.ease import Ease
from recsys.retrieval.item_knn import ItemKNN
from recsys.retrieval.lexical import Lexical
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic
from recsys.retrieval.slit import Slit
from recsys.retrieval.text_covisitation import TextCovisitation
from recsys.retrieval.tower import Tower

_MEMBERS: tuple[type[Retriever], ...] = (
    Semantic, Tower, Covisitation, TextCovisitation, Lexical, ItemKNN, Ease, Slit, Popularity, Repeat,
)  # fmt: skip

RETRIEVERS: dict[str, type[Retriever]] = {member.name: member for member in _MEMBERS}
