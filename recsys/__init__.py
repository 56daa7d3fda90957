"""Ranked recommendations from a shop's texts and behaviour logs.

    from recsys import Recommender, train
    from recsys.config import load_config

    version = train(load_config("configs/shop.yaml"))
    Recommender.load(version).recommend("u029", k=10)

Names are imported on first use, so `import recsys` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys import errors
    from recsys.assistant.copywriting import Copywriter
    from recsys.assistant.questions import Assistant
    from recsys.jobs.evaluate import evaluate
    from recsys.jobs.finetune import finetune
    from recsys.jobs.fit import fit
    from recsys.jobs.train import train
    from recsys.jobs.tune import tune
    from recsys.jobs.update import update
    from recsys.privacy.forget import forget
    from recsys.serving.handle import RecommenderHandle
    from recsys.serving.recommender import Recommender

__all__ = [
    "Assistant",
    "Copywriter",
    "Recommender",
    "RecommenderHandle",
    "errors",
    "evaluate",
    "finetune",
    "fit",
    "forget",
    "train",
    "tune",
    "update",
]

__version__ = "0.1.0"  # read by pyproject.toml

_HOMES = {
    "Assistant": "recsys.assistant.questions",
    "Copywriter": "recsys.assistant.copywriting",
    "Recommender": "recsys.serving.recommender",
    "RecommenderHandle": "recsys.serving.handle",
    "evaluate": "recsys.jobs.evaluate",
    "finetune": "recsys.jobs.finetune",
    "fit": "recsys.jobs.fit",
    "forget": "recsys.privacy.forget",
    "train": "recsys.jobs.train",
    "tune": "recsys.jobs.tune",
    "update": "recsys.jobs.update",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("recsys.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
