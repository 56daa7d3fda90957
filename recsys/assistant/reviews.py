"""What buyers say: by item the share that is content, how it moves, complaints, contradictions, aspects, a summary.

Every quote is a part of a review, character for character, with the review's id. Reviewers are never named. A reviewer
counts once an item, however often they write.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys import formatting
from recsys.arrays import FloatArray
from recsys.assistant.aspects import AspectWords
from recsys.assistant.intervals import Share, difference, wilson
from recsys.assistant.sentences import split_sentences
from recsys.assistant.sentiment import Sentiment, learn_sentiment, sigmoid
from recsys.assistant.summaries import Sentence, cover, first_of_each, quotable
from recsys.config import Config, EmbeddingConfig, nearest
from recsys.embedding.base import Encoder
from recsys.embedding.coverage import describe_unread
from recsys.embedding.registry import load_encoder
from recsys.embedding.store import VectorStore
from recsys.errors import UnknownIdError
from recsys.tables.catalog import load_catalog
from recsys.tables.reviews import Reviews, load_reviews
from recsys.types import DAY

log = logging.getLogger(__name__)

QUOTES = 3  # of each kind
NEWEST_REVIEWS = 500  # of an item, whose sentences are read
RECENT_DAYS = 90
SURE = 0.9  # probability at even odds from which on a text contradicts stars of the other kind
CLEAR = 0.7  # probability at even odds from which on a sentence is praise, and below one less it, a complaint


@dataclass(frozen=True)
class Quote:
    """A review or a part of it, as written.

    Attributes:
        review_id: Of the review.
        text: Characters of the review.
        stars: Of the review; None where it has none.
        time: When it was written, ISO 8601 or the place in order; None where unknown.
    """

    review_id: str
    text: str
    stars: float | None
    time: str | int | None


@dataclass(frozen=True)
class Trend:
    """The share of content reviewers lately and before, and whether they differ beyond chance.

    Attributes:
        recent, before: Shares of those who wrote in the last `days` before the shop's newest review, and earlier.
        change, low, high: The difference with its 95% interval.
        verdict: `rising`, `falling` or `steady`.
        days: How long `recent` is.
    """

    recent: Share
    before: Share
    change: float
    low: float
    high: float
    verdict: str
    days: int


@dataclass(frozen=True)
class Aspect:
    """How many reviewers praise an aspect and how many complain of it, each counted once; with one quote of each."""

    name: str
    praised: int
    complained: int
    praise: Quote | None
    complaint: Quote | None


@dataclass(frozen=True)
class Standing:
    """One item in the overview.

    Attributes:
        item_id, title: The item; its id stands for a title that is missing.
        reviews, reviewers: How many.
        stars: Their mean; None where none is rated.
        positive: The share of reviewers who are content, by their texts.
        trend: Whether it moves; None where times are unknown or one side has no review.
    """

    item_id: str | int
    title: str
    reviews: int
    reviewers: int
    stars: float | None
    positive: Share
    trend: Trend | None


@dataclass(frozen=True)
class ItemReviews(Standing):
    """What the reviews of one item say.

    Attributes:
        complaints: The newest discontent reviews, each by its most discontent sentences.
        contradictions: Reviews whose text says the opposite of their stars, the clearest first.
        aspects: By the words of `reviews.aspects`, the most complained of first.
        pros, cons: Sentences that stand for the praise and for the complaints, the most telling first.
    """

    complaints: list[Quote]
    contradictions: list[Quote]
    aspects: list[Aspect]
    pros: list[Quote]
    cons: list[Quote]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)


class ReviewStudy:
    """All reviews of a shop, judged. Build it with `study_reviews`.

    Attributes:
        reviews: As read.
        sentiment: The head, and what each review is by it.
    """

    def __init__(self, reviews: Reviews, sentiment: Sentiment, space: ReviewSpace, titles: Mapping[str, str],
                 aspects: Mapping[str, Sequence[str]], positive: float, negative: float) -> None:  # fmt: skip
        self.reviews = reviews
        self.sentiment = sentiment
        self._space, self._titles, self._aspects = space, titles, aspects
        self._positive, self._negative = positive, negative
        own = pl.concat_str(pl.lit("review "), "review_id")
        self._frame = reviews.frame.with_row_index("row").with_columns(
            who=pl.coalesce(pl.concat_str(pl.lit("user "), "user_id"), own),
            content=pl.Series(sentiment.probability),
            even=pl.Series(sigmoid(sentiment.log_odds)),
        )
        newest = self._frame["time"].max()
        self._recent = None if newest is None or reviews.clock == "order" else int(newest) - RECENT_DAYS * DAY  # type: ignore[arg-type]

    def overview(self, k: int | None = None) -> list[Standing]:
        """Return the items with reviews, those that are surest to have discontent buyers first.

        Args:
            k: How many at most; None for all.
        """
        groups = self._frame.group_by("item_id", maintain_order=True)
        found = [self._standing(item_id, own) for (item_id,), own in groups]
        return sorted(found, key=lambda one: (one.positive.high, one.positive.value))[:k]

    def item(self, item_id: str | int) -> ItemReviews:
        """Return what the reviews of one item say.

        Raises:
            UnknownIdError: It has no reviews.
        """
        own = self._frame.filter(pl.col("item_id").cast(pl.String) == str(item_id))
        if own.is_empty():
            known = self._frame["item_id"].cast(pl.String).unique().to_list()
            raise UnknownIdError(f"item {item_id!r} has no reviews{nearest(str(item_id), known)}")
        standing = self._standing(own["item_id"][0], own)
        sentences, vectors, even = self._read(own)
        return ItemReviews(**vars(standing), complaints=self._complaints(own, sentences, even),
                           contradictions=self._contradictions(own), aspects=self._count_aspects(own, sentences, even),
                           pros=self._cover(own, sentences, vectors, even >= CLEAR),
                           cons=self._cover(own, sentences, vectors, even <= 1 - CLEAR))  # fmt: skip

    def _standing(self, item_id: Any, own: pl.DataFrame) -> Standing:
        stars = own["stars"].mean()
        return Standing(item_id, self._titles.get(str(item_id), str(item_id)), own.height, own["who"].n_unique(),
                        None if stars is None else float(stars), _content(own), self._trend(own))  # type: ignore[arg-type]  # fmt: skip

    def _trend(self, own: pl.DataFrame) -> Trend | None:
        if self._recent is None:
            return None
        recent, before = own.filter(pl.col("time") > self._recent), own.filter(pl.col("time") <= self._recent)
        if recent.is_empty() or before.is_empty():
            return None
        shares = _content(recent), _content(before)
        change, low, high = difference(*shares)
        verdict = "rising" if low > 0 else "falling" if high < 0 else "steady"
        return Trend(*shares, change, low, high, verdict, RECENT_DAYS)

    def _read(self, own: pl.DataFrame) -> tuple[list[Sentence], FloatArray, NDArray[np.float64]]:
        """Split the newest reviews into sentences `(s,)`; return also their vectors and probabilities at even odds."""
        newest = own.tail(NEWEST_REVIEWS)
        sentences = [Sentence(part, row) for row, text in newest.select("row", "text").iter_rows()
                     for part in split_sentences(text)]  # fmt: skip
        vectors = self._space.encode([sentence.text for sentence in sentences])
        return sentences, vectors, sigmoid(self.sentiment.head.log_odds(vectors))

    def _complaints(self, own: pl.DataFrame, sentences: list[Sentence], even: NDArray[np.float64]) -> list[Quote]:
        bad = own.filter(pl.col("even") < 0.5).sort("time", descending=True, nulls_last=True, maintain_order=True)
        found = []
        for row in bad.unique("who", keep="first", maintain_order=True)["row"].head(QUOTES):
            parts = [place for place, sentence in enumerate(sentences) if sentence.source == row]
            worst = min(parts, key=lambda place: even[place], default=None)
            found.append(self._quote(row, None if worst is None else sentences[worst].text))
        return found

    def _contradictions(self, own: pl.DataFrame) -> list[Quote]:
        good, bad = pl.col("stars") >= self._positive, pl.col("stars") <= self._negative
        against = own.with_columns(clear=pl.when(good).then(1 - pl.col("even")).when(bad).then("even"))
        clearest = against.filter(pl.col("clear") >= SURE).sort("clear", descending=True, maintain_order=True)
        return [self._quote(row) for row in clearest["row"].head(QUOTES)]

    def _count_aspects(self, own: pl.DataFrame, sentences: list[Sentence], even: NDArray[np.float64]) -> list[Aspect]:
        words, who = AspectWords(self._aspects), dict(zip(own["row"], own["who"], strict=True))
        rows = [(aspect, who[sentence.source], place, float(even[place]))
                for place, sentence in enumerate(sentences) for aspect in words.of(sentence.text)]  # fmt: skip
        schema = {"aspect": pl.String, "who": pl.String, "place": pl.Int64, "even": pl.Float64}
        named = pl.DataFrame(rows, schema=schema, orient="row")
        found = []
        for (aspect,), said in named.group_by("aspect", maintain_order=True):
            by_writer = said.group_by("who").agg(pl.col("even").mean())
            praised = int((by_writer["even"] >= 0.5).sum())
            best, worst = said.sort("even", descending=True).row(0, named=True), said.sort("even").row(0, named=True)
            quotes = [
                self._quote(sentences[one["place"]].source, sentences[one["place"]].text) for one in (best, worst)
            ]
            found.append(Aspect(str(aspect), praised, by_writer.height - praised,
                                quotes[0] if best["even"] >= 0.5 else None,
                                quotes[1] if worst["even"] < 0.5 else None))  # fmt: skip
        return sorted(found, key=lambda one: (-one.complained, -one.praised))

    def _cover(self, own: pl.DataFrame, sentences: list[Sentence], vectors: FloatArray,
               wanted: NDArray[np.bool_]) -> list[Quote]:  # fmt: skip
        """Quote the sentences that stand for those that are wanted `(s,)`; each reviewer has one vote."""
        rows = np.flatnonzero(wanted)
        if not len(rows):
            return []
        who = dict(zip(own["row"], own["who"], strict=True))
        writers = [who[sentences[row].source] for row in rows]
        _, writer, said = np.unique(writers, return_inverse=True, return_counts=True)
        texts = [sentences[row].text for row in rows]
        allowed = first_of_each(texts) & np.array([quotable(text) for text in texts])
        chosen = cover(vectors[rows], 1 / said[writer], QUOTES, allowed)
        return [self._quote(sentences[rows[place]].source, texts[place]) for place in chosen]

    def _quote(self, row: int, part: str | None = None) -> Quote:
        found = self._frame.row(int(row), named=True)
        time = None if found["time"] is None else formatting.instant(found["time"], self.reviews.clock)
        return Quote(found["review_id"], part or found["text"], found["stars"], time)


@dataclass(frozen=True, eq=False)
class ReviewSpace:
    """Encodes reviews and their sentences; what was encoded once is not encoded again."""

    settings: EmbeddingConfig
    store: VectorStore
    encoder: Encoder

    @classmethod
    def of(cls, config: Config) -> ReviewSpace:
        """Return the space that a config asks for: mean pooling, which tells feelings apart better than CLS."""
        changes = {"model": config.reviews.model or config.embedding.model, "pooling": "mean",
                   "max_tokens": config.reviews.max_tokens}  # fmt: skip
        settings, store = config.embedding.model_copy(update=changes), VectorStore(config.vector_folder)
        return cls(settings, store, load_encoder(settings, store.folder))

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return mean-pooled vectors `(n, d)`. Raises as `VectorStore.encode`."""
        return self.store.encode(texts, self.encoder)


