"""Sentences that stand for others: coverage, no repetition, the choice of brute force."""

from __future__ import annotations

import itertools

import numpy as np

from recsys.assistant.summaries import centred_cosines, cover, first_of_each, quotable


def topics(sizes: list[int], seed: int = 0, dimension: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Draw vectors around one direction a topic, on top of a direction that all share; return also their topics."""
    rng = np.random.default_rng(seed)
    middles = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0][: len(sizes)]
    topic = np.repeat(np.arange(len(sizes)), sizes)
    vectors = middles[topic] + 0.1 * rng.standard_normal((len(topic), dimension)) + 3.0
    return vectors.astype(np.float32), topic


def test_each_topic_is_quoted_once_and_the_largest_first() -> None:
    vectors, topic = topics([12, 3, 6])
    chosen = cover(vectors, np.ones(len(vectors)), 3)
    assert [topic[row] for row in chosen] == [0, 2, 1]


def test_weights_are_votes() -> None:
    vectors, topic = topics([12, 3])
    weight = np.where(topic == 0, 1 / 12, 1)  # one person wrote the first twelve
    assert topic[cover(vectors, weight, 1)[0]] == 1


def test_greedy_choice_is_near_the_best_of_all() -> None:
    vectors, _ = topics([5, 4, 3], seed=3)
    likeness = np.clip(centred_cosines(vectors), 0, None)
    best = max(likeness[:, list(chosen)].max(1).sum() for chosen in itertools.combinations(range(len(vectors)), 3))
    assert likeness[:, cover(vectors, np.ones(len(vectors)), 3)].max(1).sum() >= (1 - 1 / np.e) * best


def test_what_may_not_be_quoted_still_counts_but_is_not_chosen() -> None:
    vectors, topic = topics([6, 6])
    allowed = topic == 1
    allowed[0] = True
    chosen = cover(vectors, np.ones(len(vectors)), 2, allowed)
    assert {int(topic[row]) for row in chosen} == {0, 1}
    assert 0 in chosen


def test_nothing_is_said_twice() -> None:
    same = np.tile(np.arange(4, dtype=np.float32), (5, 1))
    assert len(cover(same, np.ones(5), 3)) <= 1
    assert cover(np.empty((0, 4), np.float32), np.empty(0), 3) == []
    assert len(cover(np.ones((1, 4), np.float32), np.ones(1), 3)) == 1
    assert first_of_each(["Great gift!", "great  gift", "很好。", "很好", "Bad"]).tolist() == [
        True,
        False,
        True,
        False,
        True,
    ]


def test_quotable() -> None:
    assert [quotable(text) for text in ("Great", "It broke at once.", "质量很好", "好的", "x " * 200)] == [
        False, True, True, False, False,
    ]  # fmt: skip
