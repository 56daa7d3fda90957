"""Small worlds whose right answers are provable, shared by the tests of splits, retrieval, ranking and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from hypothesis import strategies as st

from recsys.arrays import unit_rows
from recsys.config import Config
from recsys.engine.model import Model, Retrieval
from recsys.engine.plan import Plan
from recsys.engine.training import fit_retrieval
from recsys.ragged import offsets_of
from recsys.ranking.feature_context import Context
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.scorers.dense import DenseScorer
from recsys.retrieval.candidates import union
from recsys.retrieval.covisitation import Covisitation
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic
from recsys.types import Candidates, Catalog, Histories, Hits, Interactions, State

DAY = 86_400_000_000
GROUP = 6  # items in each group of the checkerboard

Event = tuple  # (item, time) or (item, time, weight), in the history of one query


def log_of(rows: Sequence[tuple], n_users: int | None = None) -> Interactions:
    """Return interactions from rows (user, item, time[, weight[, target]]) in file order."""
    rows = sorted(((*row, *(1.0, True)[len(row) - 3 :]) for row in rows), key=lambda row: (row[0], row[2]))
    user, item, time, weight, target = zip(*rows, strict=True) if rows else ((),) * 5
    return Interactions(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.array(time, np.int64),
        np.array(weight, np.float32),
        np.array(target, bool),
        max(user, default=-1) + 1 if n_users is None else n_users,
    )


def rows_of(log: Interactions) -> list[tuple]:
    """The rows (user, item, time, weight, target) of a log."""
    columns = (log.user, log.item, log.time, log.weight, log.target)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def asks(lists: Sequence[Sequence], as_of: int | Sequence[int] | None = None, text=None) -> Histories:
    """Return histories from one list a query: of items, one a moment, or of events (item, time[, weight])."""
    given = [[e if isinstance(e, tuple) else (e, place) for place, e in enumerate(one)] for one in lists]
    events = [(*e, 1.0)[:3] for one in given for e in one]
    item, time, weight = zip(*events, strict=True) if events else ((), (), ())
    latest = max(time, default=0) + 1
    moments = np.full(len(lists), latest) if as_of is None else np.broadcast_to(np.array(as_of), len(lists))
    return Histories(
        np.full(len(lists), -1, np.int32),
        offsets_of(np.array([len(one) for one in given], np.int64)),
        np.array(item, np.int32),
        np.array(time, np.int64),
        np.array(weight, np.float32),
        moments.astype(np.int64),
        text,
    )


def lists_of(ragged) -> list[list[int]]:
    """Return the items of each list of Hits, Candidates or a Ranking."""
    return [part.tolist() for part in np.split(ragged.item, ragged.offsets[1:-1])]


def hits_of(lists: Sequence[Sequence[int]]) -> Hits:
    """Return hits that hold these items, scored downwards from 100."""
    item = [i for one in lists for i in one]
    score = [100.0 - place for one in lists for place in range(len(one))]
    return Hits(offsets_of(np.array([len(one) for one in lists], int)), np.array(item, np.int32), np.float32(score))


def pairs_of(n_lists: int, n_items: int) -> Candidates:
    """Return every item as a candidate of every query, found by no retriever."""
    item = np.tile(np.arange(n_items, dtype=np.int32), n_lists)
    return Candidates(np.arange(n_lists + 1) * n_items, item, np.full((len(item), 1), -1, np.int32))


@cache
def random_vectors(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    """Unit rows in random directions."""
    vectors = unit_rows(np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32))
    vectors.setflags(write=False)
    return vectors


@cache
def _bare_catalog(n_items: int) -> Catalog:
    return catalog_of(n_items, stock=True)


def catalog_of(n_items: int, **columns) -> Catalog:
    """Return items i0, i1, …, with any columns."""
    empty = {
        "title": [f"item {i}" for i in range(n_items)],
        "description": [""] * n_items,
        "category": pl.Series([None] * n_items, dtype=pl.String),
        "brand": pl.Series([None] * n_items, dtype=pl.String),
        "price": pl.Series([None] * n_items, dtype=pl.Float64),
    }
    return Catalog(pl.DataFrame({"item_id": [f"i{i}" for i in range(n_items)]} | empty | columns))


def state_of(log: Interactions, n_items: int, as_of: int | None = None, vectors=None, **columns) -> State:
    """Return a state of these events, with random vectors unless given."""
    vectors = random_vectors(n_items) if vectors is None else vectors
    catalog = catalog_of(n_items, **columns) if columns else _bare_catalog(n_items)
    return State(catalog, log, vectors, as_of)


@dataclass(frozen=True)
class Checkerboard:
    """Even users touch even items and odd users odd ones, so every right answer has the query's colour.

    Each group of items is a ring, walked in order by every user of its colour from a start of their own, one item
    a day; the last step, back to the item before the first, is `left_out`.
    """

    state: State
    histories: Histories
    left_out: list[int]


def checkerboard(n_users: int = 24) -> Checkerboard:
    """Return the world of two colours."""
    rows, left_out = [], []
    for user in range(n_users):
        start, colour = user // 2 % GROUP, user % 2
        rows += [(user, 2 * ((start + step) % GROUP) + colour, step * DAY) for step in range(GROUP - 1)]
        left_out.append(2 * ((start - 1) % GROUP) + colour)
    rng = np.random.default_rng(0)
    vectors = np.zeros((2 * GROUP, 8), np.float32)  # the colours span planes at right angles
    vectors[0::2, :4] = 1 + 0.3 * rng.normal(size=(GROUP, 4))
    vectors[1::2, 4:] = 1 + 0.3 * rng.normal(size=(GROUP, 4))
    log = log_of(rows)
    titles = [f"{'black' if item % 2 else 'white'} {item}" for item in range(2 * GROUP)]
    state = state_of(log, 2 * GROUP, GROUP * DAY, unit_rows(vectors), title=titles)
    return Checkerboard(state, log.histories(np.arange(n_users), np.full(n_users, GROUP * DAY), 100), left_out)


def shop_state(seed: int = 0, n_users: int = 30, n_items: int = 12) -> State:
    """A random log rich enough that no two items have the same statistics; categories, brands, prices with holes."""
    rng = np.random.default_rng(seed)
    rows = [
        (user, int(rng.integers(n_items)), int(rng.integers(60)) * DAY, float(rng.uniform(0.5, 3)))
        for user in range(n_users)
        for _ in range(int(rng.integers(2, 14)))
    ]
    paths = ["A > B", "A > C", "A", "D > E > F", "D > E > G", None]
    return state_of(
        log_of(rows, n_users),
        n_items,
        60 * DAY,
        random_vectors(n_items, seed=seed),
        category=[paths[i % 6] for i in range(n_items)],
        brand=[["x", "y", None, ""][i % 4] for i in range(n_items)],
        price=[None if i % 5 == 4 else 1.5**i for i in range(n_items)],
    )


def retrieval_of(state: State, drop_seen: bool = False, **retrievers) -> Retrieval:
    """Return fitted retrievers: those given, or one of each kind that features look at."""
    retrievers = retrievers or {
        "semantic": Semantic(depth=5),
        "covisitation": Covisitation(depth=5),
        "popularity": Popularity(depth=3),
        "repeat": Repeat(depth=0),
    }
    count = np.bincount(state.interactions.item, minlength=len(state.catalog))
    return Retrieval(
        {name: retriever.fit(state) for name, retriever in retrievers.items()},
        {name: retriever.depth for name, retriever in retrievers.items()},
        state.vectors,
        np.argsort(-count, kind="stable").astype(np.int32),
        drop_seen,
    )


def adding_model(config: Config, state: State) -> Model:
    """A model of the config's retrievers that ranks by the sum of their scores, untrained."""
    width = len(config.retrievers)
    weights = [np.ones((1, width, 1), np.float32)], [np.zeros((1, 1), np.float32)]
    scorer = DenseScorer(np.zeros(width, np.float32), np.ones(width, np.float32), *weights)
    return Model(fit_retrieval(Plan.of(config), state), Featurizer.fit(["scores"], state), scorer)