def study_reviews(config: Config) -> ReviewStudy:
    """Read and judge the reviews that `data.reviews` names.

    Args:
        config: A run; `data`, `embedding` and `reviews` are used.

    Raises:
        ConfigError: The config names no reviews, or its encoder cannot be loaded.
        DataError: As `load_reviews` and `learn_sentiment`.
    """
    reviews = load_reviews(config.data, config.folder)
    space = ReviewSpace.of(config)
    texts = reviews.frame["text"].to_list()
    if unread := describe_unread(space.settings, texts, "the reviews"):
        log.warning("%s", unread)
    settings = config.reviews
    sentiment = learn_sentiment(
        space.encode(texts), reviews.frame, settings.positive, settings.negative, space.settings
    )
    titles: dict[str, str] = {}
    if config.data.catalog is not None:
        catalog, _ = load_catalog(config.data, config.folder / "quarantine" / "catalog.parquet")
        titles = dict(zip(catalog.ids.cast(pl.String), catalog.titles, strict=True))
    return ReviewStudy(reviews, sentiment, space, titles, settings.aspects, settings.positive, settings.negative)


def _content(own: pl.DataFrame) -> Share:
    """Return the share of content reviewers: the mean probability of each, then of all."""
    by_writer = own.group_by("who").agg(pl.col("content").mean())["content"]
    return wilson(float(by_writer.sum()), len(by_writer))
