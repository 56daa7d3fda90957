"""What answers are made of: facts with their sources, and the answer itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from recsys.types import Id

Status = Literal["answered", "refused", "handed_over"]


@dataclass(frozen=True)
class Fact:
    """One statement of the tables.

    Attributes:
        name: What it states: a column of the catalogue, or `date`, `times`, `customers`.
        value: Its value, as the tables hold it.
        text: The value as sentences write it.
        item_id: The item that it is about.
        order_ids: The orders that it comes from; empty for the catalogue.
        with_item_id: The other item of a fact about two.
    """

    name: str
    value: str | float | int | bool
    text: str
    item_id: Id
    order_ids: tuple[str, ...] = ()
    with_item_id: Id | None = None


@dataclass(frozen=True)
class Order:
    """What one customer bought at one moment.

    Attributes:
        order_id: The moment, which tells the orders of a customer apart: ISO 8601 in UTC, or its place in the log where
            only the order of events is known.
        items: The ids of the items.
        titles: Their titles.
    """

    order_id: str
    items: tuple[Id, ...]
    titles: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        status: `answered`; `refused` (no such product, not understood, somebody else's orders); or `handed_over`, to a
            person, since the data do not hold it.
        text: The answer in the language of the question.
        intent: What the question was understood to want.
        items: The ids of the items that the answer is about, best first.
        orders: The customer's own orders that the answer is about, newest first.
        facts: What the text states, each with its source.
        language: `en` or `zh`.
        model_version: The version of the bundle that answered.
        reworded: Whether a model reworded the text; it states the same facts.
    """

    status: Status
    text: str
    intent: str
    items: tuple[Id, ...]
    orders: tuple[Order, ...]
    facts: tuple[Fact, ...]
    language: str
    model_version: str
    reworded: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON wants them."""
        return asdict(self)
