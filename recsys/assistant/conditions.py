"""What a question asks beyond its product: a price limit, a stretch of time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from recsys.assistant.languages import Language

_NUMBER = r"(?:[$£€¥￥]\s*)?(\d+(?:[.,]\d{1,2})?)"
_NO_SIZE = r"(?![\d.,]*\s*(?:%|(?:g|ml|kg|l|oz|lbs?|cm|mm|m|inch|pk|ct|fl|pieces|people|minutes|years?|days?)\b))"
_AT_MOST = re.compile(
    rf"\b(?:under|below|less than|cheaper than|at most|up to|no more than|max(?:imum)?)\s+{_NUMBER}{_NO_SIZE}"
    rf"|(?:不超过|低于|少于)\s*{_NUMBER}\s*(?:元|块钱|块)?|{_NUMBER}\s*(?:元|块钱|块)\s*(?:以下|以内|之内|以里)",
    re.IGNORECASE,
)
_AT_LEAST = re.compile(
    rf"\b(?:over|above|more than|at least|from)\s+{_NUMBER}{_NO_SIZE}"
    rf"|(?:超过|高于|不低于|多于)\s*{_NUMBER}\s*(?:元|块钱|块)?|{_NUMBER}\s*(?:元|块钱|块)\s*(?:以上)",
    re.IGNORECASE,
)
_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december"]  # fmt: skip
_SHORT = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS)
_MONTH_EN = re.compile(rf"\b(?:in|during|of|on|since)\s+({_SHORT})\b(?:\s+(?:of\s+)?(\d{{4}}))?", re.IGNORECASE)
_MONTH_ZH = re.compile(r"(?:(\d{4})\s*年)?\s*(\d{1,2})\s*月(?!\s*\d+\s*[日号])")
_YEAR = re.compile(r"\b(?:in|during)\s+(20\d{2})\b|(20\d{2})\s*年(?!\s*\d+\s*月)", re.IGNORECASE)


@dataclass(frozen=True)
class PriceRange:
    """Prices from `least` to `most`, both included; None sets no limit."""

    least: float | None = None
    most: float | None = None

    def holds(self, price: float | None) -> bool:
        """Whether a price lies in the range; an unknown one lies only in a range without limits."""
        if price is None:
            return self.least is None and self.most is None
        return (self.least is None or price >= self.least) and (self.most is None or price <= self.most)

    def where(self) -> str | None:
        """Return the range as a condition of a request."""
        parts = [f"price >= {self.least}"] if self.least is not None else []
        parts += [f"price <= {self.most}"] if self.most is not None else []
        return " and ".join(parts) or None


@dataclass(frozen=True)
class Period:
    """A month of a year, a month of any year, or a year."""

    year: int | None
    month: int | None

    def holds(self, day: date) -> bool:
        """Whether a day lies in the period."""
        return self.year in (None, day.year) and self.month in (None, day.month)


def take_price_range(question: str) -> tuple[PriceRange, str]:
    """Return the price limits that a question sets, and the question without them."""
    least, most, rest = None, None, question
    if match := _AT_MOST.search(rest):
        most = _first_number(match)
        rest = f"{rest[: match.start()]} {rest[match.end() :]}"
    if match := _AT_LEAST.search(rest):
        least = _first_number(match)
        rest = f"{rest[: match.start()]} {rest[match.end() :]}"
    return PriceRange(least, most), rest


def take_period(question: str) -> tuple[Period | None, str]:
    """Return the month or year that a question names, and the question without it."""
    if match := _MONTH_EN.search(question):
        month = [name[:3] for name in _MONTHS].index(match[1][:3].lower()) + 1
        period = Period(int(match[2]) if match[2] else None, month)
    elif (match := _MONTH_ZH.search(question)) and 1 <= int(match[2]) <= 12:
        period = Period(int(match[1]) if match[1] else None, int(match[2]))
    elif match := _YEAR.search(question):
        period = Period(int(match[1] or match[2]), None)
    else:
        return None, question
    return period, f"{question[: match.start()]} {question[match.end() :]}"


def names_other_time(question: str, language: Language) -> bool:
    """Whether a question names a time that orders cannot be filtered by: `last week`, `3 days ago`."""
    text = question.lower()
    if language.code == "zh":
        return any(word in text for word in language.relative_times) or bool(re.search(r"\d+\s*[日号天]", text))
    return bool(language.relative_times & set(re.findall(r"[a-z]+", text)) or re.search(r"\b\d+ days\b", text))


def _first_number(match: re.Match[str]) -> float:
    return float(next(group for group in match.groups() if group).replace(",", "."))
