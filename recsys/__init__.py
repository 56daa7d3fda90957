"""Ranked recommendations from a shop's texts and behaviour logs.

    from recsys import Recommender, train
    from recsys.config import load_config

    version = train(load_config("configs/shop.yaml"))
    Recommender.load(version).recommend("u029", k=10)

Nothing is imported before it is asked for, so `import recsys` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys import errors
    from recsys.engine.jobs import evaluate, train
    from recsys.engine.tuning import tune
    from recsys.engine.update import update
    from recsys.serving.forget import forget
    from recsys.serving.handle import RecommenderHandle
    from recsys.serving.recommender import Recommender

__all__ = ["Recommender", "RecommenderHandle", "errors", "evaluate", "forget", "train", "tune", "update"]

_HOMES = {
    "Recommender": "recsys.serving.recommender",
    "RecommenderHandle": "recsys.serving.handle",
    "evaluate": "recsys.engine.jobs",
    "forget": "recsys.serving.forget",
    "train": "recsys.engine.jobs",
    "tune": "recsys.engine.tuning",
    "update": "recsys.engine.update",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("recsys.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
