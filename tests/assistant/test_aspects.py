"""Words of aspects are found as words, in scripts with and without spaces."""

from __future__ import annotations

import pytest

from recsys.assistant.aspects import AspectWords

WORDS = AspectWords({"delivery": ["deliver*", "ship"], "质量": ["质量", "做工"], "app": ["APP"], "c++": ["c++"]})


@pytest.mark.parametrize(
    ("sentence", "aspects"),
    [
        ("Delivered on time", ["delivery"]),
        ("Worship", []),
        ("they SHIP fast", ["delivery"]),
        ("shipping", []),
        ("这件衣服质量不错，但是app不行", ["质量", "app"]),
        ("用APP付款", ["app"]),
        ("written in c++", ["c++"]),
        ("", []),
    ],
)
def test_aspects(sentence: str, aspects: list[str]) -> None:
    assert WORDS.of(sentence) == aspects