@cache
def _usual_retrieval(state: State) -> Retrieval:
    return retrieval_of(state)


def context_of(state: State, histories: Histories, every_pair: bool = True) -> Context:
    """Return what features look at, by default for every item, proposed or not."""
    context = _usual_retrieval(state).context(histories)
    if not every_pair:
        return context
    n_items = len(state.catalog)
    whole = Hits(
        np.arange(len(histories) + 1) * n_items,
        np.tile(np.arange(n_items, dtype=np.int32), len(histories)),
        np.zeros(len(histories) * n_items, np.float32),
    )
    proposed = context.candidates
    own = Hits(proposed.offsets, proposed.item, np.zeros(len(proposed.item), np.float32))
    return Context(histories, union([own, whole], len(histories), n_items), context.answers, state.vectors)


def weights_of(histories, decay, newest):
    """(query, item, weight) of the newest events: decay to the power of the distinct later moments."""
    for user in range(len(histories)):
        span = slice(*histories.offsets[user : user + 2])
        events = list(zip(histories.item[span], histories.time[span], histories.weight[span], strict=True))
        moments = sorted({time for _, time, _ in events}, reverse=True)
        for item, time, weight in events[-newest:]:
            yield user, int(item), float(weight) * decay ** moments.index(time)


def baskets_of(log):
    """The baskets of each user, in time order: sets of items."""
    found = [{} for _ in range(log.n_users)]
    for user, item, time, *_ in rows_of(log):
        found[user].setdefault(time, set()).add(item)
    return [[one[time] for time in sorted(one)] for one in found]


# Hypothesis

N_USERS, N_ITEMS = 4, 6


@st.composite
def logs(draw, min_size: int = 1, last: int = 8) -> Interactions:
    """Any log of four users and six items, with many ties in time."""
    row = st.tuples(
        st.integers(0, N_USERS - 1),
        st.integers(0, N_ITEMS - 1),
        st.integers(0, last),
        st.sampled_from([0.5, 1.0, 3.0]),
        st.booleans(),
    )
    return log_of(draw(st.lists(row, min_size=min_size, max_size=24)), N_USERS)


@st.composite
def queries(draw, n_items: int = N_ITEMS) -> Histories:
    """Any few histories, empty ones and baskets among them."""
    event = st.tuples(st.integers(0, n_items - 1), st.integers(0, 5), st.sampled_from([0.5, 1.0, 3.0]))
    lists = draw(st.lists(st.lists(event, max_size=8), min_size=1, max_size=4))
    return asks([sorted(one, key=lambda event: event[1]) for one in lists], as_of=7)
