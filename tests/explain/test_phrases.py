"""What the command line says in words, and how it shows that work goes on."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from shops import Shop, write_shop_config

from recsys import Recommender, formatting
from recsys.cli import console
from recsys.config import load_config
from recsys.explain import phrases
from recsys.ranking.features import FEATURES, OF_RETRIEVER
from recsys.retrieval.registry import RETRIEVERS


def test_reasons_in_words(shop: Shop) -> None:
    topics = phrases.retriever_topics(load_config(shop.config))

    def why(reasons: dict[str, float], item: str = "new", follows: str | None = None) -> str:
        own = {"old": phrases.Past(12, 5.2), "once": phrases.Past(1, 0.2)}
        return phrases.why(reasons, own.get(item), topics, follows)

    assert why({"own_count": 2.0, "due.1": 1.0, "log_popularity": -0.5}, "old") == (
        "had 12 times, last 5 days ago; due again; but not popular"
    )
    assert why({"log_popularity": 1.0}, "old") == "had 12 times, last 5 days ago; popular"
    assert why({"scores.repeat": 1.0}, "once") == "had once, last within a day"
    assert why({"due.0": -1.0, "own_count": -2.0}) == "but never had before"
    assert why({"scores.covisitation": 1.0, "ranks.covisitation": 0.5}, follows="Tea") == "often follows Tea"
    assert (
        why({"scores.covisitation": 0.4, "ranks.covisitation": -0.5}, follows="Tea") == "but seldom follows the history"
    )
    assert why({"a_new_feature": 1.0}) == "a new feature"
    assert why({"a_new_feature": -1.0}) == "but a new feature (low)"
    assert why({}) == "popular: fills the list"


def test_nothing_is_said_of_a_history_that_is_not_there() -> None:
    topics = {name: str(member().topic) for name, member in RETRIEVERS.items()}

    def why(reasons: dict[str, float]) -> str:
        return phrases.why(reasons, None, topics, cold=True)

    assert why({"scores.covisitation": 1.0}) == "suits a user without history"
    assert why({"scores.covisitation": 1.0, "ranks.tower": -1.5, "log_popularity": 0.4}) == (
        "popular; but suits users with a history more"
    )
    assert why({"history_length": 0.5, "log_popularity": 2.0, "due.1": 0.1}) == "popular; suits a user without history"
    assert why({"repeat_rate": 1.0, "found_by": -1.0}) == "people come back for it; but found in few ways"
    about_history = re.compile("the history|usual price|history of this length|due|never had")
    for feature in [*FEATURES, *(f"scores.{name}" for name in topics)]:
        for amount in (1.0, -1.0):
            assert not about_history.search(why({feature: amount})), feature


def test_the_words_for_a_user_without_history_are_true(recommender: Recommender) -> None:
    answer = recommender.recommend("nobody", 30, explain=True)
    topics = phrases.retriever_topics(recommender.config)
    said = [phrases.why(item.reasons, None, topics, cold=answer.cold) for item in answer]
    assert answer.cold
    assert all(said)
    assert not any("the history" in line or "never had" in line for line in said)


def test_every_feature_and_retriever_has_words() -> None:
    topics = {name: feature.topic for name, feature in FEATURES.items()}
    assert all(topics.values())
    assert {name for name, topic in topics.items() if topic == OF_RETRIEVER} == {"scores", "ranks"}
    own = {member().topic for member in RETRIEVERS.values()}
    assert {*topics.values(), *own} <= phrases.PUSHES.keys() | {"own", OF_RETRIEVER}


def test_decayed_popularity_is_popular_now(shop: Shop, tmp_path: Path, tiny_model: Path) -> None:
    retrievers = {"lately": {"kind": "popularity", "half_life_days": 7}}
    config = load_config(write_shop_config(tmp_path, tiny_model, retrievers=retrievers))
    for reasons, said in [({"scores.lately": 1.0, "log_popularity": -0.4}, "popular now"),
                          ({"scores.lately": 0.1, "log_popularity": -0.4}, "but not popular now")]:  # fmt: skip
        assert phrases.why(reasons, None, phrases.retriever_topics(config)) == said


@pytest.mark.parametrize(
    ("days", "said"),
    [(None, "some time ago"), (0.5, "within a day"), (1, "1 day ago"), (59, "59 days ago"), (91, "3 months ago")],
)
def test_ago(days: float | None, said: str) -> None:
    assert formatting.ago(days) == said


@pytest.mark.parametrize(
    ("count", "said"), [(999, "999 bytes"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (3e9, "3.0 GB")]
)
def test_size(count: float, said: str) -> None:
    assert formatting.size(count) == said


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.progress() as report:
        report("fit", 1, 2)
        report("fit", 2, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "fit" in err
