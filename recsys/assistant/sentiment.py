"""Whether a text is content or not: logistic regression on its vector, learned from the shop's own stars.

Where the shop has fewer bad reviews than it takes to learn from, a head that comes with the library takes over unless
the shop's own is better even so, and it is said so.
A head is the direction and the threshold of a logistic regression for one encoder: 385 numbers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.arrays import BoolArray, FloatArray, LongArray, unit_rows
from recsys.config import EmbeddingConfig
from recsys.errors import ArtifactError, DataError
from recsys.extras import require
from recsys.storage.content_addressed import is_intact

log = logging.getLogger(__name__)

ENOUGH = 100  # bad reviews from which on a shop's own stars suffice
FEW = 20  # bad reviews below which they teach nothing, and below which a head is not calibrated on them either
FOLDS = 5
MOST = 50_000  # reviews that are learned from
STRENGTHS = (1.0, 10.0, 100.0)  # inverse weights of the ridge that are tried
HEADS = Path(__file__).parent / "heads"
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear judge of vectors: `unit_rows(vectors) @ weight + bias` is the log odds at even odds.

    Attributes:
        weight: `(d,)` float64.
        bias: The value of a vector at a right angle to `weight`.
        slope, shift: From log odds at even odds to those of this shop.
    """

    weight: Doubles
    bias: float
    slope: float = 1.0
    shift: float = 0.0

    def log_odds(self, vectors: FloatArray) -> Doubles:
        """Return the log odds `(n,)` that the writer is content, as if as many were as were not."""
        return unit_rows(vectors).astype(np.float64) @ self.weight + self.bias

    def probability(self, log_odds: Doubles) -> Doubles:
        """Return the probability `(n,)` that the writer gave good stars, for log odds at even odds."""
        return sigmoid(self.slope * log_odds + self.shift)


@dataclass(frozen=True, eq=False)
class Sentiment:
    """A head, and what each review of the shop is by it.

    Attributes:
        head: Judges any further text.
        log_odds: Of each review `(n,)`, at even odds. Rated ones are judged by heads that saw none of their writer's.
        source: Where the head comes from, as the end of a sentence.
        measured: `positives`, `negatives`, and `auc` over them, where there are both; `head` is `own` or `packaged`;
            `calibrated` says whether probabilities follow the shop's stars.
    """

    head: Head
    log_odds: Doubles
    source: str
    measured: Mapping[str, Any]

    @property
    def probability(self) -> Doubles:
        """The probability of good stars of each review `(n,)`."""
        return self.head.probability(self.log_odds)


def learn_sentiment(vectors: FloatArray, frame: pl.DataFrame, positive: float, negative: float,
                    settings: EmbeddingConfig) -> Sentiment:  # fmt: skip
    """Learn from stars what content and discontent texts are like, or take the head that comes with the library.

    With fewer than `ENOUGH` bad reviews the better of both heads is taken. Equal texts of one reviewer count once.
    Folds are by reviewer: nobody's style is learned and judged at once.

    Args:
        vectors: Mean-pooled vectors of the reviews `(n, d)`.
        frame: Their `user_id`, `text` and `stars`, in the same order.
        positive: Stars from which on a review is good.
        negative: Stars up to which it is bad; those between teach nothing.
        settings: What encoded the reviews.

    Raises:
        DataError: There are too few bad or good reviews, and no head for this encoder.
    """
    stars = frame["stars"].to_numpy()
    rated = np.flatnonzero(((stars >= positive) | (stars <= negative)) & first_of_writer(frame))
    good = stars[rated] >= positive
    counts = {"positives": int(good.sum()), "negatives": int((~good).sum())}
    fewest, ready = min(counts.values()), load_head(settings)
    if fewest < FEW and ready is None:
        others = ", ".join(_known_heads())
        advice = f"; set `reviews: {{model: {others}}}`, for which one does" if others else ""
        raise DataError(
            f"{counts['negatives']:,} reviews of {negative:g} stars or less and {counts['positives']:,} of "
            f"{positive:g} or more: learning what discontent sounds like needs {FEW} of each, and no head comes "
            f"with the library for {settings.model}{advice}"
        )
    if fewest < FEW:
        assert ready is not None
        return _ready_made(ready, vectors, rated, good, counts)
    strength, judged = choose_strength(vectors[rated], good, writers_of(frame)[rated])
    auc = area_under_curve(judged, good)
    if fewest < ENOUGH and ready is not None:
        theirs = _ready_made(ready, vectors, rated, good, counts)
        if theirs.measured["auc"] >= auc:
            return theirs
    head = _calibrated(_fit(vectors[rated], good, strength), judged, good)
    log_odds = head.log_odds(vectors)
    log_odds[rated] = judged
    few = "" if fewest >= ENOUGH else f", fewer than the {ENOUGH} that it takes to learn well"
    source = f"the shop's own stars: {counts['positives']:,} good and {counts['negatives']:,} bad reviews{few}"
    measured = counts | {"auc": auc, "calibrated": True, "head": "own"}
    return Sentiment(head, _spread_to_copies(log_odds, rated, frame), source, measured)


