"""The retrievers that a config can name. Each registers itself in its own module."""

from __future__ import annotations

from recsys.registry import Family
from recsys.retrieval.base import Retriever

# `similarity` brings scipy, which serving does without.
RETRIEVERS: Family[type[Retriever]] = Family(
    "retriever", "recsys.retrieval", group="recsys.retrievers", skip=["similarity"]
)
