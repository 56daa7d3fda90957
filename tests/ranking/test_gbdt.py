"""Trees: the numbers of LightGBM from plain arrays, and text models that mean harm."""

import itertools
import math
import os
import re
import subprocess
import sys

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import construct
from recsys.errors import ArtifactError, ConfigError
from recsys.ragged import offsets_of
from recsys.ranking.scorers import trees
from recsys.ranking.scorers.gbdt import END, GBDT, parse
from recsys.ranking.scorers.registry import SCORERS


def quiet(stage, done, total):
    assert 0 < done <= total


def random_lists(rng, n_lists, width):
    """Lists of random features, some of few values, and random choices that count differently."""
    offsets = offsets_of(rng.integers(2, 12, n_lists))
    x = rng.normal(size=(offsets[-1], width)).astype(np.float32)
    x[:, ::3] = np.round(x[:, ::3])
    useful = x[:, 0] + x[:, -1] ** 2 + rng.gumbel(size=len(x))
    y = np.zeros(len(x), np.float32)
    for start, end in itertools.pairwise(offsets):
        y[start + np.argmax(useful[start:end])] = rng.choice([1, 2])
    return x, offsets, y


def text_of(fitted):
    return fitted.text.tobytes().decode()


@pytest.fixture(scope="module")
def fitted():
    return GBDT(min_data=3, patience=200, rounds=200).fit(*random_lists(np.random.default_rng(0), 300, 6), 7, quiet)


# The numbers of LightGBM


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_lists=st.integers(1, 60),
    width=st.integers(1, 6),
    leaves=st.sampled_from([2, 3, 8, 31, 32, 33, 64]),
)
def test_scores_and_contributions_are_those_of_lightgbm(seed, n_lists, width, leaves):
    rng = np.random.default_rng(seed)
    x, offsets, y = random_lists(rng, n_lists, width)
    fitted = GBDT(num_leaves=leaves, min_data=1, rounds=20).fit(x, offsets, y, seed, quiet)
    rival = lightgbm.Booster(model_str=text_of(fitted))
    cuts = np.repeat(fitted.forest.threshold.ravel()[:50, None], width, axis=1).astype(np.float32)
    cuts = cuts[np.abs(cuts[:, 0]) > 1e-30]  # LightGBM reads what is within 1e-35 of 0 as 0
    above = np.nextafter(cuts, np.float32(np.inf))
    rows = np.concatenate([x, 3 * rng.normal(size=(20, width)).astype(np.float32), cuts, above])
    score = fitted.score(rows)
    np.testing.assert_allclose(score, rival.predict(rows), rtol=1e-6, atol=1e-6)
    exact = rival.predict(rows, pred_contrib=True)
    np.testing.assert_allclose(fitted.contributions(rows), exact[:, :-1], rtol=1e-9, atol=1e-9)
    assert fitted.base_score == pytest.approx(exact[0, -1], abs=1e-9)
    np.testing.assert_allclose(fitted.contributions(rows).sum(axis=1) + fitted.base_score, score, rtol=1e-6, atol=1e-6)


