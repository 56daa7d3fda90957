"""Classical rivals: popularity, repetition, neighbours, texts, and matrix factorisation.

Items that a model cannot score, and users it knows nothing of, are ranked by recent popularity, so that no rival loses
to the engine only because its list is short.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from threadpoolctl import threadpool_limits

from benchmarks.quality.protocols import Fitted, Task
from recsys.arrays import FloatArray
from recsys.embedding.texts import item_texts
from recsys.retrieval.base import Fitted as FittedRetriever
from recsys.retrieval.base import decayed_events
from recsys.retrieval.covisitation import Covisitation as CovisitationRetriever
from recsys.retrieval.item_knn import ItemKNN as ItemKNNRetriever
from recsys.retrieval.popularity import Popularity as PopularityRetriever
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic
from recsys.retrieval.sparse_answer import SparseAnswer
from recsys.retrieval.vector_search import VectorAnswer
from recsys.tables.split import Fold
from recsys.types import Histories

Settings = list[dict[str, Any]]


def popular(task: Task, known: Fold, half_life_days: float | None = 7) -> FloatArray:
    """Return each item's events, recent ones counting more, as a share `(I,)`, below 1, of the most popular item's."""
    count = PopularityRetriever(half_life_days=half_life_days).fit(task.state(known)).arrays()["count"]
    return count / (count.max() + 1)


def known_counts(events: Fold, n_items: int) -> sparse.csr_matrix:
    """Return the summed weight of each user's events on each item `(U, I)`."""
    known = events.known
    return sparse.csr_matrix((known.weight, (known.user, known.item)), shape=(known.n_users, n_items))


@dataclass(frozen=True)
class Same:
    """The same scores `(I,)` for everyone."""

    count: FloatArray

    def score(self, histories: Histories) -> FloatArray:
        return np.broadcast_to(self.count, (len(histories), len(self.count)))


@dataclass(frozen=True)
class Counted:
    """A retriever of the library over sparse statistics; popularity breaks ties and ranks items without a score."""

    fitted: FittedRetriever
    popular: FloatArray

    def score(self, histories: Histories) -> FloatArray:
        answer = self.fitted.ask(histories)
        assert isinstance(answer, SparseAnswer)
        found = np.zeros(len(histories) * len(self.popular), dtype=np.float32)
        found[answer.keys] = answer.value
        return or_popular(found.reshape(len(histories), -1), self.popular)


def or_popular(found: FloatArray, popular: FloatArray) -> FloatArray:
    """Break ties by popularity, and rank the items without a score by it, behind all others."""
    return np.where(found > 0, found * (1 + 1e-4 * popular), popular - 1).astype(np.float32)


@dataclass(frozen=True)
class Popularity:
    """The most popular items."""

    random: ClassVar[bool] = False
    grid: ClassVar[Settings] = [{}]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        return Same(popular(task, known, None))


@dataclass(frozen=True)
class RecentPopularity:
    """The most popular items, recent events counting more."""

    half_life_days: float = 30
    random: ClassVar[bool] = False
    grid: ClassVar[Settings] = [{"half_life_days": days} for days in (30, 14, 7, 3, 60, 90, 180, 1)]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        return Same(popular(task, known, self.half_life_days))


@dataclass(frozen=True)
class RepeatLast:
    """The items that the user had most often (decay 1) or most recently (decay near 0)."""

    decay: float = 1.0
    random: ClassVar[bool] = False
    grid: ClassVar[Settings] = [{"decay": decay} for decay in (1.0, 0.5, 0.95, 0.9, 0.8, 0.97, 0.99, 0.1)]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        return Counted(Repeat(decay=self.decay).fit(task.state(known)), popular(task, known))


@dataclass(frozen=True)
class ItemKNN:
    """Nearest neighbours by the cosine between user sets (Sarwar et al. 2001)."""

    shrink: float = 10.0
    decay: float = 1.0
    neighbours: int = 1000
    random: ClassVar[bool] = False
    grid: ClassVar[Settings] = [
        {},
        {"decay": 0.8},
        {"decay": 0.6},
        {"decay": 0.8, "shrink": 0.0},
        {"decay": 0.8, "shrink": 50.0},
        {"decay": 0.95},
        {"decay": 0.8, "neighbours": 100},
        {"decay": 0.4, "shrink": 3.0},
    ]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        kind = ItemKNNRetriever(shrink=self.shrink, decay=self.decay, neighbours=self.neighbours)
        return Counted(kind.fit(task.state(known)), popular(task, known))


@dataclass(frozen=True)
class Covisitation:
    """Items that followed one another within a few baskets of one user."""

    window: int = 5
    backward: float = 0.5
    decay: float = 0.8
    newest: int = 100
    neighbours: int = 1000
    random: ClassVar[bool] = False
    grid: ClassVar[Settings] = [
        {},
        {"window": 20},
        {"window": 2},
        {"window": 20, "decay": 0.6},
        {"window": 5, "decay": 0.6},
        {"window": 20, "backward": 0.8},
        {"window": 1},
        {"window": 5, "decay": 0.95},
    ]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        kind = CovisitationRetriever(window=self.window, backward=self.backward, decay=self.decay, newest=self.newest,
                                     neighbours=self.neighbours)  # fmt: skip
        return Counted(kind.fit(task.state(known)), popular(task, known))


def history_matrix(histories: Histories, decay: float, newest: int, n_items: int) -> sparse.csr_matrix:
    """Return the decayed histories as a sparse matrix `(U, I)`."""
    rows, weight = decayed_events(histories, decay, newest)
    place = (histories.owner[rows], histories.item[rows])
    return sparse.csr_matrix((weight, place), shape=(len(histories), n_items), dtype=np.float32)


