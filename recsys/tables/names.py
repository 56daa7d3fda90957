"""What the name of a column says: the words of people, items, times, kinds, values and texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# Words of a column's name that speak for a role, the strongest first. `order_id` can be a user only where there is
# nothing better: then each order is taken for a session.
NAMES: Mapping[str, Sequence[str]] = {
    "user_id": ("user", "customer", "visitor", "member", "reviewer", "household", "buyer", "client", "shopper", "uid",
                "account", "person", "email", "session", "basket", "transaction", "invoice", "order"),
    "item_id": ("item", "product", "sku", "asin", "stockcode", "article", "movie", "film", "book", "isbn", "game",
                "goods", "track", "song", "listing", "iid", "pid", "aid", "lineitem"),
    "timestamp": ("timestamp", "datetime", "time", "date", "ts", "when", "day"),
    "event": ("event", "action", "behavior", "behaviour", "kind", "type"),
    "value": ("rating", "score", "stars", "overall", "rate", "grade", "quantity", "qty", "units", "playtime", "plays",
              "value", "count"),
    "title": ("title", "name", "label", "description"),
    "description": ("description", "body", "text", "summary", "details", "overview"),
    "category": ("category", "categories", "genre", "genres", "department", "class", "type", "aisle", "tags"),
    "brand": ("brand", "vendor", "manufacturer", "author", "artist", "publisher", "studio"),
    "price": ("price", "cost", "msrp"),
}  # fmt: skip
POSITIONS = ("position", "step", "index", "seq", "sequence", "place")
TIME_ENDINGS = ("time", "date", "at", "dat")
KEY_ENDINGS = ("id", "code", "no", "number", "key", "sku", "asin", "isbn", "email", "hash")
# Words of amounts and of what stands beside an id, and of moments after the one at which somebody chose.
NO_ITEM = ("quantity", "qty", "price", "total", "amount", "count", "tax", "discount", "taxable", "status", "properties")
LINE = ("item", "line", "lineitem", "product")  # in a name such as `order_item_id`, the number of a line
NO_VALUE = (
    "freight",
    "shipping",
    "price",
    "tax",
    "discount",
    "total",
    "average",
    "mean",
    "weight",
    "ratings",
    "reviews",
)
LATER = (
    "shipping",
    "shipped",
    "delivery",
    "delivered",
    "estimated",
    "limit",
    "updated",
    "modified",
    "approved",
    "last",
    "cancelled",
    "expires",
    "birth",
    "registered",
    "fulfilled",
    "paid",
    "carrier",
    "due",
    "release",
)
SESSION = "session_id"  # from this word on, a name speaks for a visit and not for a person


def words_of(name: str) -> list[str]:
    """Split a column's name into lower-case words: `CustomerID` and `customer_id:token` are `customer`, `id`."""
    plain = name.split(":")[0]
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3 \2\4", plain)
    return [word for word in re.split(r"[^0-9a-z\u0080-\uffff]+", spaced.lower()) if word]


def strength(name: str, role: str) -> float:
    """How much a column's name speaks for a role: 0 for nothing, higher for words nearer the front of `NAMES`."""
    outer, _, leaf = name.rpartition(".")
    if outer and any(strength(leaf, one) for one in NAMES):  # `events.type` is a type, and `product.id` a product
        name = leaf
    words = words_of(name)
    wanted = NAMES[role]
    best = 0.0
    for place, word in enumerate(wanted):
        whole = word in words or "".join(words) == word
        joined = any(own.startswith(word) and own[len(word) :] in ("id", "code", "no", "number", "s") for own in words)
        if whole or joined:
            exact = len(words) == 1 or words[-1] in KEY_ENDINGS
            best = max(best, 1 - place / (2 * len(wanted)) + 0.25 * exact)
    return best


def names_people(name: str) -> bool:
    """Whether a column of users speaks of people, and not of their visits or orders."""
    return strength(name, "user_id") >= strength(SESSION, "user_id") + 0.01


def names_time(name: str) -> bool:
    """Whether a name is that of a time."""
    words = words_of(name)
    return strength(name, "timestamp") > 0 or any(word.endswith(TIME_ENDINGS) for word in words)


def is_line(name: str) -> bool:
    """Whether a name is that of a line of an order, such as `order_item_id`."""
    words = words_of(name)
    return (
        "item" in words
        and bool({"order", "line"} & {*words})
        and {*words} <= {"order", "line", "item", *KEY_ENDINGS[:5]}
    )
