"""Scorers whose explanations are known, and the users that explanations are asked for."""

from __future__ import annotations

import itertools

import numpy as np

from recsys.ranking.scorers.dense import DenseScorer

USER = "u029"
USERS = ["u000", "u029", "u123", "u599", "nobody"]


def network(rng: np.random.Generator, hidden: list[int], members: int, width: int) -> DenseScorer:
    """A scorer with random weights, members and layers."""
    shapes = list(itertools.pairwise([width, *hidden, 1]))
    return DenseScorer(
        rng.normal(size=width).astype(np.float32),
        rng.uniform(0.2, 3, width).astype(np.float32),
        [(rng.normal(size=(members, a, b)) / np.sqrt(a)).astype(np.float32) for a, b in shapes],
        [rng.normal(size=(members, b)).astype(np.float32) for _, b in shapes],
    )


def adding(width: int) -> DenseScorer:
    """A scorer that adds the features."""
    one = np.ones((1, width, 1), np.float32)
    return DenseScorer(np.zeros(width, np.float32), np.ones(width, np.float32), [one], [np.zeros((1, 1), np.float32)])
