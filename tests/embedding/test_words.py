"""Words of texts with and without spaces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.embedding.words import split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Red Lip-stick 2.0", ["red", "lip", "stick", "2", "0"]),
        ("连衣裙", ["连衣", "衣裙"]),
        ("iPhone15手机壳 黑", ["iphone15", "手机", "机壳", "黑"]),
        ("ワンピース", ["ワン", "ンピ", "ピー", "ース"]),
        ("ﾜﾝﾋﾟｰｽ ＡＢＣ", ["ワン", "ンピ", "ピー", "ース", "abc"]),
        ("빨간 드레스", ["빨간", "드레", "레스"]),
        ("เสื้อ", ["เส", "สื", "ื้", "้อ"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("Vestido de verão", ["vestido", "de", "verão"]),
        ("𠮷野家", ["𠮷野", "野家"]),
        ("_ — !", []),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(st.text())
def test_no_word_is_blank_and_equal_texts_have_equal_words(text: str) -> None:
    words = split_words(text)
    assert all(word.strip() for word in words)
    assert split_words(f" {text}\n") == words