def test_more_trees_than_a_block_and_more_rows_than_a_chunk():
    """A single list: none is held out, and boosting goes on to the end."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3000, 6)).astype(np.float32)
    fitted = GBDT(rounds=200).fit(x, np.array([0, 3000]), (rng.random(3000) < 0.1).astype(np.float32), 7, quiet)
    assert len(fitted.forest.nodes) == 200 > trees.TREES
    x = np.random.default_rng(1).normal(size=(2 * trees.ROWS + 9, 6)).astype(np.float32)
    np.testing.assert_allclose(fitted.score(x), lightgbm.Booster(model_str=text_of(fitted)).predict(x), rtol=1e-6)
    np.testing.assert_array_equal(fitted.score(x[-3:]), fitted.score(x)[-3:])


def test_contributions_are_shapley_values_by_their_definition(fitted):
    """Over all coalitions: what a feature adds, where the features that are missing take both ways by their counts."""
    forest, x = fitted.forest, np.random.default_rng(2).normal(size=(2, 6)).astype(np.float32)

    def expected(tree, row, known, node=0):
        if node < 0:
            return forest.value[tree, -node - 1]
        children, feature = (forest.left[tree, node], forest.right[tree, node]), forest.feature[tree, node]
        if feature in known:
            return expected(tree, row, known, children[int(row[feature] > forest.threshold[tree, node])])
        counts = [forest.node_count[tree, c] if c >= 0 else forest.leaf_count[tree, -c - 1] for c in children]
        return sum(n * expected(tree, row, known, c) for n, c in zip(counts, children, strict=True)) / sum(counts)

    def worth(row, known):
        return sum(expected(tree, row, known) for tree in range(len(forest.nodes)))

    for row, parts in zip(x, fitted.contributions(x), strict=True):
        worths = {known: worth(row, known) for n in range(7) for known in itertools.combinations(range(6), n)}
        assert worths[()] == pytest.approx(fitted.base_score)
        for feature, part in enumerate(parts):
            value = sum(
                (worths[tuple(sorted((*known, feature)))] - worths[known]) / math.comb(5, len(known)) / 6
                for known in worths
                if feature not in known
            )
            assert part == pytest.approx(value, abs=1e-9)


def test_threads_do_not_change_the_model(monkeypatch):
    lists = random_lists(np.random.default_rng(3), 400, 5)
    texts = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        texts.append(text_of(GBDT().fit(*lists, 7, quiet)))
    assert texts[0] == texts[1]


def test_boosting_stops_when_held_out_lists_gain_nothing():
    x, offsets, y = random_lists(np.random.default_rng(4), 200, 5)
    steps = []
    fitted = GBDT(patience=5).fit(x, offsets, y, 7, lambda *step: steps.append(step))
    assert len(steps) - 1 == len(fitted.forest.nodes) + 5 < 500
    assert steps[0] == ("scorer", 1, 500)
    assert steps[-1] == ("scorer", 500, 500)


def test_a_list_longer_than_lightgbm_takes():
    x = np.zeros((10_001, 2), np.float32)
    message = "a list holds 10001 candidates, and LightGBM learns from at most 10000: set scorer.negatives (now 0) to"
    with pytest.raises(ConfigError, match=re.escape(message)):
        GBDT(negatives=0).fit(x, np.array([0, 10_001]), np.ones(10_001, np.float32), 7, quiet)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_leaves": 65}, "num_leaves: Input should be less than or equal to 64 (got 65)"),
        ({"rounds": 5001}, "rounds: Input should be less than or equal to 5000 (got 5001)"),
        ({"leaves": 7}, "leaves: unknown setting of 'gbdt'; did you mean 'num_leaves'?"),
    ],
)
def test_settings_out_of_range(settings, problem):
    with pytest.raises(ConfigError, match=rf"^scorer(\.|: ){re.escape(problem)}"):
        construct(SCORERS, "gbdt", settings, "scorer")


def test_rows_of_other_features(fitted):
    for rows in (np.zeros((2, 5), np.float32), np.zeros((2, 7), np.float32)):
        message = f"rows of {rows.shape[1]} features, and the trees were learned from 6"
        with pytest.raises(ValueError, match=message):
            fitted.score(rows)
        with pytest.raises(ValueError, match=message):
            fitted.contributions(rows)


def test_scoring_imports_no_training_library(fitted, tmp_path):
    np.save(tmp_path / "text.npy", fitted.text)
    script = """
