"""Summaries that quote: a few sentences that stand for many, chosen from them and never written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import BoolArray, FloatArray, unit_rows
from recsys.embedding.words import split_words

LEAST_WORDS, MOST_LETTERS = 3, 240  # of a sentence that can be quoted
MUCH_ALIKE = 0.75  # cosine, after the mean is taken off, from which on a second sentence says the same


@dataclass(frozen=True)
class Sentence:
    """One sentence of a review, character for character.

    Attributes:
        text: As written.
        source: The row of its review.
    """

    text: str
    source: int


def quotable(text: str) -> bool:
    """Whether a sentence says enough, and little enough, to be quoted."""
    return len(split_words(text)) >= LEAST_WORDS and len(text) <= MOST_LETTERS


def cover(vectors: FloatArray, weight: NDArray[np.float64], k: int, allowed: BoolArray | None = None) -> list[int]:
    """Choose sentences that stand for all, by greedy facility location.

    The method: Lin and Bilmes 2011, "A Class of Submodular Functions for Document Summarization". Each step adds the
    sentence that raises the sum over all sentences of their likeness to the nearest chosen one most; the result has at
    least (1 - 1/e) of the best possible sum. Sentences nearest to the mean are all alike; these are not.

    Args:
        vectors: Of all sentences `(n, d)`.
        weight: How much each sentence counts `(n,)`, such as one over the number of its writer's.
        k: How many to choose at most.
        allowed: Which may be chosen `(n,)`; None for all.

    Returns:
        Rows, the most telling first. Fewer than `k` where what is left repeats the chosen.
    """
    if not len(vectors):
        return []
    likeness = np.clip(centred_cosines(vectors), 0, None)
    open_ = np.ones(len(vectors), dtype=bool) if allowed is None else allowed.copy()
    covered, chosen = np.zeros(len(vectors)), list[int]()
    while len(chosen) < k and open_.any():
        gain = np.where(open_, weight @ np.clip(likeness - covered[:, None], 0, None), -1.0)
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        chosen.append(best)
        covered = np.maximum(covered, likeness[:, best])
        open_ &= likeness[best] < MUCH_ALIKE
    return chosen


def centred_cosines(vectors: FloatArray) -> FloatArray:
    """Return the cosine of each pair `(n, n)` after the mean is taken off: some encoders' vectors share a direction."""
    unit = unit_rows(vectors)
    centred = unit_rows(unit - unit.mean(axis=0)) if len(unit) > 1 else unit
    return centred @ centred.T


def normal_form(text: str) -> str:
    """Return what two sentences share that differ in case and marks alone."""
    return " ".join(re.findall(r"\w+", text.lower()))


def first_of_each(texts: Sequence[str]) -> BoolArray:
    """Whether no earlier text has the same normal form `(n,)`."""
    seen: set[str] = set()
    first = np.zeros(len(texts), dtype=bool)
    for row, text in enumerate(texts):
        form = normal_form(text)
        first[row] = form not in seen
        seen.add(form)
    return first
