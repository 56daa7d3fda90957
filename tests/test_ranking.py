"""One contract for every feature and every scorer, oracles in plain loops, and lists of exactly k."""

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import DAY, askers, asks, context_of, hits_of, lists_of, log_of, rows_of, shop_state, state_of

from recsys.errors import ConfigError
from recsys.ranking import scorers
from recsys.ranking.features import FEATURES, POPULARITY, Feature
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.rules import best, fill
from recsys.ranking.scorers import MLP, SCORERS, FittedScorer, Logistic
from recsys.retrieval.candidates import union
from recsys.types import Candidates, Ranking, offsets_of, owners_of

pytestmark = pytest.mark.usefixtures("one_torch_thread")

N_ITEMS = 12
quick = settings(max_examples=40, deadline=None)
every_feature = pytest.mark.parametrize("name", FEATURES)
shop = cache(shop_state)


def told(histories):
    """The histories with text vectors, which one of the features needs."""
    return replace(histories, text_vectors=np.random.default_rng(1).normal(size=(len(histories), 8)).astype(np.float32))


def features_of(name, state, histories):
    context = context_of(state, histories)
    return Featurizer.fit([name], state).compute(context), context


def known_users(state, count=8):
    return told(state.interactions.histories(np.arange(count), np.full(count, 60 * DAY), 50))


# The contract of features


@every_feature
@settings(max_examples=8, deadline=None)
@given(histories=askers(N_ITEMS))
def test_every_pair_has_finite_features_with_names(name, histories):
    histories = told(histories)
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
    context = context_of(shop(), told(asks([[], []])), every_pair=False)
    assert len(featurizer.compute(context)) == len(context.item)
    nothing = replace(context, candidates=union([hits_of([[], []])], 2, N_ITEMS))
    assert featurizer.compute(nothing).shape == (0, len(featurizer.names(nothing)))
    assert np.isfinite(features_of(name, state_of(log_of([]), N_ITEMS), told(asks([[0], []])))[0]).all()


# Oracles: what each feature says of one asker and one item


def rounded(score):
    """To 18 binary digits: what only the order of a sum decides is equal."""
    digits, power = math.frexp(score)
    return math.ldexp(math.floor(digits * 2**18 + 0.5), power - 18)


class Pair:
    """One asker's events (item, time, weight), one item, and the state: all that the loops below look at."""

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
@given(histories=askers(N_ITEMS))
def test_features_are_what_a_plain_loop_says(name, histories):
    state = shop(n_users=8)
    histories = told(histories)
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


def test_a_feature_of_texts_needs_texts():
    context = context_of(shop(), asks([[0]]))
    with pytest.raises(
        ConfigError, match=r"'cls_pair' needs the users' text vectors: set embedding\.user_text to true"
    ):
        Featurizer.fit(["cls_pair"], shop()).compute(context)


def test_a_value_that_is_not_finite_names_its_feature(monkeypatch):
    block = Feature(lambda context, _: np.log(np.zeros((len(context.item), 2))) * [0, 1], names=lambda _: ["a", "b"])
    monkeypatch.setitem(FEATURES, "broken", block)
    featurizer = Featurizer.fit(["found_by", "broken"], shop())
    with (
        pytest.raises(ConfigError, match=r"feature 'broken\.a' gave a value that is not finite"),
        np.errstate(all="ignore"),
    ):
        featurizer.compute(context_of(shop(), asks([[0]])))


# The contract of scorers

KINDS = {
    "listwise": Logistic(),
    "bent": Logistic(knots=(0.5, 0.8, 0.95)),
    "pointwise": Logistic(loss="pointwise"),
    "pointwise bent": Logistic(loss="pointwise", knots=(0.5, 0.8, 0.95)),
    "mlp": MLP(hidden=(16,), epochs=25, batch_lists=64, learning_rate=0.03),
    "ensemble": MLP(hidden=(16, 8), members=2, epochs=12, batch_lists=64, learning_rate=0.03),
}


every_scorer = pytest.mark.parametrize("kind", KINDS)


def quiet(stage, done, total):
    assert 0 < done <= total


