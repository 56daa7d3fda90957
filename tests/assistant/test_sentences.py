"""Sentences are cut where they end, and are the very characters of the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.assistant.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Works well. Arrived late!", ["Works well.", "Arrived late!"]),
        ("It cost 3.5 dollars. Mr. Smith likes it.", ["It cost 3.5 dollars.", "Mr. Smith likes it."]),
        ('He said "no!" Great...   Really?yes', ['He said "no!"', "Great...", "Really?", "yes"]),
        ("质量很好！！！物流也快。不过颜色不对；退货了", ["质量很好！！！", "物流也快。", "不过颜色不对；", "退货了"]),
        ("他说：“很好。”下次再来", ["他说：“很好。”", "下次再来"]),
        ("First line\nsecond line\n\n ", ["First line", "second line"]),
        ("とても良い。届くのが遅い！", ["とても良い。", "届くのが遅い！"]),
        ("!!! ... 。", []),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet=st.sampled_from("ab 1.!?。！；…\n\"”'好很")))
def test_sentences_are_parts_of_the_text_in_order_and_lose_no_letter(text: str) -> None:
    parts, start = split_sentences(text), 0
    for part in parts:
        start = text.index(part, start) + len(part)
    letters = "ab1好很"
    assert [c for c in "".join(parts) if c in letters] == [c for c in text if c in letters]
