"""Numbers of a text by type: money, percent, counts with their unit. Two are equal only where type and unit are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Literal

import yaml

from recsys.assistant.tokens import singular

Kind = Literal["money", "percent", "count"]

_WORDS = yaml.safe_load(
    (resources.files("recsys.assistant") / "language" / "quantities.yaml").read_text(encoding="utf-8")
)
_CURRENCIES = {word: sign for sign, words in _WORDS["currencies"].items() for word in [sign, *words.split()]}
_UNITS = {word: unit for unit, words in _WORDS["units"].items() for word in words.split()}
_NUMBERS: dict[str, Decimal] = {word: Decimal(str(value)) for word, value in _WORDS["numbers"].items()}
_NUMERALS = _WORDS["numerals"]


def _one_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_WRITTEN = re.compile(rf"\b({_one_of(_NUMBERS)})s?\b")
_WRITTEN_CHINESE = re.compile(rf"百分之(?:[{_NUMERALS}]+|{_NUMBER})|(?:[{_NUMERALS}]+|{_NUMBER})折|[{_NUMERALS}]+")
_SYMBOLS = _one_of(word for word in _CURRENCIES if not word.isalnum())
_CODES = _one_of(word for word in _CURRENCIES if word.isalnum())
_FOUND = re.compile(
    rf"(?P<before>{_SYMBOLS}|\b(?:usd|eur|gbp|cny|rmb|jpy|rs)\b)?\s*(?P<number>{_NUMBER})"
    rf"(?:\s*-?\s*(?P<percent>%|percent|per\s+cent|pct))?(?:\s*-?\s*(?P<after>(?:{_SYMBOLS})|(?:{_CODES})s?(?![a-z])))?"
    rf"(?:\s*-?\s*(?P<unit>[a-z]+|{_one_of(word for word in _UNITS if not word.isascii())}|[\u3400-\u9fff]))?"
)


@dataclass(frozen=True)
class Quantity:
    """A number of a text: its type, its value, and its unit (a currency, a noun, `` for none)."""

    kind: Kind
    value: Decimal | str
    unit: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value}{f' {self.unit}' if self.unit else ''}"


def plain(text: str) -> str:
    """Write a text in one form: NFKC, lower case, straight quotes, single spaces, no invisible characters."""
    text = unicodedata.normalize("NFKC", text).lower().translate({0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"'})
    text = "".join(" " if unicodedata.category(letter) in ("Zs", "Cc") else letter for letter in text
                   if unicodedata.category(letter) != "Cf")  # fmt: skip
    return re.sub(r"\s+", " ", text).strip()


def quantities(text: str) -> list[Quantity]:
    """Find every number of a text that `plain` has written, in digits, in words or in Chinese numerals."""
    found, rest = [], text
    for match in _WRITTEN_CHINESE.finditer(text):
        found.append(_chinese(match[0], text[match.end() : match.end() + 1]))
    rest = _WRITTEN_CHINESE.sub(" ; ", rest)
    rest = _WRITTEN.sub(lambda match: f" {_NUMBERS[match[1]]} ", rest)
    for match in _FOUND.finditer(rest):
        value = Decimal(match["number"].replace(",", "")).normalize()
        sign = match["before"] or match["after"]
        if match["percent"]:
            found.append(Quantity("percent", value, ""))
        elif sign:
            found.append(Quantity("money", value, _CURRENCIES.get(sign) or _CURRENCIES[sign.rstrip("s")]))
        else:
            unit = singular(match["unit"] or "")
            found.append(Quantity("count", value, _UNITS.get(unit, unit)))
    return found


def spellings(unit: str) -> frozenset[str]:
    """Return every way to write a unit."""
    return frozenset((unit, *(word for word, short in _UNITS.items() if short == unit))) if unit else frozenset()


def _chinese(written: str, following: str) -> Quantity:
    """Read a Chinese number; its digits are its value, since equal numbers are written alike."""
    if written.startswith("百分之"):
        return Quantity("percent", written[3:], "")
    if written.endswith("折"):
        return Quantity("percent", written, "折")
    if following in ("元", "块"):
        return Quantity("money", written, "¥")
    return Quantity("count", written, _UNITS.get(following, following))