def choices(n_lists=300, seed=0, shuffled=False):
    """Lists of three to eight candidates; the one with the greatest first feature is the label, the rest is noise."""
    rng = np.random.default_rng(seed)
    offsets = offsets_of(rng.integers(3, 9, n_lists))
    x = rng.normal([0, 50, 0, 3], [1, 20, 0.01, 0], size=(offsets[-1], 4)).astype(np.float32)
    y = np.zeros(len(x), np.float32)
    for start, end in itertools.pairwise(offsets):
        y[rng.integers(start, end) if shuffled else start + np.argmax(x[start:end, 0])] = 1
    return x, offsets, y


@cache
def fitted(kind, shuffled=False, n_lists=300):
    return KINDS[kind].fit(*choices(n_lists, shuffled=shuffled), 7, quiet)


def first_is_right(scorer, x, offsets, y):
    lists = itertools.pairwise(offsets)
    score = scorer.score(x)
    return np.mean([y[start + np.argmax(score[start:end])] for start, end in lists])


def test_the_contract_covers_every_scorer():
    assert {type(scorer) for scorer in KINDS.values()} == set(SCORERS.values())


@every_scorer
def test_a_world_decided_by_one_feature_is_learnt(kind):
    assert first_is_right(fitted(kind), *choices(400, seed=1)) > 0.93


@every_scorer
def test_shuffled_labels_teach_nothing(kind):
    x, offsets, y = choices(1000, seed=1, shuffled=True)
    chance = np.mean(1 / np.diff(offsets))
    found = first_is_right(fitted(kind, shuffled=True, n_lists=400), x, offsets, y)
    assert abs(found - chance) < 4 * math.sqrt(chance * (1 - chance) / 1000)


@every_scorer
@pytest.mark.parametrize("heavy", [0, 1])
def test_of_two_choices_the_one_that_counts_more_wins(kind, heavy):
    n_lists = 400
    x = np.tile(np.array([[0], [1]], np.float32), (n_lists, 1))
    chosen = np.arange(n_lists) % 2
    y = np.zeros(2 * n_lists, np.float32)
    y[2 * np.arange(n_lists) + chosen] = np.where(chosen == heavy, 3, 1)
    score = KINDS[kind].fit(x, np.arange(n_lists + 1) * 2, y, 7, quiet).score(x[:2])
    assert np.argmax(score) == heavy


def test_a_choice_that_counts_twice_is_two_choices():
    x, offsets, y = choices(60, shuffled=True)
    twice = np.arange(60) % 3 == 0
    owner = np.repeat(np.arange(60), np.diff(offsets))
    weighted = Logistic().fit(x, offsets, np.where(twice[owner], 2 * y, y), 7, quiet)
    again = np.concatenate([np.arange(60), np.flatnonzero(twice)])
    rows = np.concatenate([np.arange(offsets[n], offsets[n + 1]) for n in again])
    copied = Logistic().fit(x[rows], offsets_of(np.diff(offsets)[again]), y[rows], 7, quiet)
    slope = [scorer.weights[0][0, :3, 0] / scorer.scale[:3] for scorer in (weighted, copied)]
    np.testing.assert_allclose(*slope, rtol=0.05, atol=0.01)  # they are standardised over other rows


@every_scorer
def test_a_scorer_survives_its_arrays(kind):
    x, *_ = choices(seed=2)
    arrays = {key: array.copy() for key, array in fitted(kind).arrays().items()}
    for array in arrays.values():
        array.setflags(write=False)
    before = x.copy()
    np.testing.assert_array_equal(FittedScorer.from_arrays(arrays).score(x), fitted(kind).score(x))
    np.testing.assert_array_equal(x, before)
    assert all(array.dtype == np.float32 for array in arrays.values())


@every_scorer
def test_a_seed_decides_every_weight(kind):
    one, again = (KINDS[kind].fit(*choices(100), seed, quiet).arrays() for seed in (7, 7))
    assert {key: array.tobytes() for key, array in one.items()} == {key: a.tobytes() for key, a in again.items()}


def test_another_seed_is_another_network():
    one, other = (KINDS["mlp"].fit(*choices(100), seed, quiet).arrays() for seed in (7, 8))
    assert one["weight0"].tobytes() != other["weight0"].tobytes()


