"""What an approximate index costs: the share of true neighbours that it finds, and the ndcg of the final lists."""

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

IndexReport = dict[str, dict[str, Any]]  # by the name of a retriever; a manifest stores it


def indexes(retrieval: Retrieval) -> dict[str, Index]:
    """Return the index of each retriever that searches one."""
    return {name: fitted.index for name, fitted in retrieval.fitted.items() if fitted.index is not None}


def describe_indexes(retrieval: Retrieval) -> IndexReport:
    """Describe each index: what it is, how widely it searches, and the share of true neighbours that it found."""
    return {
        name: {
            "factory": index.factory,
            "search": index.search_params,
            f"recall@{RECALL_K}": round(index.measured_recall, 4),
        }
        for name, index in indexes(retrieval).items()
    }


def measure_index_costs(model: Model, fold: Fold, embeddings: Embeddings) -> IndexReport:
    """Measure the ndcg of at most `USERS` users of a fold, as it is and with each approximate index made exact.

    The retrievers must know nothing of what followed the fold. The scorer may: only the difference counts.
    """
    users = fold.labelled_users
    users = users[np.linspace(0, len(users) - 1, min(USERS, len(users))).astype(np.int64)]
    retrieval, report = model.retrieval, {}
    approximate = [name for name, index in indexes(retrieval).items() if not index.exact]
    as_is = _ndcg(model, fold, users, embeddings) if approximate else 0.0
    for name in approximate:
        fitted = {**retrieval.fitted, name: retrieval.fitted[name].with_exact_index()}
        exact = replace(model, retrieval=replace(retrieval, fitted=fitted))
        report[name] = {f"ndcg@{K}": as_is, f"ndcg@{K} exact": _ndcg(exact, fold, users, embeddings)}
    return report


def _ndcg(model: Model, fold: Fold, users: LongArray, embeddings: Embeddings) -> float:
    n_items = len(embeddings.items)
    wanted = np.unique(pair_keys(fold.labels.user, fold.labels.item, n_items))

    def rank(histories: Histories) -> Ranking:
        return model.rank(histories, K)

    queries = (embeddings.with_text_vectors(fold.histories(some)) for some in batches(users))
    total = 0.0
    for some, ranking in zip(batches(users), in_threads(rank, queries), strict=True):
        owner = owners_of(ranking.offsets)
        hits = np.zeros((len(some), K), dtype=bool)
        hits[owner, places_of(ranking.offsets)] = find_keys(wanted, pair_keys(some[owner], ranking.item, n_items)) >= 0
        relevant = np.searchsorted(wanted, (some + 1) * n_items) - np.searchsorted(wanted, some * n_items)
        total += float(ndcg(hits, relevant, K).sum())
    return round(total / max(len(users), 1), 4)
