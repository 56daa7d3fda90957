"""One contract for every feature, and the same numbers from a plain loop."""

import itertools
import math
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from members import add_member
from worlds import DAY, asks, context_of, hits_of, log_of, queries, rows_of, shop_state, state_of

from recsys.errors import ConfigError
from recsys.ranking.features import FEATURES, POPULARITY, Feature
from recsys.ranking.featurizer import Featurizer, check_features
from recsys.retrieval.candidates import union

pytestmark = pytest.mark.usefixtures("one_torch_thread")

N_ITEMS = 12
quick = settings(max_examples=40, deadline=None)
every_feature = pytest.mark.parametrize("name", FEATURES)
shop = cache(shop_state)


def with_texts(histories):
    """The histories with text vectors, which one of the features needs."""
    return replace(histories, text_vectors=np.random.default_rng(1).normal(size=(len(histories), 8)).astype(np.float32))


def features_of(name, state, histories):
    context = context_of(state, histories)
    return Featurizer.fit([name], state).compute(context), context


def known_users(state, count=8):
    return with_texts(state.interactions.histories(np.arange(count), np.full(count, 60 * DAY), 50))


# The contract of features


@every_feature
@settings(max_examples=8, deadline=None)
@given(histories=queries(N_ITEMS))
def test_every_pair_has_finite_features_with_names(name, histories):
    histories = with_texts(histories)
    matrix, context = features_of(name, shop(), histories)
    names = Featurizer.fit([name], shop()).names(context)
    assert matrix.shape == (len(context.item), len(names))
    assert matrix.dtype == np.float32
    assert np.isfinite(matrix).all()
    assert len(set(names)) == len(names)
    assert all(label == name or label.startswith(f"{name}.") for label in names)


@every_feature
def test_features_do_not_depend_on_who_else_is_in_the_batch(name):
    histories = known_users(shop())
    together, _ = features_of(name, shop(), histories)
    for user in range(len(histories)):
        alone, _ = features_of(name, shop(), histories.select(np.array([user])))
        np.testing.assert_allclose(alone, together.reshape(len(histories), N_ITEMS, -1)[user], rtol=1e-5, atol=1e-6)


@every_feature
def test_features_do_not_depend_on_row_numbers(name):
    """In a catalogue of another order every item keeps its features (no two scores of the world are equal)."""
    state, histories = shop(), known_users(shop())
    new_row = np.random.default_rng(2).permutation(N_ITEMS).astype(np.int32)
    old_row = np.argsort(new_row)
    moved = state_of(
        replace(state.interactions, item=new_row[state.interactions.item]),
        N_ITEMS,
        state.as_of,
        state.vectors[old_row],
        **{column: state.catalog.frame[column][old_row.tolist()] for column in ("category", "brand", "price")},
    )
    one, _ = features_of(name, state, histories)
    other, _ = features_of(name, moved, replace(histories, item=new_row[histories.item]))
    one, other = (matrix.reshape(len(histories), N_ITEMS, -1) for matrix in (one, other))
    np.testing.assert_allclose(other[:, new_row], one, rtol=1e-4, atol=1e-5)


@every_feature
def test_features_of_nobody_and_of_no_candidates(name):
    featurizer = Featurizer.fit([name], shop())
    context = context_of(shop(), with_texts(asks([[], []])), every_pair=False)
    assert len(featurizer.compute(context)) == len(context.item)
    nothing = replace(context, candidates=union([hits_of([[], []])], 2, N_ITEMS))
    assert featurizer.compute(nothing).shape == (0, len(featurizer.names(nothing)))
    assert np.isfinite(features_of(name, state_of(log_of([]), N_ITEMS), with_texts(asks([[0], []])))[0]).all()


@every_feature
def test_prepared_arrays_are_plain_and_have_a_row_for_each_item(name):
    """What a bundle asks of them; and read-only ones, as a bundle maps them, do as well."""
    state, histories = shop(), known_users(shop())
    arrays = FEATURES[name].prepare(state)
    assert all(array.dtype.kind in "fiu" and len(array) == N_ITEMS for array in arrays.values())
    for array in arrays.values():
        array.setflags(write=False)
    context = context_of(state, histories)
    np.testing.assert_array_equal(Featurizer({name: arrays}).compute(context), features_of(name, state, histories)[0])


