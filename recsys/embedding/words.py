"""Words of a text in any language, for what counts words instead of encoding them."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

# Scripts that set no spaces between words, or spaces between phrases only.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"  # kana, Chinese characters, hangul
    "\U00020000-\U0003ffff"
)


def split_words(text: str) -> list[str]:
    """Split a text into words, in lower case and one normal form of Unicode (NFKC).

    A word is a run of letters, their marks and digits. Runs of Chinese, Japanese, Korean, Thai, Lao, Burmese and Khmer
    count by pairs of neighbouring characters, which needs no dictionary and finds a word wherever it stands.
    """
    words: list[str] = []
    unspaced, runs = _patterns()
    for run in runs.findall(unicodedata.normalize("NFKC", text).lower()):
        if len(run) > 1 and unspaced.match(run):
            words += [run[place : place + 2] for place in range(len(run) - 1)]
        else:
            words.append(run)
    return words


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The pattern of one character without spaces around it, and that of a run."""
    # Python's \w leaves out marks, such as the vowel signs of Hindi, which stand inside words.
    marks = "".join(chr(code) for code in range(0x300, min(0x10000, sys.maxunicode))
                    if unicodedata.category(chr(code)) in ("Mn", "Mc"))  # fmt: skip
    letter = rf"[^\W_{UNSPACED}]"
    return re.compile(f"[{UNSPACED}]"), re.compile(rf"[{UNSPACED}]+|{letter}(?:{letter}|[{re.escape(marks)}])*")
