"""What an approximate index costs: how many of the true neighbours it finds, and the ndcg of the lists after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recsys.arrays import LongArray
from recsys.engine.embeddings import Embeddings
from recsys.engine.model import Model, Retrieval
from recsys.evaluation.metrics import ndcg
from recsys.parallel.threads import batches, in_threads
from recsys.ragged import find_keys, owners_of, pair_keys, places_of
from recsys.retrieval.index import RECALL_K, Index
from recsys.tables.split import Fold
from recsys.types import Histories, Ranking

K = 10
USERS = 500

Costs = dict[str, dict[str, Any]]


def indexes(retrieval: Retrieval) -> dict[str, Index]:
    """The index of each retriever that proposes items by one."""
    return {name: fitted.index for name, fitted in retrieval.fitted.items() if fitted.index is not None}


def figures(retrieval: Retrieval) -> Costs:
    """What each index is, and the share of the true neighbours that it was measured to find."""
    return {
        name: {
            "factory": index.factory,
            "search": index.search_params,
            f"recall@{RECALL_K}": round(index.measured_recall, 4),
        }
        for name, index in indexes(retrieval).items()
    }


def costs(model: Model, fold: Fold, embeddings: Embeddings) -> Costs:
    """The ndcg of the lists of at most `USERS` users of a fold, and what it is with each index exact in its turn.

    Its retrievers must know nothing of what followed the fold; its scorer may, as the difference is what tells.
    """
    users = fold.labelled_users
    users = users[np.linspace(0, len(users) - 1, min(USERS, len(users))).astype(np.int64)]
    retrieval, told = model.retrieval, {}
    approximate = [name for name, index in indexes(retrieval).items() if not index.exact]
    as_is = _ndcg(model, fold, users, embeddings) if approximate else 0.0
    for name in approximate:
        exact = {**retrieval.fitted, name: retrieval.fitted[name].with_exact_index()}
        other = replace(model, retrieval=replace(retrieval, fitted=exact))
        told[name] = {f"ndcg@{K}": as_is, f"ndcg@{K} exact": _ndcg(other, fold, users, embeddings)}
    return told


def _ndcg(model: Model, fold: Fold, users: LongArray, embeddings: Embeddings) -> float:
    n_items = len(embeddings.items)
    wanted = np.unique(pair_keys(fold.labels.user, fold.labels.item, n_items))

    def one(histories: Histories) -> Ranking:
        return model.rank(histories, K)

    asked = (embeddings.with_text_vectors(fold.histories(some)) for some in batches(users))
    total = 0.0
    for some, ranking in zip(batches(users), in_threads(one, asked), strict=True):
        owner = owners_of(ranking.offsets)
        hits = np.zeros((len(some), K), dtype=bool)
        hits[owner, places_of(ranking.offsets)] = find_keys(wanted, pair_keys(some[owner], ranking.item, n_items)) >= 0
        relevant = np.searchsorted(wanted, (some + 1) * n_items) - np.searchsorted(wanted, some * n_items)
        total += float(ndcg(hits, relevant, K).sum())
    return round(total / max(len(users), 1), 4)
