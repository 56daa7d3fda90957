"""Sentiment is learned from stars, judged out of fold by reviewer, and never claimed where it cannot be learned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.assistant import sentiment
from recsys.assistant.sentiment import Head, learn_sentiment, load_head, writers_of
from recsys.config import EmbeddingConfig
from recsys.errors import ArtifactError, DataError

OWN = EmbeddingConfig(model="of/nobody")
DIMENSION = 12


def world(n: int, bad: int, noise: float = 0.4, seed: int = 0) -> tuple[np.ndarray, pl.DataFrame]:
    """Reviews whose first direction is their mood: `bad` of `n` have one star, the others five."""
    rng = np.random.default_rng(seed)
    stars = np.where(np.arange(n) < bad, 1.0, 5.0)
    vectors = rng.standard_normal((n, DIMENSION)) * noise
    vectors[:, 0] += np.where(stars > 3, 1, -1)
    names = {"user_id": [f"u{row}" for row in range(n)], "text": [f"t{row}" for row in range(n)]}
    frame = pl.DataFrame({**names, "stars": stars})
    return vectors.astype(np.float32), frame


def keep_head(folder: Path, monkeypatch: pytest.MonkeyPatch, weight: float = 8.0) -> Path:
    """Put a head for `of/nobody` where the library looks; return its file."""
    import hashlib
    import io

    numbers = np.zeros(DIMENSION + 1, dtype=np.float32)
    numbers[0] = weight
    buffer = io.BytesIO()
    np.save(buffer, numbers)
    path = folder / f"{hashlib.sha256(buffer.getvalue()).hexdigest()}.npy"
    path.write_bytes(buffer.getvalue())
    (folder / "heads.json").write_text(json.dumps({OWN.model: {"file": path.name, "prefix": ""}}), encoding="utf-8")
    monkeypatch.setattr(sentiment, "HEADS", folder)
    sentiment._known_heads.cache_clear()
    return path


@pytest.fixture(autouse=True)
def heads_as_before() -> Iterator[None]:
    yield
    sentiment._known_heads.cache_clear()


def test_own_stars_are_learned_and_calibrated() -> None:
    vectors, frame = world(1_200, 300)
    learned = learn_sentiment(vectors, frame, 4, 2, OWN)
    assert learned.measured["head"] == "own"
    assert learned.measured["auc"] > 0.95
    assert learned.source == "the shop's own stars: 900 good and 300 bad reviews"
    assert learned.probability.mean() == pytest.approx(0.75, abs=0.02)
    sure = learned.probability > 0.9
    assert (frame["stars"].to_numpy()[sure] == 5).mean() > 0.95


def test_noise_teaches_nothing_out_of_fold() -> None:
    rng = np.random.default_rng(1)
    vectors, frame = world(600, 300)
    vectors = rng.standard_normal(vectors.shape).astype(np.float32)
    learned = learn_sentiment(vectors, frame, 4, 2, OWN)
    assert learned.measured["auc"] < 0.6
    assert learned.probability.std() < 0.15


def test_a_writer_is_never_judged_by_what_their_other_reviews_taught() -> None:
    """Each writer has a style and one mood: whoever folds by row learns who is writing."""
    rng = np.random.default_rng(2)
    styles, moods = rng.standard_normal((60, 200)), np.arange(60) % 2
    writer = np.repeat(np.arange(60), 10)
    vectors = (styles[writer] + 0.1 * rng.standard_normal((600, 200))).astype(np.float32)
    frame = pl.DataFrame({"user_id": [f"u{one}" for one in writer], "text": [f"t{row}" for row in range(600)],
                          "stars": np.where(moods[writer], 5.0, 1.0)})  # fmt: skip
    assert learn_sentiment(vectors, frame, 4, 2, OWN).measured["auc"] < 0.75
    alone = frame.with_columns(user_id=pl.lit(None, pl.String))  # nobody knows who wrote: every row is a writer
    assert learn_sentiment(vectors, alone, 4, 2, OWN).measured["auc"] > 0.95


def test_copies_by_one_writer_count_once_and_are_judged_alike() -> None:
    vectors, frame = world(400, 150)
    copied = frame[:1]
    learned = learn_sentiment(np.concatenate([vectors, vectors[:1]]), pl.concat([frame, copied]), 4, 2, OWN)
    assert learned.measured["negatives"] == 150
    assert learned.log_odds[-1] == learned.log_odds[0]


def test_reviews_between_and_without_stars_are_judged_but_teach_nothing() -> None:
    vectors, frame = world(400, 150)
    more = pl.DataFrame({"user_id": ["x", "y"], "text": ["a", "b"], "stars": [3.0, None]})
    learned = learn_sentiment(np.concatenate([vectors, vectors[:1], vectors[-1:]]), pl.concat([frame, more]), 4, 2, OWN)
    assert (learned.measured["positives"], learned.measured["negatives"]) == (250, 150)
    assert learned.log_odds[-2] < 0 < learned.log_odds[-1]


def test_too_few_bad_reviews_without_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_head(tmp_path, monkeypatch)
    vectors, frame = world(100, 7)
    other = EmbeddingConfig(model="another")
    said = r"^7 reviews of 2 stars or less and 93 of 4 or more: .* needs 20 of each, and no head comes with the "
    with pytest.raises(
        DataError, match=said + r"library for another; set `reviews: \{model: of/nobody\}`, for which one does"
    ):
        learn_sentiment(vectors, frame, 4, 2, other)
    (tmp_path / "heads.json").write_text("{}", encoding="utf-8")
    sentiment._known_heads.cache_clear()
    with pytest.raises(DataError, match=said + "library for another$"):
        learn_sentiment(vectors, frame, 4, 2, other)


def test_the_library_s_head_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_head(tmp_path, monkeypatch)
    vectors, frame = world(300, 7)
    learned = learn_sentiment(vectors, frame, 4, 2, OWN)
    assert (learned.measured["head"], learned.measured["calibrated"]) == ("packaged", False)
    assert learned.measured["auc"] > 0.9
    assert learned.source.endswith("own 7 bad and 293 good reviews are too few to learn better from")
    unrated = learn_sentiment(vectors, frame.with_columns(stars=pl.lit(None, pl.Float64)), 4, 2, OWN)
    assert unrated.measured["auc"] is None
    # With some bad reviews the better head is taken, and from 100 on always the shop's own.
    vectors, frame = world(600, 60)
    assert learn_sentiment(vectors, frame, 4, 2, OWN).measured["head"] == "packaged"
    assert learn_sentiment(vectors, frame, 4, 2, OWN).measured["calibrated"]
    assert learn_sentiment(-vectors, frame, 4, 2, OWN).measured["head"] == "own"
    vectors, frame = world(600, 150)
    assert learn_sentiment(vectors, frame, 4, 2, OWN).measured["head"] == "own"
    assert load_head(OWN.model_copy(update={"prefix": "query: "})) is None
    assert load_head(OWN.model_copy(update={"model": "another"})) is None


def test_a_damaged_head_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keep_head(tmp_path, monkeypatch)
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(ArtifactError, match=rf"{path.name} is missing or damaged: install recsys again"):
        load_head(OWN)


def test_probabilities_never_turn_a_head_around() -> None:
    head = sentiment._calibrated(
        Head(np.ones(1), 0.0), np.array([-2.0, -1, 1, 2]), np.array([True, True, False, False])
    )
    assert head.slope == 0


def test_unknown_writers_are_all_different() -> None:
    frame = pl.DataFrame({"user_id": ["a", None, "a", None]}, schema={"user_id": pl.String})
    numbers = writers_of(frame)
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 3
