"""One query and one sentence for each intent. Every number and name of a sentence is a fact of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from recsys.assistant.building import MOST, AnswerBuilder, Question
from recsys.assistant.facts import Answer, Fact
from recsys.assistant.languages import Language
from recsys.assistant.orders import Purchases
from recsys.assistant.own_orders import OwnOrders
from recsys.embedding.markup import strip_markup
from recsys.serving.recommender import Recommender

STOCK_COLUMNS = ("stock", "in_stock", "inventory", "stock_quantity", "available", "availability", "库存", "有货")
OUT_OF_STOCK = frozenset(("false", "no", "0", "out of stock", "outofstock", "out_of_stock", "sold out", "unavailable",
                          "缺货", "无货", "否"))  # fmt: skip
IN_STOCK = frozenset(("true", "yes", "1", "in stock", "instock", "in_stock", "available", "有货", "现货", "是"))
OUR_COLUMNS = frozenset(("item_id", "title", "description", "category", "brand", "price"))
SHORT = 3  # recommendations, companions


class Answering(AnswerBuilder):
    """Answers questions in one language from one bundle."""

    def __init__(self, recommender: Recommender, purchases: Purchases, language: Language) -> None:
        super().__init__(recommender, purchases, language)
        own = OwnOrders(recommender, purchases, language)
        self._about_products: dict[str, Callable[[Question], Answer]] = {
            "price": self._price, "stock": self._stock, "brand": self._text_column, "category": self._text_column,
            "describe": self._describe, "search": self._search, "cheapest": self._extreme, "dearest": self._extreme,
            "goes_with": self._goes_with, "similar": self._similar, "last_order": own.last_order,
            "times_bought": own.times_bought,
        }  # fmt: skip
        self._about_any: dict[str, Callable[[Question], Answer]] = {"orders": own.orders, "recommend": self._recommend}

    def answer(self, question: Question) -> Answer:
        """Answer a question whose intent and products are known."""
        intent, found = question.intent, question.found
        if intent in ("others", "outside"):
            return self.refuse(intent, intent)
        if found.rows and (column := self._asked_column(question)) is not None:
            return self._column(question, column)
        if intent == "unknown":
            return self.hand_over("unknown", intent)
        if intent in self._about_any:
            return self._about_any[intent](question)
        if not found.rows:
            return self.refuse("product" if found.named else "which", intent)
        return self._about_products[intent](question)

    def _in_range(self, question: Question) -> list[int]:
        """Return the products of a question that meet its price limits."""
        limits = question.limits
        return [row for row in question.found.rows if limits.holds(self.cell(row, "price"))]

    # About the catalogue

    def _price(self, question: Question) -> Answer:
        rows = [row for row in question.found.rows if self.price_of(row)][:MOST]
        if not rows:
            return self.hand_over("price", question.intent, question.found.rows[:1])
        facts = [fact for row in rows for fact in (self.title_of(row), self.price_of(row)) if fact]
        if len(rows) == 1:
            text = self.say("price", title=facts[0].text, price=facts[1].text)
        else:
            pairs = zip(facts[::2], facts[1::2], strict=True)
            listed = [self.say("price_row", title=title.text, price=price.text) for title, price in pairs]
            text = self.say("prices", rows=self._language.sentences["semicolon"].join(listed))
        return self.build("answered", question.intent, text, rows, facts)

    def _stock(self, question: Question) -> Answer:
        column = next((name for name in STOCK_COLUMNS if name in self._catalog.frame.columns), None)
        said = []
        for row in question.found.rows[:MOST]:
            value = None if column is None else self.cell(row, column)
            said.append((row, value, _stock_state(value)))
        told = [(row, value, state) for row, value, state in said if state is not None]
        if not told or column is None:
            return self.hand_over("stock", question.intent, question.found.rows[:1])
        facts, sentences = [], []
        for row, value, state in told:
            counted = state and isinstance(value, int | float) and not isinstance(value, bool)
            facts += [self.title_of(row), self.fact(column, row, value, f"{value:g}" if counted else str(value))]
            sentence = "stock_count" if counted else "stock_yes" if state else "stock_no"
            sentences.append(self.say(sentence, title=facts[-2].text, stock=facts[-1].text))
        space = " " if self._language.code == "en" else ""
        rows = [row for row, _, _ in told]
        return self.build("answered", question.intent, space.join(sentences), rows, facts)

    def _text_column(self, question: Question) -> Answer:
        """Tell the brand or the category: of the product, or what several products share."""
        column = question.intent
        rows = [row for row in question.found.rows if self.cell(row, column)][:MOST]
        if not rows:
            return self.hand_over(column, question.intent, question.found.rows[:1])
        facts, sentences = [], []
        for row in rows:
            value = str(self.cell(row, column))
            facts += [self.title_of(row), self.fact(column, row, value, value)]
            sentences.append(self.say(column, title=facts[-2].text, **{column: value}))
        space = " " if self._language.code == "en" else ""
        return self.build("answered", question.intent, space.join(sentences), rows, facts)

    def _describe(self, question: Question) -> Answer:
        row = question.found.rows[0]
        description = self.cell(row, "description")
        facts, sentences = [self.title_of(row)], []
        if description:
            clean = " ".join(strip_markup(pl.Series([str(description)]))[0].split())
            facts.append(self.fact("description", row, description, clean))
            ended = clean if clean[-1:] in ".!?。！？" else f"{clean}{'.' if self._language.code == 'en' else '。'}"
            sentences.append(self.say("describe", title=facts[0].text, description=ended))
        for column in ("brand", "category"):
            if value := self.cell(row, column):
                facts.append(self.fact(column, row, str(value), str(value)))
                sentences.append(self.say(f"describe_{column}", **{column: str(value)}))
        if price := self.price_of(row):
            facts.append(price)
            sentences.append(self.say("describe_price", price=price.text))
        if not sentences:
            return self.hand_over("describe", question.intent, [row])
        if not description:
            end = "." if self._language.code == "en" else "。"
            sentences.insert(0, f"{facts[0].text}{end}")
        space = " " if self._language.code == "en" else ""
        return self.build("answered", question.intent, space.join(sentences), [row], facts)

    def _asked_column(self, question: Question) -> str | None:
        """Return the shop's own column whose name stands in the question, beside the product: `colour`, `size`."""
        own = [name for name in self._catalog.frame.columns if name not in OUR_COLUMNS and name not in STOCK_COLUMNS]
        rest = question.found.rest.lower()
        return next((name for name in own if name.lower().replace("_", " ") in rest), None)

    def _column(self, question: Question, column: str) -> Answer:
        row = question.found.rows[0]
        value = self.cell(row, column)
        if value is None:
            return self.hand_over("column", question.intent, [row])
        facts = [self.title_of(row), self.fact(column, row, value, str(value))]
        name = column.replace("_", " ")
        text = self.say("column", title=facts[0].text, column=name, value=facts[1].text)
        return self.build("answered", "describe", text, [row], facts)

    def _search(self, question: Question) -> Answer:
        rows = self._in_range(question)
        if not rows:
            return self.refuse("nothing_matches", question.intent)
        text, facts = self.name_items(rows[:MOST])
        return self.build("answered", question.intent, self.say("search", titles=text), rows[:MOST], facts)

    def _extreme(self, question: Question) -> Answer:
        """Tell the cheapest or the dearest of the products that a question names."""
        priced = [(row, fact) for row in self._in_range(question) if (fact := self.price_of(row))]
        if not priced:
            return self.hand_over("price", question.intent, question.found.rows[:1])
        sign = 1 if question.intent == "cheapest" else -1
        row, price = min(priced, key=lambda pair: sign * pair[1].value)
        facts = [self.title_of(row), price]
        text = self.say(question.intent, title=facts[0].text, price=price.text)
        return self.build("answered", question.intent, text, [row], facts)

    def _goes_with(self, question: Question) -> Answer:
        row = question.found.rows[0]
        companions = self._purchases.companions(row, SHORT) if self._purchases.known else []
        if not companions:
            return self.hand_over("goes_with", question.intent, [row])
        titles, facts = self.name_items([other for other, _ in companions])
        own = self.title_of(row)
        pairs = [self.fact("customers", other, n, str(n), with_item_id=own.item_id) for other, n in companions]
        text = self.say("goes_with", title=own.text, titles=titles)
        rows = [other for other, _ in companions]
        return self.build("answered", question.intent, text, rows, [own, *facts, *pairs])

    def _similar(self, question: Question) -> Answer:
        row = question.found.rows[0]
        found = self._recommender.similar_items(self._catalog.ids[row], SHORT)
        if not len(found):
            return self.refuse("nothing_matches", question.intent)
        own = self.title_of(row)
        facts = [Fact("title", title, title, item) for item, title in found.select("item_id", "title").iter_rows()]
        text = self.say("similar", title=own.text, titles=self._language.join([fact.text for fact in facts]))
        rows = [self._recommender.item_row(item) for item in found["item_id"]]
        return self.build("answered", question.intent, text, rows, [own, *facts])

    def _recommend(self, question: Question) -> Answer:
        """Recommend: among the products that a question names, or from the whole catalogue."""
        found = question.found
        if found.named and not found.rows:
            return self.refuse("product", question.intent)
        user = "" if question.user_id is None else question.user_id
        candidates = [self._catalog.ids[row] for row in found.rows] if found.rows else None
        answer = self._recommender.recommend(user, SHORT, candidates=candidates, where=question.limits.where())
        if not len(answer) and found.rows:  # the customer has them all
            return self._search(question)
        if not len(answer):
            return self.refuse("nothing_matches", question.intent)
        facts = [Fact("title", item.title, item.title, item.item_id) for item in answer]
        sentence = "popular" if answer.fallback and not found.rows else "recommend"
        text = self.say(sentence, titles=self._language.join([fact.text for fact in facts]))
        rows = [self._recommender.item_row(item.item_id) for item in answer]
        return self.build("answered", question.intent, text, rows, facts)


def _stock_state(value: Any) -> bool | None:
    """Whether a cell says that an item is in stock; None where it does not say."""
    if value is None:
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value > 0 if np.isfinite(value) else None
    word = str(value).strip().lower()
    return False if word in OUT_OF_STOCK else True if word in IN_STOCK else None