@dataclass(frozen=True)
class TextMatch:
    """Products of the query's recent terms `(I, V)` with every item's weighted terms `(V, I)`."""

    terms: sparse.csr_matrix
    weights: sparse.csr_matrix
    decay: float
    popular: FloatArray

    def score(self, histories: Histories) -> FloatArray:
        query = history_matrix(histories, self.decay, 50, len(self.popular)) @ self.terms
        return or_popular((query @ self.weights).toarray(), self.popular)


@lru_cache(maxsize=1)
def term_counts(task: Task) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Terms of each item's title, and of its whole text, over one vocabulary: two matrices `(I, V)`."""
    words = CountVectorizer(token_pattern=r"\w+", dtype=np.float32)
    texts = words.fit_transform(item_texts(task.tables.catalog, task.config.embedding.text))
    return words.transform(task.tables.catalog.titles), texts


@dataclass(frozen=True)
class BM25:
    """Okapi BM25 (Robertson and Zaragoza 2009): the titles of the history are the query, item texts the documents."""

    k1: float = 1.2
    b: float = 0.75
    decay: float = 0.8
    random: ClassVar[bool] = False
    grid: ClassVar[Settings] = [
        {},
        {"decay": 0.6},
        {"b": 0.3},
        {"k1": 0.5},
        {"decay": 0.95},
        {"k1": 0.5, "b": 0.3, "decay": 0.6},
        {"k1": 2.0},
        {"decay": 0.3},
    ]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        titles, texts = term_counts(task)
        length = np.asarray(texts.sum(axis=1)).ravel()
        documents = np.bincount(texts.indices, minlength=texts.shape[1])
        rarity = np.log1p((texts.shape[0] - documents + 0.5) / (documents + 0.5))
        room = self.k1 * (1 - self.b + self.b * length / length.mean())
        weights = texts.copy()
        weights.data = (
            rarity[texts.indices] * texts.data * (self.k1 + 1) / (texts.data + np.repeat(room, np.diff(texts.indptr)))
        )
        return TextMatch(titles, weights.T.tocsr().astype(np.float32), self.decay, popular(task, known))


@dataclass(frozen=True)
class Pooled:
    """Inner products of every item's vector with the decayed sum of the history's vectors."""

    fitted: FittedRetriever
    popular: FloatArray

    def score(self, histories: Histories) -> FloatArray:
        answer = self.fitted.ask(histories)
        assert isinstance(answer, VectorAnswer)
        return for_strangers(answer.queries @ answer.vectors.T, histories, self.popular)


def for_strangers(score: FloatArray, histories: Histories, popular: FloatArray) -> FloatArray:
    """Score queries without a history by popularity, in place."""
    score[histories.lengths == 0] = popular
    return score


@dataclass(frozen=True)
class Text:
    """BERT alone: whitened CLS vectors of the items, the history pooled by recency."""

    decay: float = 0.8
    newest: int = 10
    random: ClassVar[bool] = False
    grid: ClassVar[Settings] = [
        {},
        {"decay": 1.0, "newest": 200},
        {"decay": 0.6},
        {"decay": 0.95, "newest": 50},
        {"decay": 0.98, "newest": 200},
        {"decay": 0.9, "newest": 30},
        {"decay": 0.4},
        {"decay": 1.0, "newest": 1000},
    ]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        fitted = Semantic(depth=0, decay=self.decay, newest=self.newest).fit(task.state(known))
        return Pooled(fitted, popular(task, known))


@dataclass(frozen=True)
class Factors:
    """Item factors. The factors of a query are solved from its history, so that a new event counts at once."""

    model: Any
    alpha: float
    decay: float
    popular: FloatArray

    def score(self, histories: Histories) -> FloatArray:
        liked = confidence(history_matrix(histories, self.decay, len(histories.item), len(self.popular)), self.alpha)
        queries = self.model.recalculate_user(np.arange(len(histories)), liked)
        return for_strangers(queries @ self.model.item_factors.T, histories, self.popular)


def confidence(counts: sparse.csr_matrix, alpha: float) -> sparse.csr_matrix:
    """Turn counts into the confidence that an item is liked: 1 + alpha times the count."""
    return sparse.csr_matrix((1 + alpha * counts.data, counts.indices, counts.indptr), shape=counts.shape)


@dataclass(frozen=True)
class IALS:
    """Implicit alternating least squares (Hu, Koren and Volinsky 2008), of the package `implicit`."""

    factors: int = 128
    penalty: float = 0.01
    alpha: float = 1.0
    decay: float = 1.0
    iterations: int = 15
    random: ClassVar[bool] = True
    grid: ClassVar[Settings] = [
        {},
        {"penalty": 1.0, "decay": 0.8},
        {"penalty": 10.0, "alpha": 10.0, "decay": 0.8},
        {"factors": 256, "penalty": 10.0, "alpha": 10.0, "decay": 0.6},
        {"factors": 256, "penalty": 30.0, "alpha": 10.0, "decay": 0.6},
        {"penalty": 3.0, "alpha": 3.0, "decay": 0.6},
        {"factors": 64, "decay": 0.9},
        {"factors": 512, "penalty": 30.0, "alpha": 10.0, "decay": 0.6},
    ]

    def fit(self, task: Task, known: Fold, seed: int) -> Fitted:
        from implicit.cpu.als import AlternatingLeastSquares

        counts = known_counts(known, len(task.tables.catalog))
        with threadpool_limits(1, "blas"):  # the package has threads of its own
            model = AlternatingLeastSquares(self.factors, self.penalty, iterations=self.iterations, random_state=seed)
            model.fit(confidence(counts, self.alpha), show_progress=False)
        return Factors(model, self.alpha, self.decay, popular(task, known))
