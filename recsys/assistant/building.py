"""How answers are put together: sentences of one language, and the facts that they state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.assistant.conditions import Period, PriceRange
from recsys.assistant.facts import Answer, Fact, Order, Status
from recsys.assistant.languages import Language
from recsys.assistant.orders import Purchases
from recsys.assistant.products import Found
from recsys.serving.recommender import Recommender
from recsys.types import Id

MOST = 5  # products that one answer names


@dataclass(frozen=True)
class Question:
    """A question without the limits that it sets, what it wants, the products that it names, who asks, the limits."""

    text: str
    intent: str
    found: Found
    user_id: Id | None
    limits: PriceRange
    period: Period | None


class AnswerBuilder:
    """Builds answers in one language from one bundle."""

    def __init__(self, recommender: Recommender, purchases: Purchases, language: Language) -> None:
        self._recommender, self._purchases, self._language = recommender, purchases, language
        self._catalog = recommender.catalog

    def refuse(self, why: str, intent: str) -> Answer:
        """Refuse, with the sentence `refuse_WHY`."""
        return self.build("refused", intent, self._language.sentences[f"refuse_{why}"])

    def hand_over(self, why: str, intent: str, rows: Sequence[int] = ()) -> Answer:
        """Hand a question over to a person, with the sentence `person_WHY`."""
        titles = self._language.join([self._catalog.title(row) for row in rows[:MOST]])
        text = self._language.sentences[f"person_{why}"].format(title=titles)
        return self.build("handed_over", intent, text, rows, [self.title_of(row) for row in rows[:MOST]])

    def build(self, status: Status, intent: str, text: str, rows: Sequence[int] = (), facts: Sequence[Fact] = (),
              orders: Sequence[Order] = ()) -> Answer:  # fmt: skip
        """Return an answer about the items of some rows."""
        items = tuple(self._catalog.ids[row] for row in rows)
        return Answer(status, text, intent, items, tuple(orders), tuple(facts), self._language.code,
                      self._recommender.version)  # fmt: skip

    def say(self, sentence: str, **facts: str) -> str:
        """Write a sentence of the language."""
        return self._language.sentences[sentence].format(**facts)

    def cell(self, row: int, column: str) -> Any:
        """Return a cell of the catalogue; None where it is empty or there is no such column."""
        return self._catalog.frame[column][row] if column in self._catalog.frame.columns else None

    def fact(self, name: str, row: int, value: Any, text: str, **rest: Any) -> Fact:
        """Return a fact about the item of a row."""
        return Fact(name, value, text, self._catalog.ids[row], **rest)

    def title_of(self, row: int) -> Fact:
        """Return the title of an item."""
        return self.fact("title", row, self._catalog.title(row), self._catalog.title(row))

    def name_items(self, rows: Sequence[int]) -> tuple[str, list[Fact]]:
        """Write the titles of items as one phrase, with their facts."""
        facts = [self.title_of(row) for row in rows]
        return self._language.join([fact.text for fact in facts]), facts

    def price_of(self, row: int) -> Fact | None:
        """Return the price of an item, None where the catalogue has none."""
        price = self.cell(row, "price")
        known = price is not None and np.isfinite(price)
        return self.fact("price", row, float(price), self._language.price(price)) if known else None
