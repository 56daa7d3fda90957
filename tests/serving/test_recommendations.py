"""Answers are sequences, and print as tables."""

from __future__ import annotations

import pytest

from recsys import Recommender
from recsys.config import parse_config
from recsys.serving.recommendations import PINNED, SHOWN, Recommendation, Recommendations

USER = "u029"


def made(items: list[Recommendation], **changes: object) -> Recommendations:
    answer = {"user_id": 7, "items": items, "cold": False, "fallback": False, "model_version": "v", "request_id": "r"}
    return Recommendations(**(answer | changes))  # type: ignore[arg-type]


def item(place: int, title: str = "Tea", **changes: object) -> Recommendation:
    parts = {"item_id": f"i{place}", "title": title, "rank": place, "score": 1.5 - place, "sources": {"semantic": 1},
             "reasons": {}}  # fmt: skip
    return Recommendation(**(parts | changes))  # type: ignore[arg-type]


def test_an_answer_is_a_sequence_of_its_items(recommender: Recommender) -> None:
    answer = recommender.recommend(USER, 7)
    assert len(answer) == 7
    assert list(answer) == answer.items
    assert (answer[0], answer[-1], answer[2:4]) == (answer.items[0], answer.items[-1], answer.items[2:4])
    assert answer.items[3] in answer
    assert [(place, entry.rank) for place, entry in enumerate(answer, start=1)] == [(n, n) for n in range(1, 8)]
    with pytest.raises(IndexError):
        answer[7]
    assert not recommender.recommend(USER, 0)


def test_an_answer_prints_as_a_table() -> None:
    items = [item(1, "Green\n tea", probability=0.124), item(2, "T" * 99, sources={}, pinned=True)]
    expected = f"""2 items for user 7
rank  item  title                                              score  probability  source
   1  i1    Green tea                                          0.500          12%  semantic
   2  i2    {"T" * 47}…  -0.500               {PINNED}"""
    assert repr(made(items)) == str(made(items)) == expected


def test_what_a_table_says_beside_its_rows(recommender: Recommender) -> None:
    n = len(recommender.catalog)
    printed = str(recommender.recommend("nobody", n + 1)).splitlines()
    assert printed[0] == f"{n} items for user nobody, what is popular"
    assert len(printed) == 2 + SHOWN + 2
    assert printed[-2] == f"... and {n - SHOWN} items more"
    assert printed[-1] == f"{n} of {n + 1} items could be given: the catalogue holds {n} items"
    assert str(made([])) == "0 items for user 7"


def test_an_answer_is_a_table_in_a_notebook() -> None:
    page = made([item(1, "<b>Tea</b> & co"), item(2)], user_id="<i>")._repr_html_()
    assert "<td>&lt;b&gt;Tea&lt;/b&gt; &amp; co</td>" in page
    assert "2 items for user &lt;i&gt;" in page
    assert (page.count("<tr>"), page.count("<td>"), page.count("<b>")) == (3, 12, 0)


def test_a_recommender_and_a_config_say_what_they_are(recommender: Recommender) -> None:
    shown = repr(recommender)
    assert shown.startswith(f"<Recommender 'shop'; version {recommender.version}; 600 users; 344 items; events 20")
    assert shown.endswith(f"retrievers {', '.join(recommender.config.retrievers)}; scorer logistic>")
    raw = recommender.config.model_dump(mode="json") | {"output": "out"}
    features = len(recommender.config.features)
    assert str(parse_config(raw, "here")) == (
        f"<Config 'shop': into out/shop; split {raw['split']['kind']}; retrievers {', '.join(raw['retrievers'])}; "
        f"{features} features; scorer logistic>"
    )
