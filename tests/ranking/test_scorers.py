"""One contract for every scorer: what they learn, and what must teach them nothing."""

import itertools
import math
import re
import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ArtifactError, ConfigError
from recsys.ragged import offsets_of
from recsys.ranking.scorers import dense, logistic
from recsys.ranking.scorers.base import is_ready, require_packages
from recsys.ranking.scorers.dense import DenseScorer
from recsys.ranking.scorers.gbdt import GBDT
from recsys.ranking.scorers.logistic import Logistic
from recsys.ranking.scorers.mlp import MLP
from recsys.ranking.scorers.registry import SCORERS

pytestmark = pytest.mark.usefixtures("one_torch_thread")

KINDS = {
    "listwise": Logistic(),
    "bent": Logistic(knots=(0.5, 0.8, 0.95)),
    "pointwise": Logistic(loss="pointwise"),
    "pointwise bent": Logistic(loss="pointwise", knots=(0.5, 0.8, 0.95)),
    "mlp": MLP(hidden=(16,), epochs=25, batch_lists=64, learning_rate=0.03),
    "ensemble": MLP(hidden=(16, 8), members=2, epochs=12, batch_lists=64, learning_rate=0.03),
    "gbdt": GBDT(num_leaves=4, min_data=5, learning_rate=0.1),
}
LISTS = {"gbdt": 2000}  # trees need more lists than the others: their steps are coarse
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
def fitted(kind, shuffled=False, n_lists=None):
    return KINDS[kind].fit(*choices(n_lists or LISTS.get(kind, 300), shuffled=shuffled), 7, quiet)


def first_is_right(scorer, x, offsets, y):
    lists = itertools.pairwise(offsets)
    score = scorer.score(x)
    return np.mean([y[start + np.argmax(score[start:end])] for start, end in lists])


def test_the_contract_covers_every_scorer():
    assert {type(scorer) for scorer in KINDS.values()} == set(SCORERS.values())
    assert {name: member.name for name, member in SCORERS.items()} == {name: name for name in SCORERS}


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
    KINDS[kind].check_arrays(arrays)
    restored = KINDS[kind].restore(arrays)
    np.testing.assert_array_equal(restored.score(x), fitted(kind).score(x))
    np.testing.assert_array_equal(restored.contributions(x), fitted(kind).contributions(x))
    np.testing.assert_array_equal(x, before)
    assert restored.base_score == fitted(kind).base_score
    assert {key: array.tobytes() for key, array in restored.arrays().items()} == {
        key: array.tobytes() for key, array in arrays.items()
    }
    assert all(array.dtype in (np.float32, np.uint8) for array in arrays.values())


@every_scorer
def test_stored_arrays_of_a_wrong_type_shape_or_name_are_refused_with_both(kind):
    arrays = fitted(kind).arrays()
    for name, array in arrays.items():
        wrongs = {"a type": array.astype(np.float64), "a shape": array[None], "an axis too few": array.sum()}
        for wrong in wrongs.values():
            with pytest.raises(ArtifactError) as raised:
                KINDS[kind].check_arrays(arrays | {name: wrong})
            assert str(raised.value).startswith(f"scorer/{name} is {wrong.dtype} {wrong.shape}, and should be ")
        with pytest.raises((KeyError, ArtifactError), match=rf"scorer/{name}|scorer holds no layer|scorer gives \d"):
            KINDS[kind].check_arrays({key: array for key, array in arrays.items() if key != name})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"scale": np.zeros(4, np.float32)}, "scorer/scale holds values that are not above 0"),
        ({"scale": np.ones(3, np.float32)}, r"scorer/scale is float32 \(3,\), and should be float32 \(4\)"),
        ({"bias0": np.ones((1, 2), np.float32)}, r"scorer/bias0 is float32 \(1, 2\), and should be float32 \(1, 1\)"),
        ({"weight0": np.ones((1, 4, 2), np.float32), "bias0": np.ones((1, 2), np.float32)},
         "scorer gives 2 numbers a row of 1 networks"),
        ({"weight0": np.ones((0, 4, 1), np.float32), "bias0": np.ones((0, 1), np.float32)},
         "scorer gives 1 numbers a row of 0 networks"),
        ({"weight0": None}, "scorer holds no layer"),
    ],
)  # fmt: skip
def test_dense_layers_that_do_not_fit(change, problem):
    arrays = {name: a for name, a in (fitted("listwise").arrays() | change).items() if a is not None}
    with pytest.raises(ArtifactError, match=f"^{problem}$"):
        Logistic().check_arrays(arrays)


