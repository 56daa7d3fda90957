"""One query and one sentence for each intent. Every number and name of a sentence is a fact of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.assistant.conditions import Period, PriceRange, names_other_time
from recsys.assistant.facts import Answer, Fact, Order
from recsys.assistant.languages import Language
from recsys.assistant.orders import Purchase, Purchases
from recsys.assistant.products import Found
from recsys.embedding.markup import strip_markup
from recsys.serving.recommender import Recommender
from recsys.types import Id

import polars as pl

STOCK_COLUMNS = ("stock", "in_stock", "inventory", "stock_quantity", "available", "availability", "库存", "有货")
OUT_OF_STOCK = frozenset(("false", "no", "0", "out of stock", "outofstock", "out_of_stock", "sold out", "unavailable",
                          "缺货", "无货", "否"))  # fmt: skip
IN_STOCK = frozenset(("true", "yes", "1", "in stock", "instock", "in_stock", "available", "有货", "现货", "是"))
OUR_COLUMNS = frozenset(("item_id", "title", "description", "category", "brand", "price"))
MOST = 5  # products that one answer names
SHORT = 3  # recommendations, companions


@dataclass(frozen=True)
class Question:
    """A question without the limits that it sets, what it wants, the products that it names, who asks, the limits."""

    text: str
    intent: str
    found: Found
    user_id: Id | None
    limits: PriceRange
    period: Period | None


class Answering:
    """Answers questions in one language from one bundle."""

    def __init__(self, recommender: Recommender, purchases: Purchases, language: Language) -> None:
        self._recommender, self._purchases, self._language = recommender, purchases, language
        self._catalog = recommender.catalog
        self._about_products: dict[str, Callable[[Question], Answer]] = {
            "price": self._price, "stock": self._stock, "brand": self._text_column, "category": self._text_column,
            "describe": self._describe, "search": self._search, "cheapest": self._extreme, "dearest": self._extreme,
            "goes_with": self._goes_with, "similar": self._similar, "last_order": self._last_order,
            "times_bought": self._times_bought,
        }  # fmt: skip
        self._about_nobody: dict[str, Callable[[Question], Answer]] = {
            "orders": self._orders, "recommend": self._recommend,
        }  # fmt: skip

    def answer(self, question: Question) -> Answer:
        """Answer a question whose intent and products are known."""
        intent, found = question.intent, question.found
        if intent in ("others", "outside"):
            return self.refuse(intent, intent)
        if found.rows and (column := self._asked_column(question)) is not None:
            return self._column(question, column)
        if intent == "unknown":
            return self.hand_over("unknown", intent)
        if intent in self._about_nobody:
            return self._about_nobody[intent](question)
        if not found.rows:
            return self.refuse("product" if found.named else "which", intent)
        return self._about_products[intent](question)

    def refuse(self, why: str, intent: str) -> Answer:
        """Refuse, with the sentence `refuse_WHY`."""
        return self._answer("refused", intent, self._language.sentences[f"refuse_{why}"])

    def hand_over(self, why: str, intent: str, rows: Sequence[int] = ()) -> Answer:
        """Hand a question over to a person, with the sentence `person_WHY`."""
        titles = self._language.join([self._catalog.title(row) for row in rows[:MOST]])
        text = self._language.sentences[f"person_{why}"].format(title=titles)
        return self._answer("handed_over", intent, text, rows, [self._title(row) for row in rows[:MOST]])

    def _answer(self, status: Any, intent: str, text: str, rows: Sequence[int] = (), facts: Sequence[Fact] = (),
                orders: Sequence[Order] = ()) -> Answer:  # fmt: skip
        items = tuple(self._catalog.ids[row] for row in rows)
        return Answer(status, text, intent, items, tuple(orders), tuple(facts), self._language.code,
                      self._recommender.version)  # fmt: skip

    def _say(self, sentence: str, **facts: str) -> str:
        return self._language.sentences[sentence].format(**facts)

    def _cell(self, row: int, column: str) -> Any:
        return self._catalog.frame[column][row] if column in self._catalog.frame.columns else None

    def _fact(self, name: str, row: int, value: Any, text: str, **rest: Any) -> Fact:
        return Fact(name, value, text, self._catalog.ids[row], **rest)

    def _title(self, row: int) -> Fact:
        return self._fact("title", row, self._catalog.title(row), self._catalog.title(row))

    def _titles(self, rows: Sequence[int]) -> tuple[str, list[Fact]]:
        """Write the titles of items as one phrase, with their facts."""
        facts = [self._title(row) for row in rows]
        return self._language.join([fact.text for fact in facts]), facts

    def _priced(self, row: int) -> Fact | None:
        price = self._cell(row, "price")
        known = price is not None and np.isfinite(price)
        return self._fact("price", row, float(price), self._language.price(price)) if known else None

    def _in_range(self, question: Question) -> list[int]:
        """Return the products of a question that meet its price limits."""
        limits = question.limits
        return [row for row in question.found.rows if limits.holds(self._cell(row, "price"))]

    # About the catalogue

    def _price(self, question: Question) -> Answer:
        rows = [row for row in question.found.rows if self._priced(row)][:MOST]
        if not rows:
            return self.hand_over("price", question.intent, question.found.rows[:1])
        facts = [fact for row in rows for fact in (self._title(row), self._priced(row)) if fact]
        if len(rows) == 1:
            text = self._say("price", title=facts[0].text, price=facts[1].text)
        else:
            pairs = zip(facts[::2], facts[1::2], strict=True)
            listed = [self._say("price_row", title=title.text, price=price.text) for title, price in pairs]
            text = self._say("prices", rows=self._language.sentences["semicolon"].join(listed))
        return self._answer("answered", question.intent, text, rows, facts)

    def _stock(self, question: Question) -> Answer:
        column = next((name for name in STOCK_COLUMNS if name in self._catalog.frame.columns), None)
        said = []
        for row in question.found.rows[:MOST]:
            value = None if column is None else self._cell(row, column)
            said.append((row, value, _stock_state(value)))
        told = [(row, value, state) for row, value, state in said if state is not None]
        if not told or column is None:
            return self.hand_over("stock", question.intent, question.found.rows[:1])
        facts, sentences = [], []
        for row, value, state in told:
            counted = state and isinstance(value, int | float) and not isinstance(value, bool)
            facts += [self._title(row), self._fact(column, row, value, f"{value:g}" if counted else str(value))]
            sentence = "stock_count" if counted else "stock_yes" if state else "stock_no"
            sentences.append(self._say(sentence, title=facts[-2].text, stock=facts[-1].text))
        space = " " if self._language.code == "en" else ""
        rows = [row for row, _, _ in told]
        return self._answer("answered", question.intent, space.join(sentences), rows, facts)

    def _text_column(self, question: Question) -> Answer:
        """Tell the brand or the category: of the product, or what several products share."""
        column = question.intent
        rows = [row for row in question.found.rows if self._cell(row, column)][:MOST]
        if not rows:
            return self.hand_over(column, question.intent, question.found.rows[:1])
        facts, sentences = [], []
        for row in rows:
            value = str(self._cell(row, column))
            facts += [self._title(row), self._fact(column, row, value, value)]
            sentences.append(self._say(column, title=facts[-2].text, **{column: value}))
        space = " " if self._language.code == "en" else ""
        return self._answer("answered", question.intent, space.join(sentences), rows, facts)

    def _describe(self, question: Question) -> Answer:
        row = question.found.rows[0]
        description = self._cell(row, "description")
        facts, sentences = [self._title(row)], []
        if description:
            clean = " ".join(strip_markup(pl.Series([str(description)]))[0].split())
            facts.append(self._fact("description", row, description, clean))
            ended = clean if clean[-1:] in ".!?。！？" else f"{clean}{'.' if self._language.code == 'en' else '。'}"
            sentences.append(self._say("describe", title=facts[0].text, description=ended))
        for column in ("brand", "category"):
            if value := self._cell(row, column):
                facts.append(self._fact(column, row, str(value), str(value)))
                sentences.append(self._say(f"describe_{column}", **{column: str(value)}))
        if price := self._priced(row):
            facts.append(price)
            sentences.append(self._say("describe_price", price=price.text))
        if not sentences:
            return self.hand_over("describe", question.intent, [row])
        if not description:
            end = "." if self._language.code == "en" else "。"
            sentences.insert(0, f"{facts[0].text}{end}")
        space = " " if self._language.code == "en" else ""
        return self._answer("answered", question.intent, space.join(sentences), [row], facts)

    def _asked_column(self, question: Question) -> str | None:
        """Return the shop's own column whose name stands in the question, beside the product: `colour`, `size`."""
        own = [name for name in self._catalog.frame.columns if name not in OUR_COLUMNS and name not in STOCK_COLUMNS]
        rest = question.found.rest.lower()
        return next((name for name in own if name.lower().replace("_", " ") in rest), None)

    def _column(self, question: Question, column: str) -> Answer:
        row = question.found.rows[0]
        value = self._cell(row, column)
        if value is None:
            return self.hand_over("column", question.intent, [row])
        facts = [self._title(row), self._fact(column, row, value, str(value))]
        name = column.replace("_", " ")
        text = self._say("column", title=facts[0].text, column=name, value=facts[1].text)
        return self._answer("answered", "describe", text, [row], facts)

    def _search(self, question: Question) -> Answer:
        rows = self._in_range(question)
        if not rows:
            return self.refuse("nothing_matches", question.intent)
        text, facts = self._titles(rows[:MOST])
        return self._answer("answered", question.intent, self._say("search", titles=text), rows[:MOST], facts)

    def _extreme(self, question: Question) -> Answer:
        """Tell the cheapest or the dearest of the products that a question names."""
        priced = [(row, fact) for row in self._in_range(question) if (fact := self._priced(row))]
        if not priced:
            return self.hand_over("price", question.intent, question.found.rows[:1])
        sign = 1 if question.intent == "cheapest" else -1
        row, price = min(priced, key=lambda pair: sign * pair[1].value)
        facts = [self._title(row), price]
        text = self._say(question.intent, title=facts[0].text, price=price.text)
        return self._answer("answered", question.intent, text, [row], facts)

    def _goes_with(self, question: Question) -> Answer:
        row = question.found.rows[0]
        companions = self._purchases.companions(row, SHORT) if self._purchases.known else []
        if not companions:
            return self.hand_over("goes_with", question.intent, [row])
        titles, facts = self._titles([other for other, _ in companions])
        own = self._title(row)
        pairs = [self._fact("customers", other, n, str(n), with_item_id=own.item_id) for other, n in companions]
        text = self._say("goes_with", title=own.text, titles=titles)
        rows = [other for other, _ in companions]
        return self._answer("answered", question.intent, text, rows, [own, *facts, *pairs])

    def _similar(self, question: Question) -> Answer:
        row = question.found.rows[0]
        found = self._recommender.similar_items(self._catalog.ids[row], SHORT)
        if not len(found):
            return self.refuse("nothing_matches", question.intent)
        own = self._title(row)
        facts = [Fact("title", title, title, item) for item, title in found.select("item_id", "title").iter_rows()]
        text = self._say("similar", title=own.text, titles=self._language.join([fact.text for fact in facts]))
        answer = self._answer("answered", question.intent, text, [], [own, *facts])
        return _with_items(answer, tuple(found["item_id"]))

    # About the orders of the one who asks

    def _own_purchases(self, question: Question) -> list[Purchase] | Answer:
        """Return the purchases of the one who asks, newest first, or the answer that says why they cannot be told."""
        if question.user_id is None:
            return self.hand_over("sign_in", question.intent)
        if not self._purchases.known:
            return self.hand_over("kinds", question.intent)
        purchases = self._purchases.of_user(question.user_id)
        if not purchases:
            return self.hand_over("no_orders", question.intent)
        period = question.period
        if names_other_time(question.text, self._language):
            return self.hand_over("time", question.intent)
        if period is not None:
            if not self._purchases.dated:
                return self.hand_over("undated", question.intent)
            purchases = [one for one in purchases if period.holds(self._purchases.day(one.time))]
        return purchases

    def _dated(self, purchase: Purchase, orders: Sequence[Order]) -> Fact:
        day = self._purchases.day(purchase.time).isoformat()
        order_id = self._purchases.order_id(purchase.time)
        return self._fact("date", purchase.row, day, day, order_ids=(order_id,))

    def _last_order(self, question: Question) -> Answer:
        own = self._own_purchases(question)
        if isinstance(own, Answer):
            return own
        mine = [one for one in own if one.row in question.found.rows]
        if not mine:
            return self._never(question)
        if not self._purchases.dated:
            return self.hand_over("undated", question.intent)
        last = mine[0]
        orders = self._purchases.orders([last])
        facts = [self._title(last.row), self._dated(last, orders)]
        text = self._say("last_order", title=facts[0].text, date=facts[1].text)
        return self._answer("answered", question.intent, text, [last.row], facts, orders)

    def _never(self, question: Question) -> Answer:
        rows = question.found.rows[:MOST]
        titles, facts = self._titles(rows)
        none = [self._fact("times", row, 0, "0") for row in rows]
        return self._answer("answered", question.intent, self._say("never", title=titles), rows, [*facts, *none])

    def _times_bought(self, question: Question) -> Answer:
        own = self._own_purchases(question)
        if isinstance(own, Answer):
            return own
        row = next((one.row for one in own if one.row in question.found.rows), None)
        if row is None:
            return self._never(question)
        if not self._purchases.dated:
            return self.hand_over("undated", question.intent)
        mine = [one for one in own if one.row == row]
        orders = self._purchases.orders(mine)
        ids = tuple(order.order_id for order in orders)
        facts = [self._title(row), self._dated(mine[0], orders), self._fact("times", row, len(mine), str(len(mine)),
                                                                            order_ids=ids)]  # fmt: skip
        sentence = "once_bought" if len(mine) == 1 else "times_bought"
        text = self._say(sentence, title=facts[0].text, date=facts[1].text, times=facts[2].text)
        return self._answer("answered", question.intent, text, [row], facts, orders)

    def _orders(self, question: Question) -> Answer:
        own = self._own_purchases(question)
        if isinstance(own, Answer):
            return own
        if not self._purchases.dated:
            return self.hand_over("undated", question.intent)
        if question.found.rows:
            own = [one for one in own if one.row in question.found.rows]
            if not own and question.period is None:
                return self._never(question)
        elif question.found.named:
            return self.refuse("product", question.intent)
        if question.period is None:
            newest = [one for one in own if one.time == own[0].time]
            titles, facts = self._titles([one.row for one in newest])
            orders = self._purchases.orders(newest)
            dated = self._dated(newest[0], orders)
            text = self._say("orders", date=dated.text, titles=titles)
            return self._answer("answered", question.intent, text, [o.row for o in newest], [dated, *facts], orders)
        if not own:
            return self._answer("answered", question.intent, self._say("no_orders_in"))
        shown = own[:MOST]
        orders = self._purchases.orders(shown)
        facts = [fact for one in shown for fact in (self._title(one.row), self._dated(one, orders))]
        pairs = zip(facts[::2], facts[1::2], strict=True)
        listed = [self._say("dated_title", title=title.text, date=day.text) for title, day in pairs]
        text = self._say("orders_in", titles=self._language.join(listed))
        rows = list(dict.fromkeys(one.row for one in shown))
        return self._answer("answered", question.intent, text, rows, facts, orders)

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
        text = self._say(sentence, titles=self._language.join([fact.text for fact in facts]))
        return _with_items(self._answer("answered", question.intent, text, [], facts),
                           tuple(item.item_id for item in answer))  # fmt: skip


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


def _with_items(answer: Answer, items: tuple[Id, ...]) -> Answer:
    from dataclasses import replace

    return replace(answer, items=items)
