"""Aspects of an item in its reviews, by words that the shop names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from recsys.embedding.words import UNSPACED


class AspectWords:
    """Finds the aspects that a sentence speaks of.

    A word of a script without spaces is found anywhere; another only as a whole word, in any case, `*` at its end
    standing for any further letters.

    Args:
        words: By aspect, the words that name it.
    """

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        self._patterns = {
            aspect: re.compile("|".join(map(_pattern, sorted(named, key=len, reverse=True))), re.IGNORECASE)
            for aspect, named in words.items()
        }

    def of(self, sentence: str) -> list[str]:
        """Return the aspects that a sentence names, in the order of the config."""
        return [aspect for aspect, pattern in self._patterns.items() if pattern.search(sentence)]


def _pattern(word: str) -> str:
    if re.search(f"[{UNSPACED}]", word):
        return re.escape(word.removesuffix("*"))
    letter = rf"[^\W{UNSPACED}]"  # 用APP付款 names the word APP
    end = "" if word.endswith("*") else f"(?!{letter})"
    return rf"(?<!{letter}){re.escape(word.removesuffix('*'))}{end}"
