"""Words of questions and titles in the form in which they are compared."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from recsys.assistant.languages import UNSPACED

TOKEN = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}_]+(?:[.,]\d+)?")
CHINESE = re.compile(f"[{UNSPACED}]")
# What follows the noun of a title: a comma, a bracket, a dash, a preposition.
_TAIL = re.compile(r"\b(?:with|for|in|by|from|without)\b|[,;:(\[|]|\s[-–—]\s", re.IGNORECASE)
_SIZE_WORDS = frozenset({
    "oz", "fl", "lb", "lbs", "g", "kg", "mg", "ml", "l", "cl", "cm", "mm", "m", "in", "inch", "ft", "ct", "pk", "pack",
    "count", "pcs", "gal", "gallon", "qt", "pt", "liter", "litre", "each", "set",
})  # fmt: skip
_SHORT = {"gallon": "gal", "ounce": "oz", "liter": "l", "litre": "l", "gram": "g", "kilogram": "kg", "pint": "pt",
          "quart": "qt"}  # fmt: skip
LAST = "$"  # before the last character of a Chinese run


@dataclass(frozen=True)
class Token:
    """A word or one Chinese character of a text, from `start` to `end`, and the form it is compared by."""

    form: str
    start: int
    end: int

    @property
    def chinese(self) -> bool:
        """Whether it is a Chinese character."""
        return bool(CHINESE.fullmatch(self.form))


def tokens_of(text: str) -> list[Token]:
    """Split a text; forms are lower case, without accents, plural and possessive endings; units of size are short."""
    found = []
    for match in TOKEN.finditer(text):
        start, end = match.span()
        if match[0] in ("s", "S") and start and text[start - 1] in "'’":
            continue
        decomposed = unicodedata.normalize("NFKD", match[0].lower())
        word = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
        word = singular(word)
        found.append(Token(_SHORT.get(word, word), start, end))
    return found


def singular(word: str) -> str:
    """Return the singular of a regular English plural."""
    if len(word) < 4 or not word.isascii() or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word


def alternatives(text: str, tokens: list[Token]) -> list[tuple[str, ...]]:
    """Return the forms under which an item may hold each token: a word itself, a Chinese character by its pairs."""
    found: list[tuple[str, ...]] = []
    for place, token in enumerate(tokens):
        if not token.chinese:
            found.append((token.form,))
            continue
        before = place and tokens[place - 1].chinese and tokens[place - 1].end == token.start
        after = place + 1 < len(tokens) and tokens[place + 1].chinese and tokens[place + 1].start == token.end
        pairs = [tokens[place - 1].form + token.form] if before else []
        pairs += [token.form + tokens[place + 1].form] if after else []
        found.append(tuple(pairs) or (LAST + token.form,))
    return found


def forms_of(text: str) -> set[str]:
    """Return every form that an item with this text holds."""
    tokens = tokens_of(text)
    forms = {form for forms in alternatives(text, tokens) for form in forms}
    starts = {token.start for token in tokens if token.chinese}
    return forms | {LAST + token.form for token in tokens if token.chinese and token.end not in starts}


def head_of(title: str) -> str:
    """Return the form of the noun that a title is about: `mat` of `Birch camping mat, 6 mm`."""
    cut = _TAIL.split(title, maxsplit=1)[0]
    tokens = tokens_of(cut) or tokens_of(title)
    words = [token for token in tokens if not is_size(token.form)]
    if not words:
        return ""
    last = words[-1]
    return LAST + last.form if last.chinese else last.form


def is_size(form: str) -> bool:
    """Whether a form is a number or a unit of size."""
    return any(map(str.isdigit, form)) or form in _SIZE_WORDS
