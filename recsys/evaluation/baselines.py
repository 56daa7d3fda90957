"""Baselines that an engine has to beat: retrievers whose own order is the ranking, fitted on the same state."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from recsys.retrieval.base import Retriever
from recsys.retrieval.item_knn import ItemKNN
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic

log = logging.getLogger(__name__)

BASELINES: dict[str, Retriever] = {
    "popularity": Popularity(),
    "recent_popularity": Popularity(half_life_days=30),
    "item_knn": ItemKNN(),
    "repeat": Repeat(),
    "text": Semantic(),
}


def choose_baselines(names: Sequence[str], clock: str) -> dict[str, Retriever]:
    """Return the named baselines that mean something under a clock; what is left out is logged.

    Args:
        names: Keys of `BASELINES`.
        clock: `time` or `order`, as in the config of the data.
    """
    chosen = {name: BASELINES[name] for name in names}
    for name in [name for name, baseline in chosen.items() if baseline.needs_clock and clock == "order"]:
        log.info("baseline %r is left out: it counts days, and data.clock is 'order'; it would equal popularity", name)
        del chosen[name]
    return chosen