def _ready_made(
    head: Head, vectors: FloatArray, rated: LongArray, good: BoolArray, counts: dict[str, int]
) -> Sentiment:
    log_odds = head.log_odds(vectors)
    calibrated = min(counts.values()) >= FEW
    if calibrated:
        head = _calibrated(head, log_odds[rated], good)
    auc = area_under_curve(log_odds[rated], good) if min(counts.values()) else None
    source = (f"a head that comes with the library: the shop's own {counts['negatives']:,} bad and "
              f"{counts['positives']:,} good reviews are too few to learn better from")  # fmt: skip
    return Sentiment(head, log_odds, source, counts | {"auc": auc, "calibrated": calibrated, "head": "packaged"})


def choose_strength(vectors: FloatArray, good: BoolArray, groups: LongArray) -> tuple[float, Doubles]:
    """Return the ridge with the least loss out of fold, and the log odds out of fold `(n,)` that it gave."""
    tried = {strength: _out_of_fold(vectors, good, groups, strength) for strength in STRENGTHS}
    best = max(tried, key=lambda strength: area_under_curve(tried[strength], good))
    return best, tried[best]


def _out_of_fold(vectors: FloatArray, good: BoolArray, groups: LongArray, strength: float) -> Doubles:
    from sklearn.model_selection import StratifiedGroupKFold

    judged = np.zeros(len(good))
    for known, new in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(vectors, good, groups):
        judged[new] = _fit(vectors[known], good[known], strength).log_odds(vectors[new])
    return judged


def _fit(vectors: FloatArray, good: BoolArray, strength: float) -> Head:
    require("train", "learning what reviews say", "sklearn")
    from sklearn.linear_model import LogisticRegression

    kept = np.arange(len(good))
    if len(good) > MOST:  # all that are rarer, and a sample of the others
        drawn = np.random.default_rng(0).permutation(len(good))
        rare = good == (good.mean() < 0.5)
        kept = np.sort(drawn[np.argsort(~rare[drawn], kind="stable")][:MOST])
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1_000)
    model.fit(unit_rows(vectors[kept]).astype(np.float64), good[kept])
    return Head(model.coef_[0], float(model.intercept_[0]))


def _calibrated(head: Head, log_odds: Doubles, good: BoolArray) -> Head:
    """Fit slope and shift to stars (Platt 1999); a slope below 0 would turn the head around and is not taken."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e6, max_iter=1_000).fit(log_odds[:, None], good)
    return replace(head, slope=max(float(model.coef_[0, 0]), 0.0), shift=float(model.intercept_[0]))


def load_head(settings: EmbeddingConfig) -> Head | None:
    """Return the head that comes with the library for an encoder; None where there is none.

    Raises:
        ArtifactError: Its file is damaged.
    """
    known = _known_heads().get(settings.model)
    if known is None or settings.encoder != "transformer" or settings.prefix not in (None, known["prefix"]):
        return None
    path = HEADS / known["file"]
    if not path.is_file() or not is_intact(path):
        raise ArtifactError(f"{path} is missing or damaged: install recsys again")
    numbers = np.load(path, allow_pickle=False).astype(np.float64)
    return Head(numbers[:-1], float(numbers[-1]))


@cache
def _known_heads() -> dict[str, dict[str, Any]]:
    """What heads come with the library, by the model of their encoder."""
    return json.loads((HEADS / "heads.json").read_text(encoding="utf-8"))


def writers_of(frame: pl.DataFrame) -> LongArray:
    """Return a number for each review's writer `(n,)`; a review of an unknown writer has one of its own."""
    own = pl.concat_str(pl.lit("row "), pl.int_range(pl.len()).cast(pl.String))
    who = pl.coalesce(pl.concat_str(pl.lit("user "), "user_id"), own)
    return frame.select(who.rank("dense")).to_series().to_numpy().astype(np.int64)


def first_of_writer(frame: pl.DataFrame) -> BoolArray:
    """Whether no earlier row has the same writer, text and stars."""
    keys = pl.DataFrame({"who": writers_of(frame), "text": frame["text"]})
    return keys.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()


def _spread_to_copies(log_odds: Doubles, rated: LongArray, frame: pl.DataFrame) -> Doubles:
    """Give copies of a text by one writer the value that was found out of fold for the first of them."""
    table = pl.DataFrame({"who": writers_of(frame), "text": frame["text"]})
    first = table.with_row_index("row")[rated].unique(["who", "text"], keep="first").select("who", "text", "row")
    found = table.join(first, on=["who", "text"], how="left", maintain_order="left")["row"]
    place = found.fill_null(0).to_numpy()
    return np.where(found.is_null().to_numpy(), log_odds, log_odds[place])


def area_under_curve(scores: Doubles, good: BoolArray) -> float:
    """Return the chance that a good review scores above a bad one, ties half."""
    from sklearn.metrics import roc_auc_score  # of an extra

    return float(roc_auc_score(good, scores))


def sigmoid(log_odds: Doubles) -> Doubles:
    """Return the probability of log odds."""
    return np.asarray(np.exp(-np.logaddexp(0, -log_odds)))