@every_scorer
def test_a_missing_package_is_named_before_any_work(kind, monkeypatch):
    scorer = KINDS[kind]
    require_packages(scorer)
    assert is_ready(scorer)
    (module, extra) = next(iter(scorer.needs.items()))
    monkeypatch.setitem(sys.modules, module, None)
    message = (
        f"fitting the scorer '{scorer.name}' needs {module}, which is not installed: pip install 'recsys[{extra}]'"
    )
    assert not is_ready(scorer)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        scorer.fit(*choices(3), 7, quiet)


@every_scorer
def test_a_seed_decides_every_weight(kind):
    one, again = (KINDS[kind].fit(*choices(100), seed, quiet).arrays() for seed in (7, 7))
    assert {key: array.tobytes() for key, array in one.items()} == {key: a.tobytes() for key, a in again.items()}


def test_another_seed_is_another_network():
    one, other = (KINDS["mlp"].fit(*choices(100), seed, quiet).arrays() for seed in (7, 8))
    assert one["weight0"].tobytes() != other["weight0"].tobytes()


def test_a_score_depends_on_its_row_alone_however_many_there_are():
    rng = np.random.default_rng(0)
    sizes = [7, 6, 5, 1]
    weights = [rng.normal(size=(3, *shape)).astype(np.float32) for shape in itertools.pairwise(sizes)]
    biases = [rng.normal(size=(3, out)).astype(np.float32) for out in sizes[1:]]
    scorer = DenseScorer(rng.normal(size=7).astype(np.float32), np.full(7, 0.1, np.float32), weights, biases)
    x = rng.normal(size=(2 * dense.CACHED + 9, 7)).astype(np.float32)
    whole, right = scorer.score(x), []
    for row in x[:: dense.CACHED // 4].astype(np.float64):
        layers = [np.clip((row - scorer.mean) / scorer.scale, -dense.LIMIT, dense.LIMIT)] * 3
        for depth, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            layers = [np.maximum(z, 0) if depth else z for z in layers]
            layers = [z @ w + b for z, w, b in zip(layers, weight, bias, strict=True)]
        right.append(np.mean(layers))
    np.testing.assert_allclose(whole[:: dense.CACHED // 4], right, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scorer.score(x[-3:]), whole[-3:], rtol=1e-5, atol=1e-5)
    assert scorer.score(x[:0]).shape == (0,)


@every_scorer
def test_contributions_sum_to_the_score_less_the_base_score(kind):
    scorer, (x, *_) = fitted(kind), choices(60, seed=3)
    parts = scorer.contributions(x)
    gain = scorer.score(x) - scorer.base_score
    if isinstance(scorer, DenseScorer):
        assert scorer.base_score == scorer.score(scorer.mean[None, :])[0]
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
    """At the optimum no step in any direction lowers the penalised loss, computed list by list."""
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
    """Of [1, 1, 0] the ones are chosen three times as often as of [0, 0, 1] the zeros: 3 to 1.

    A softmax in which the two choices share what there is ends at 2.3 to 1.
    """
    often = np.arange(2000)[:, None] % 4 > 0
    x = np.where(often, [1, 1, 0], [0, 0, 1]).reshape(-1, 1).astype(np.float32)
    y = np.tile(np.array([1, 1, 0], np.float32), 2000)
    zero, one = scorer.fit(x, np.arange(2001) * 3, y, 7, quiet).score(np.array([[0], [1]], np.float32))
    assert np.exp(one - zero) == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("scorer", [Logistic(), MLP(hidden=(8,), epochs=10), GBDT(min_data=5)])
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
    bends = logistic._bends(z, knots)
    weight, bias = rng.normal(size=3 * (1 + len(knots))).astype(np.float32), float(rng.normal())
    fitted = DenseScorer(np.zeros(3, np.float32), np.ones(3, np.float32), *logistic._as_layers(bends, weight, bias))
    cut = np.clip(z, -10, 10)
    expected = bias + cut @ weight[:3]
    for number, knot in enumerate(knots, start=1):
        expected += np.maximum(cut - np.quantile(z, knot, axis=0), 0) @ weight[3 * number : 3 * number + 3]
    np.testing.assert_allclose(fitted.score(z), expected, rtol=1e-4, atol=1e-3)