@every_feature
def test_a_feature_says_whether_it_needs_a_clock(name):
    """Other moments in the same order change nothing, but for what counts days."""
    state, histories = shop(), known_users(shop())

    def stretched(moments):
        return (moments // DAY) ** 2 * DAY

    log = replace(state.interactions, time=stretched(state.interactions.time))
    other = replace(state, interactions=log, as_of=stretched(state.as_of))
    later = replace(histories, time=stretched(histories.time), as_of=stretched(histories.as_of))
    same = np.array_equal(features_of(name, state, histories)[0], features_of(name, other, later)[0])
    assert same == (not FEATURES[name].needs_clock)


@every_feature
def test_a_feature_says_whether_it_needs_text_of_users(name):
    context = context_of(shop(), replace(known_users(shop()), text_vectors=None))
    if not FEATURES[name].needs_user_text:
        assert np.isfinite(Featurizer.fit([name], shop()).compute(context)).all()
        return
    with pytest.raises(ConfigError, match=f"feature '{name}' needs the users' text vectors: set embedding.user_text"):
        Featurizer.fit([name], shop()).compute(context)


# Oracles: what each feature says of one query and one item


def rounded(score):
    """To 18 binary digits: what only the order of a sum decides is equal."""
    digits, power = math.frexp(score)
    return math.ldexp(math.floor(digits * 2**18 + 0.5), power - 18)


class Pair:
    """One query's events (item, time, weight), one item, and the state: all that the loops below look at."""

    def __init__(self, context, state, n):
        histories, user = context.histories, int(context.owner[n])
        span = slice(*histories.offsets[user : user + 2])
        self.events = list(zip(histories.item[span].tolist(), histories.time[span].tolist(), strict=True))
        self.as_of, self.text = int(histories.as_of[user]), histories.text_vectors[user]
        self.item, self.found = int(context.item[n]), context.candidates.found[n]
        own = slice(*context.candidates.offsets[user : user + 2])
        self.scores, self.rivals = context.scores[n], context.scores[own]
        self.place = n - own.start
        self.log, self.vectors, self.frame = rows_of(state.interactions), state.vectors, state.catalog.frame

    @property
    def count(self):
        return sum(row[1] == self.item for row in self.log)

    @property
    def match(self):
        near = [float(self.vectors[self.item] @ self.vectors[item]) for item, _ in self.events[-10:]]
        return max(near, default=0)

    def label(self, column, item, parent=False):
        value = self.frame[column][item] or None
        if value and parent:
            value = " > ".join(value.split(" > ")[:-1]) or None
        return value

    def share(self, *column):
        own = self.label(column[0], self.item, *column[1:])
        same = [own is not None and self.label(column[0], item, *column[1:]) == own for item, _ in self.events]
        return sum(same) / max(len(same), 1)

    def last(self, *column):
        own = self.label(column[0], self.item, *column[1:])
        return bool(self.events) and own is not None and self.label(column[0], self.events[-1][0], *column[1:]) == own

    def late(self):
        """Of all events of this item, how many baskets their user had since."""
        times = {user: sorted({row[2] for row in self.log if row[0] == user}) for user in {row[0] for row in self.log}}
        ages = [sum(t > row[2] for t in times[row[0]]) for row in self.log if row[1] == self.item]
        decayed = sum(0.8**age for age in ages)
        return [math.log1p(decayed), (decayed + 1) / (len(ages) + 2)]

    def rank(self, column):
        scores = [rounded(score) for score in self.rivals[:, column].tolist()]
        own = max(scores[self.place], 0)
        return math.log1p(sum(score > own for score in scores))  # equals share a place

    def gap(self):
        own = self.frame["price"][self.item]
        past = [math.log(price) for item, _ in self.events if (price := self.frame["price"][item])]
        return abs(math.log(own) - sum(past) / len(past)) if own and past else 0

    def own_times(self):
        return [time for item, time in self.events if item == self.item]

    def recency(self):
        times = self.own_times()
        return 1 / (1 + len({time for _, time in self.events if time > times[-1]})) if times else 0

    def repurchases(self):
        """Of each item: its buyers, and the days between distinct purchases of each of them."""
        buyers, waits = [0] * N_ITEMS, [[] for _ in range(N_ITEMS)]
        for pair in {row[:2] for row in self.log}:
            times = sorted({row[2] for row in self.log if row[:2] == pair})
            buyers[pair[1]] += 1
            waits[pair[1]] += [max((b - a) / DAY, 0.04) for a, b in itertools.pairwise(times)]
        return buyers, waits

    def rate(self):
        buyers, waits = self.repurchases()
        overall = sum(map(len, waits)) / max(sum(buyers), 1)
        return math.log1p((len(waits[self.item]) + 5 * overall) / (buyers[self.item] + 5))

    def due(self):
        if not self.own_times():
            return [0, 0, 0]
        _, waits = self.repurchases()
        logs = [math.log(wait) for one in waits for wait in one]
        overall = sum(logs) / len(logs) if logs else 0
        usual = (sum(map(math.log, waits[self.item])) + 5 * overall) / (len(waits[self.item]) + 5)
        since = math.log(max((self.as_of - self.own_times()[-1]) / DAY, 0.04))
        return [since, since - usual, abs(since - usual)]

    def by_popularity(self):
        edges = [0, 1, 5, 10, 50, math.inf]
        return [self.match if low <= self.count < high else 0 for low, high in itertools.pairwise(edges)]


ORACLES = {
    "scores": lambda pair: [math.copysign(math.log1p(abs(score)), score) for score in pair.scores],
    "ranks": lambda pair: [pair.rank(column) for column in range(len(pair.scores))],
    "found_by": lambda pair: sum(place >= 0 for place in pair.found),
    "log_popularity": lambda pair: math.log1p(pair.count),
    "late_popularity": Pair.late,
    "text_by_popularity": Pair.by_popularity,
    "history_length": lambda pair: math.log1p(len(pair.events)),
    "best_match": lambda pair: pair.match,
    "category_share": lambda pair: pair.share("category"),
    "category_last": lambda pair: pair.last("category"),
    "parent_share": lambda pair: pair.share("category", True),
    "parent_last": lambda pair: pair.last("category", True),
    "brand_share": lambda pair: pair.share("brand"),
    "brand_last": lambda pair: pair.last("brand"),
    "price_gap": Pair.gap,
    "own_count": lambda pair: math.log1p(len(pair.own_times())),
    "own_recency": Pair.recency,
    "repeat_rate": Pair.rate,
    "due": Pair.due,
    "cls_pair": lambda pair: [*pair.text, *pair.vectors[pair.item]],
}


@pytest.mark.parametrize("name", [*FEATURES])
@settings(max_examples=5, deadline=None)
@given(histories=queries(N_ITEMS))
def test_features_are_what_a_plain_loop_says(name, histories):
    state = shop(n_users=8)
    histories = with_texts(histories)
    matrix, context = features_of(name, state, histories)
    expected = [ORACLES[name](Pair(context, state, n)) for n in range(len(context.item))]
    np.testing.assert_allclose(matrix, np.reshape(np.array(expected, float), matrix.shape), rtol=1e-4, atol=1e-5)


def test_features_of_users_of_the_log_are_what_a_plain_loop_says():
    """As above for long histories, whose clock is the log's, so that repurchases are due."""
    state = shop(seed=1, n_users=12)
    histories = known_users(state, 12)
    for name in ("due", "own_recency", "own_count", "best_match", "price_gap", "ranks", "brand_share"):
        matrix, context = features_of(name, state, histories)
        expected = [ORACLES[name](Pair(context, state, n)) for n in range(len(context.item))]
        np.testing.assert_allclose(matrix, np.reshape(np.array(expected, float), matrix.shape), rtol=1e-4, atol=1e-5)
    assert len(POPULARITY) == 5


def test_an_unknown_feature_names_the_nearest():
    message = "features: unknown name 'best_mach'; did you mean 'best_match'; known: scores, ranks, found_by"
    with pytest.raises(ConfigError, match=message.replace("'; known", r"'\?; known")):
        Featurizer.fit(["scores", "best_mach"], shop())


@pytest.mark.parametrize(
    ("names", "settings", "problem"),
    [
        (["due"], {"clock": "order"}, "features: 'due' counts days, and data.clock is 'order': leave it out"),
        (["cls_pair"], {"user_text": False},
         "feature 'cls_pair' needs the users' text vectors: set embedding.user_text to true"),
        (["ranks", "scores", "ranks"], {}, "features: 'ranks' is listed 2 times; once is enough"),
    ],
)  # fmt: skip
def test_features_that_cannot_be_computed_are_refused_at_once(names, settings, problem):
    with pytest.raises(ConfigError, match=f"^{re.escape(problem)}$"):
        check_features(names, **settings)


def test_every_feature_is_fine_where_all_is_given():
    check_features(list(FEATURES), clock="time", user_text=True)
    assert {name: feature.name for name, feature in FEATURES.items()} == {name: name for name in FEATURES}


def test_a_value_that_is_not_finite_names_its_feature(monkeypatch):
    def compute(context, _):
        return np.log(np.zeros((len(context.item), 2))) * [0, 1]

    block = Feature("broken", compute, names=lambda _: ["a", "b"])
    add_member(monkeypatch, FEATURES, "broken", block)
    featurizer = Featurizer.fit(["found_by", "broken"], shop())
    with (
        pytest.raises(ConfigError, match=r"feature 'broken\.a' gave a value that is not finite"),
        np.errstate(all="ignore"),
    ):
        featurizer.compute(context_of(shop(), asks([[0]])))
