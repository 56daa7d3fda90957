"""Numbers of a text by type: money, percent, counts with their unit. Two are equal only where type and unit are."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from recsys.assistant.tokens import singular

Kind = Literal["money", "percent", "count"]

_CURRENCIES = {"$": "$", "usd": "$", "dollar": "$", "£": "£", "gbp": "£", "pound": "£", "€": "€", "eur": "€", "euro": "€",
               "¥": "¥", "cny": "¥", "rmb": "¥", "yuan": "¥", "元": "¥", "块": "¥", "块钱": "¥", "人民币": "¥", "cent": "c",
               "pence": "p", "jpy": "jpy", "yen": "jpy", "₩": "₩", "₹": "₹", "rs": "₹", "rupee": "₹"}  # fmt: skip
_PERCENTS = ("%", "percent", "per cent", "pct")
_WORDS = {word: value for value, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty".split())} | {word: (n + 3) * 10 for n, word in enumerate(
    "thirty forty fifty sixty seventy eighty ninety".split())} | {
    "hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12, "half": Decimal("0.5"),
    "quarter": Decimal("0.25"), "double": 2, "twice": 2, "triple": 3, "couple": 2}  # fmt: skip
_CHINESE = dict(zip("零〇一二两三四五六七八九十百千万亿半双倍", "0 0 1 2 2 3 4 5 6 7 8 9 10 100 1000 10000 1e8 0.5 2 times".split(), strict=True))
_UNITS = {"ounce": "oz", "gram": "g", "gramme": "g", "克": "g", "kilo": "kg", "kilogram": "kg", "公斤": "kg", "千克": "kg",
          "pound": "lb", "milliliter": "ml", "millilitre": "ml", "毫升": "ml", "liter": "l", "litre": "l", "升": "l",
          "centimeter": "cm", "centimetre": "cm", "厘米": "cm", "millimeter": "mm", "millimetre": "mm", "毫米": "mm",
          "meter": "m", "metre": "m", "米": "m", "count": "ct", "piece": "pc", "pcs": "pc"}  # fmt: skip
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_WRITTEN = re.compile(r"\b(?:" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")s?\b")
_WRITTEN_CHINESE = re.compile(f"百分之(?:[{''.join(_CHINESE)}]+|{_NUMBER})|(?:[{''.join(_CHINESE)}]+|{_NUMBER})折|[{''.join(_CHINESE)}]+")
_SYMBOL = "|".join(re.escape(sign) for sign in _CURRENCIES if not sign.isalnum())
_CODE = "|".join(sorted((word for word in _CURRENCIES if word.isalnum()), key=len, reverse=True))
_FOUND = re.compile(
    rf"(?P<before>{_SYMBOL}|\b(?:usd|eur|gbp|cny|rmb|rs)\b)?\s*(?P<number>{_NUMBER})"
    rf"(?:\s*-?\s*(?P<percent>%|percent|per\s+cent|pct))?(?:\s*-?\s*(?P<after>(?:{_SYMBOL})|(?:{_CODE})s?(?![a-z])))?"
    r"(?:\s*-?\s*(?P<unit>[a-z]+|公斤|千克|毫升|厘米|毫米|[\u3400-\u9fff]))?"
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
    """Write a text in one form of its characters: NFKC, lower case, straight quotes, single spaces, nothing invisible."""
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
    rest = _WRITTEN.sub(lambda match: f" {_WORDS[match[0] if match[0] in _WORDS else match[0][:-1]]} ", rest)
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