import sys
import numpy as np
from recsys.ranking.scorers.registry import SCORERS
text = {"text": np.load(sys.argv[1])}
scorer = SCORERS["gbdt"]().restore(text)
scorer.score(np.zeros((3, 6), np.float32)), scorer.contributions(np.zeros((3, 6), np.float32))
print(sorted({"lightgbm", "sklearn", "scipy", "torch"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "text.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


# Texts that mean harm

TREE = """num_leaves=3
num_cat=0
split_feature=0 1
split_gain=2 1
threshold=0.5 -1.5
decision_type=2 2
left_child=1 -1
right_child=-2 -3
leaf_value=0.1 -0.2 0.3
leaf_weight=4 3 2
leaf_count=4 3 2
internal_value=0 0.1
internal_weight=9 6
internal_count=9 6
is_linear=0
shrinkage=0.1
"""
HEAD = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=lambdarank
"""
WHOLE = f"{HEAD}\nTree=0\n{TREE}\n\n{END}"


def test_a_text_by_hand():
    forest = parse(WHOLE)
    x = np.array([[0, -2], [0, 2], [1, 0], [0.5, -1.5]], np.float32)
    np.testing.assert_allclose(forest.score(x), [0.1, 0.3, -0.2, 0.1])
    assert forest.base_score == pytest.approx((4 * 0.1 + 3 * -0.2 + 2 * 0.3) / 9)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("version=v4", "version=v3", "the header: version is 'v3', and should be 'v4'"),
        ("version=v4\n", "", "the header: version is missing"),
        ("num_class=1", "num_class=2", "the header: num_class is '2', and should be '1'"),
        ("iteration=1", "iteration=3", "the header: num_tree_per_iteration is '3', and should be '1'"),
        ("label_index=0", "average_output", "the header: it averages its trees, and should sum them"),
        ("_idx=1", "_idx=-1", "the header: max_feature_idx is '-1', and should be 0 to 99999"),
        (
            "_idx=1",
            "_idx=99999999999999999999999",
            "the header: max_feature_idx is '99999999999999999999', and should be",
        ),
        ("_idx=1", "_idx=0", "tree 0: split_feature holds 1, and should be a whole number from 0 to 0"),
        ("end of trees", "end of", "the header: the text does not end with 'end of trees'"),
        ("\nTree=0\n", "\n", "the header: it holds 0 trees, and should hold 1 to 5000"),
        ("num_leaves=3\n", "", "tree 0: num_leaves is missing"),
        ("num_leaves=3", "num_leaves=65", "tree 0: num_leaves is '65', and should be 1 to 64"),
        ("num_leaves=3", "num_leaves=0", "tree 0: num_leaves is '0', and should be 1 to 64"),
        ("num_leaves=3", "num_leaves=4", "tree 0: split_feature holds 2 numbers, and should hold 3"),
        ("num_cat=0", "num_cat=1", "tree 0: num_cat is '1', and should be '0'"),
        ("is_linear=0", "is_linear=1", "tree 0: is_linear is '1', and should be '0'"),
        ("=0 1\n", "=0 7\n", "tree 0: split_feature holds 7, and should be a whole number from 0 to 1"),
        ("=0 1\n", "=0 -1\n", "tree 0: split_feature holds -1, and should be a whole number from 0 to 1"),
        ("0.5 -1.5", "0.5 nan", "tree 0: threshold holds nan, and should be a finite number"),
        ("0.5 -1.5", "0.5 1e999", "tree 0: threshold holds inf, and should be a finite number"),
        ("0.5 -1.5", "0.5 x", "tree 0: threshold: could not convert string to float: 'x'"),
        ("0.5 -1.5", "0.5", "tree 0: threshold holds 1 numbers, and should hold 2"),
        ("type=2 2", "type=2 1", "tree 0: decision_type holds 1, and should be 0 or 2 (numeric, nothing missing)"),
        ("type=2 2", "type=2 10", "tree 0: decision_type holds 10, and should be 0 or 2"),
        ("left_child=1 -1", "left_child=0 -1", "tree 0: left_child and right_child do not lead once to each node"),
        ("left_child=1 -1", "left_child=9 -1", "tree 0: left_child holds 9, and should be a whole number from -3 to 1"),
        ("left_child=1 -1", "left_child=-1 -1", "tree 0: left_child and right_child do not lead once to each node"),
        ("left_child=1 -1", "left_child=-1 1", "tree 0: left_child or right_child leads back to a node before"),
        ("0.1 -0.2 0.3", "0.1 -0.2 inf", "tree 0: leaf_value holds inf, and should be a finite number"),
        (
            "leaf_count=4 3 2",
            "leaf_count=4 3 0",
            "tree 0: leaf_count holds 0, and should be a whole number from 1 to 1e+18",
        ),
        (
            "internal_count=9 6",
            "internal_count=9 0.5",
            "tree 0: internal_count holds 0.5, and should be a whole number from 1 to 1e+18",
        ),
        ("_child=1 -1", "_child=1.5 -1", "tree 0: left_child holds 1.5, and should be a whole number from -3 to 1"),
    ],
)
def test_a_text_that_no_fit_made(old, new, problem):
    assert old in WHOLE
    with pytest.raises(ArtifactError) as raised:
        parse(WHOLE.replace(old, new))
    assert f"scorer/text is no model of a 'gbdt' scorer: {problem}" in str(raised.value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_text_damaged_anywhere_is_refused_or_scores(data):
    """Bytes are changed, cut out or put in anywhere: an `ArtifactError`, or a model that gives finite numbers."""
    content = bytearray(WHOLE.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place, length = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 9))
        content[place : place + length] = data.draw(st.binary(max_size=9) | st.sampled_from([b"-", b"9", b"=", b"\n"]))
    text = np.frombuffer(bytes(content), np.uint8)
    try:
        scorer = GBDT().restore({"text": text})
    except ArtifactError as error:
        refusal = str(error)
    else:
        x = np.zeros((2, scorer.forest.width), np.float32)
        with np.errstate(all="ignore"):
            assert (scorer.score(x).shape, scorer.contributions(x).shape) == ((2,), x.shape)
        return
    assert refusal.startswith("scorer/text is no model of a 'gbdt' scorer: ")
