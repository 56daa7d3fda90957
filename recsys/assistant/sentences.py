"""Sentences of a text, in languages with and without spaces: always the very characters of the text."""

from __future__ import annotations

import re

from recsys.embedding.words import UNSPACED

_CLOSING = r"[”’」』）)\]\"']"
_ABBREVIATIONS = ("mr", "mrs", "ms", "dr", "st", "vs", "e.g", "i.e", "etc", "no", "approx", "inc", "ltd", "sr", "jr")
_END = re.compile(
    rf"[。！？；…!?]+{_CLOSING}*\s*"  # ends a sentence wherever it stands
    rf"|\.+{_CLOSING}*(?:\s+|$|(?=[{UNSPACED}]))"  # a full stop does before a space, so that 3.5 and a.b stay whole
    r"|\s*\n\s*"
)


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, without the white space around them.

    Returns:
        Non-blank parts of `text`, character for character, in their order.
    """
    parts, start = [], 0
    for end in _END.finditer(text):
        if end[0].startswith(".") and _is_abbreviation(text[start : end.start()]):
            continue
        parts.append(text[start : end.end()])
        start = end.end()
    return [part.strip() for part in (*parts, text[start:]) if re.search(r"\w", part)]


def _is_abbreviation(before: str) -> bool:
    last = re.search(r"([A-Za-z][A-Za-z.]*)$", before)
    return last is not None and (last[1].lower() in _ABBREVIATIONS or (len(last[1]) == 1 and last[1].isupper()))