def test_a_score_hangs_on_its_row_alone_however_many_there_are():
    rng = np.random.default_rng(0)
    sizes = [7, 6, 5, 1]
    weights = [rng.normal(size=(3, *shape)).astype(np.float32) for shape in itertools.pairwise(sizes)]
    biases = [rng.normal(size=(3, out)).astype(np.float32) for out in sizes[1:]]
    scorer = FittedScorer(rng.normal(size=7).astype(np.float32), np.full(7, 0.1, np.float32), weights, biases)
    x = rng.normal(size=(2 * scorers.CACHED + 9, 7)).astype(np.float32)
    whole, right = scorer.score(x), []
    for row in x[:: scorers.CACHED // 4].astype(np.float64):
        layers = [np.clip((row - scorer.mean) / scorer.scale, -scorers.LIMIT, scorers.LIMIT)] * 3
        for depth, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            layers = [np.maximum(z, 0) if depth else z for z in layers]
            layers = [z @ w + b for z, w, b in zip(layers, weight, bias, strict=True)]
        right.append(np.mean(layers))
    np.testing.assert_allclose(whole[:: scorers.CACHED // 4], right, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scorer.score(x[-3:]), whole[-3:], rtol=1e-5, atol=1e-5)
    assert scorer.score(x[:0]).shape == (0,)


@every_scorer
def test_contributions_sum_to_the_score_less_that_of_the_mean(kind):
    scorer, (x, *_) = fitted(kind), choices(60, seed=3)
    parts = scorer.contributions(x)
    gain = scorer.score(x) - scorer.score(scorer.mean[None, :])
    assert parts.shape == x.shape
    np.testing.assert_allclose(parts.sum(axis=1), gain, atol=1e-5 * np.abs(gain).max())
    assert np.abs(parts[:, 0]).mean() > 5 * np.abs(parts[:, 1:]).mean(), "the feature that decides contributes most"


@every_scorer
def test_one_list_and_wild_values(kind):
    x, offsets, y = choices(1)
    scorer = KINDS[kind].fit(x, offsets, y, 7, quiet)
    wild = np.array([[1e30, -1e30, 0, 3]], np.float32)
    assert np.isfinite(scorer.score(wild)).all()
    assert scorer.score(x[:0]).shape == (0,)
    assert scorer.contributions(x[:0]).shape == (0, 4)
    assert np.isfinite(scorer.contributions(wild)).all()


def test_listwise_is_the_conditional_logit():
    """At the optimum no step in any direction lowers the penalised loss, reckoned list by list."""
    x, offsets, y = choices(80, shuffled=True)
    y[offsets[:-1]] = 1  # most lists have two labels
    scorer = Logistic(c=0.5, knots=()).fit(x, offsets, y, 0, quiet)
    assert len(scorer.weights) == 1
    z, weight = (x - scorer.mean) / scorer.scale, scorer.weights[0][0, :, 0].astype(float)

    def loss(weight):
        total = weight @ weight / 2 / 0.5
        for start, end in itertools.pairwise(offsets):
            odds, label = np.exp(z[start:end].astype(float) @ weight), y[start:end] > 0
            total -= np.log(odds[label] / (odds[label] + odds[~label].sum())).sum()
        return total

    steps = [sign * step for sign in (-0.02, 0.02) for step in np.eye(4)]
    assert all(loss(weight + step) > loss(weight) for step in steps)


@pytest.mark.parametrize("scorer", [Logistic(c=100), MLP(hidden=(8,), learning_rate=0.02, batch_lists=64, epochs=20)])
def test_choices_of_one_list_do_not_compete(scorer):
    """Of [1, 1, 0] the ones are chosen three times as often as of [0, 0, 1] the noughts: 3 to 1.

    A softmax in which the two choices share what there is ends at 2.3 to 1.
    """
    often = np.arange(2000)[:, None] % 4 > 0
    x = np.where(often, [1, 1, 0], [0, 0, 1]).reshape(-1, 1).astype(np.float32)
    y = np.tile(np.array([1, 1, 0], np.float32), 2000)
    nought, one = scorer.fit(x, np.arange(2001) * 3, y, 7, quiet).score(np.array([[0], [1]], np.float32))
    assert np.exp(one - nought) == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("scorer", [Logistic(), MLP(hidden=(8,), epochs=10)])
def test_a_list_chosen_whole_teaches_nothing(scorer):
    x, offsets, y = choices(60)
    whole = np.concatenate([x, x[: offsets[1]]]), np.append(offsets, offsets[-1] + offsets[1])
    fitted = scorer.fit(*whole, np.append(y, np.ones(offsets[1], np.float32)), 7, quiet)
    assert np.isfinite(fitted.score(x)).all()


def middling(n_lists=400, seed=0):
    """Lists whose label has the first feature nearest to its 0.8 quantile: neither the greatest nor the least."""
    x, offsets, y = choices(n_lists, seed)
    y[:] = 0
    for start, end in itertools.pairwise(offsets):
        y[start + np.argmin(np.abs(x[start:end, 0] - 0.84))] = 1
    return x, offsets, y


@pytest.mark.parametrize("loss", ["listwise", "pointwise"])
def test_knots_let_a_feature_rise_and_fall(loss):
    straight, bent = (Logistic(loss, knots=knots).fit(*middling(), 7, quiet) for knots in ((), (0.5, 0.8, 0.95)))
    judged = middling(seed=1)
    assert first_is_right(straight, *judged) < 0.7
    assert first_is_right(bent, *judged) > 0.9


@given(st.integers(0, 10_000), st.lists(st.floats(0.01, 0.99), max_size=3))
def test_the_layers_of_a_bent_model_say_what_its_hinges_say(seed, knots):
    """Score = weight of each feature times the feature, and of each hinge times what lies beyond its knot."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(50, 3)).astype(np.float32) * 4
    bends = scorers._bends(z, knots)
    weight, bias = rng.normal(size=3 * (1 + len(knots))).astype(np.float32), float(rng.normal())
    fitted = FittedScorer(np.zeros(3, np.float32), np.ones(3, np.float32), *scorers._as_layers(bends, weight, bias))
    cut = np.clip(z, -10, 10)
    told = bias + cut @ weight[:3]
    for number, knot in enumerate(knots, start=1):
        told += np.maximum(cut - np.quantile(z, knot, axis=0), 0) @ weight[3 * number : 3 * number + 3]
    np.testing.assert_allclose(fitted.score(z), told, rtol=1e-4, atol=1e-3)


# Rules: exactly k


@st.composite
def rankings(draw):
    """Candidates of three askers over eight items with scores, what is barred, and how popular each item is."""
    lists = [sorted(draw(st.sets(st.integers(0, 7)))) for _ in range(3)]
    score = draw(st.lists(st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.5, 3.0]), min_size=24, max_size=24))
    barred = draw(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 7))))
    barred = {(user, item) for user, item in barred if item not in lists[user]}
    return lists, score[: sum(map(len, lists))], barred, draw(st.permutations(range(8))), draw(st.integers(1, 10))


@settings(max_examples=80, deadline=None)
@given(rankings())
def test_lists_are_exactly_k_best_first_without_barred_or_double_items(case):
    lists, score, barred, popular, k = case
    offsets, item = offsets_of(np.array([len(one) for one in lists])), np.array([i for one in lists for i in one])
    found = np.arange(len(item), dtype=np.int32)[:, None]
    keys = np.array(sorted(8 * user + i for user, i in barred), np.int64)
    top = best(Candidates(offsets, item.astype(np.int32), found), np.array(score, np.float32), k)
    ranking = fill(top, np.array(popular, np.int32), keys, 8, k)
    by_user = np.split(np.array(score), offsets[1:-1])
    for user, items in enumerate(lists_of(ranking)):
        order = sorted(range(len(lists[user])), key=lambda n, user=user: -by_user[user][n])[:k]
        expected = [lists[user][n] for n in order]
        free = [i for i in popular if i not in expected and (user, i) not in barred]
        assert items == expected + free[: k - len(expected)]
        assert len(items) == min(k, 8 - sum(asker == user for asker, _ in barred))
        span = slice(*ranking.offsets[user : user + 2])
        told, traces = ranking.score[span], ranking.found[span, 0]
        assert (np.diff(told) <= 0).all()
        assert told[: len(order)].tolist() == [by_user[user][n] for n in order]
        assert (np.diff(told[max(len(order) - 1, 0) :]) < 0).all(), "what fills scores below the list"
        assert traces.tolist() == [offsets[user] + n for n in order] + [-1] * (len(items) - len(order))
    assert owners_of(ranking.offsets).dtype == np.int64


def test_a_list_that_is_long_enough_is_left_alone():
    top = Ranking(np.array([0, 2]), np.int32([4, 1]), np.float32([2, 1]), np.zeros((2, 1), np.int32))
    assert fill(top, np.arange(8, dtype=np.int32), np.zeros(0, np.int64), 8, 2) is top
