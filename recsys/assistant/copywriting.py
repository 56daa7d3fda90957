"""Descriptions, ads and e-mails: a template of true sentences, or a model's draft that the verifier passed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from recsys.assistant.drafts import Drafter, DraftError
from recsys.assistant.facts import Fact
from recsys.assistant.languages import UNSPACED, load_language
from recsys.assistant.orders import FEWEST_CUSTOMERS, Purchases
from recsys.assistant.verifier import NameIndex, Problem, Source, Verifier, load_copy_language
from recsys.embedding.markup import strip_markup
from recsys.errors import RequestError
from recsys.serving.recommender import Recommender
from recsys.types import Id

Kind = Literal["description", "ad", "email"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COMPANIONS = 2
# What each kind tells, in this order, where it is known; and the sentences whose names differ from their facts'.
SENTENCES: dict[Kind, tuple[str, ...]] = {
    "description": ("description", "brand", "category", "price", "companion"),
    "ad": ("description", "price", "companion"),
    "email": ("description", "brand", "price", "companion"),
}
PHRASES = {"description": "text", "companion": "companions"}


@dataclass(frozen=True)
class Copy:
    """A text about an item, or about a list of items for an audience.

    Attributes:
        kind: `description`, `ad` or `email`.
        language: `en` or `zh`.
        subject: The subject of an e-mail, else empty.
        text: The text. The verifier passed it.
        written_by: `template` or `model`.
        items: The items that it is about.
        facts: What it states, each with its item.
        rejected: Drafts that were not published, each with its reasons.
    """

    kind: Kind
    language: str
    subject: str
    text: str
    written_by: Literal["template", "model"]
    items: tuple[Id, ...]
    facts: tuple[Fact, ...]
    rejected: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON wants them."""
        return asdict(self)


class Copywriter:
    """Writes copy about the items of a bundle."""

    def __init__(self, recommender: Recommender, drafter: Drafter | None = None, currency: str | None = None,
                 attempts: int = 2) -> None:  # fmt: skip
        """Prepare to write.

        Args:
            recommender: The bundle.
            drafter: A model that drafts; None writes templates alone.
            currency: Written before every price; None writes prices without one, as the catalogue holds them.
            attempts: How many drafts of a text are tried before the template is taken.
        """
        self.recommender, self._drafter, self._attempts = recommender, drafter, attempts
        self._currency = currency or ""
        self._purchases = Purchases(recommender)
        self._catalog = recommender.catalog

    def write(self, item_id: Id, kind: Kind = "description", language: str | None = None) -> Copy:
        """Write about one item.

        Args:
            item_id: The item.
            kind: `description`, `ad` or `email`.
            language: `en` or `zh`; None takes that of the item's own texts.

        Returns:
            The copy. A draft is published only where the verifier finds nothing wrong with it; else the template is.

        Raises:
            UnknownIdError: The catalogue does not hold the item.
            RequestError: The kind or the language is unknown.
        """
        self._check(kind, language)
        row = self.recommender.item_row(item_id)
        return self._write(row, kind, language or self._language_of(row))

    def write_all(self, kind: Kind = "description", language: str | None = None) -> Iterator[Copy]:
        """Write about every item of the catalogue, in its order. Raises `RequestError` as `write`."""
        self._check(kind, language)
        for row in range(len(self._catalog)):
            yield self._write(row, kind, language or self._language_of(row))

    def write_to(self, user_ids: Sequence[Id], k: int = 5, language: str = "en") -> Copy:
        """Write an e-mail to an audience: the items that most of its members would be shown, each with a true reason.

        A reason counts members, never fewer than five of them, so it tells nobody's own orders. An item for which no
        reason is true is left out.

        Args:
            user_ids: The members.
            k: How many items at most.
            language: `en` or `zh`.

        Raises:
            UnknownIdError: The bundle does not hold a member.
            RequestError: The audience has fewer than five members, no item has a reason, or purchases cannot be told
                from other events.
        """
        self._check("email", language)
        members = list(dict.fromkeys(user_ids))
        if len(members) < FEWEST_CUSTOMERS:
            raise RequestError(f"an audience has at least {FEWEST_CUSTOMERS} members, and this one has {len(members)}")
        if not self._purchases.known:
            raise RequestError("the bundle cannot tell purchases from other events: the config gives both one weight")
        return self._letter(members, k, load_copy_language(language).sentences, language)

    def _check(self, kind: str, language: str | None) -> None:
        if kind not in KINDS:
            raise RequestError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if language not in (None, "en", "zh"):
            raise RequestError(f"language must be en or zh, got {language!r}")

    def _language_of(self, row: int) -> str:
        text = f"{self._catalog.title(row)} {self._catalog.frame['description'][row] or ''}"
        return "zh" if len(re.findall(f"[{UNSPACED}]", text)) > len(re.findall(r"[A-Za-z]+", text)) else "en"

    def _write(self, row: int, kind: Kind, code: str) -> Copy:
        facts = self._facts(row)
        source = self._source(facts)
        template = self._template(kind, code, facts, source)
        rejected: list[dict[str, Any]] = []
        for _ in range(self._attempts if self._drafter is not None else 0):
            draft, problems = self._draft(kind, code, template, source)
            if draft is not None and not problems:
                return replace(template, text=draft, written_by="model", rejected=tuple(rejected))
            rejected.append({"text": draft, "reasons": [str(problem) for problem in problems]})
        return replace(template, rejected=tuple(rejected))

    def _facts(self, row: int) -> dict[str, list[Fact]]:
        """Return what is known of an item, by name; `companion` holds up to two other items."""
        item, frame = self._catalog.ids[row], self._catalog.frame
        title = self._catalog.title(row)
        facts: dict[str, list[Fact]] = {"title": [Fact("title", title, title, item)]}
        for column in ("description", "brand", "category"):
            value = frame[column][row]
            clean = " ".join(strip_markup(pl.Series([str(value or "")]))[0].split())
            if clean:
                facts[column] = [Fact(column, value, clean, item)]
        price = frame["price"][row]
        if price is not None and np.isfinite(price):
            facts["price"] = [Fact("price", float(price), f"{self._currency}{price:.2f}", item)]
        companions = self._purchases.companions(row, COMPANIONS) if self._purchases.known else []
        names = [(self._catalog.ids[other], self._catalog.title(other)) for other, _ in companions]
        facts["companion"] = [
            Fact("title", name, name, other, with_item_id=item) for other, name in names if name != title
        ]
        return facts

    def _source(self, facts: dict[str, list[Fact]]) -> Source:
        def one(name: str) -> str | None:
            return facts[name][0].text if name in facts else None

        description = one("description")
        return Source((facts["title"][0].text,), tuple(fact.text for fact in facts["companion"]), one("brand"),
                      one("category"), one("price"), () if description is None else (description,))  # fmt: skip

    def _template(self, kind: Kind, code: str, facts: dict[str, list[Fact]], source: Source) -> Copy:
        """Return the template, without the sentences that the verifier does not pass."""
        say, language, verifier = load_copy_language(code).sentences, load_language(code), self.verifier(code)
        texts = {name: of_name[0].text for name, of_name in facts.items() if of_name}
        texts["companions"] = language.join([fact.text for fact in facts["companion"]])
        end, space = ("。", "") if code == "zh" else (".", " ")
        told = list(facts["title"])
        text = _ended(say[kind].format(**texts), end)
        for name in SENTENCES[kind]:
            repeats = name == "description" and texts.get(name) == texts["title"]
            if name not in texts or repeats:
                continue
            longer = space.join([text, _ended(say[PHRASES.get(name, name)].format(**texts), end)])
            if not verifier.check(longer, source):
                text = longer
                told += facts[name]
        subject = say["email_subject"].format(**texts) if kind == "email" else ""
        return Copy(kind, code, subject, text, "template", (told[0].item_id,), tuple(told))

    def _draft(self, kind: Kind, code: str, template: Copy, source: Source) -> tuple[str | None, list[Problem]]:
        prompt = load_copy_language(code).sentences["prompt"].format(kind=kind, facts=template.text)
        assert self._drafter is not None
        try:
            draft = self._drafter.draft(prompt)
        except DraftError as error:
            return None, [Problem("draft", "", str(error))]
        return draft, self.verifier(code).check(draft, source)

    def verifier(self, language: str) -> Verifier:
        """Return the verifier of a language, which knows the names of the catalogue."""
        return Verifier(language, self._names)

    def source(self, item_id: Id) -> Source:
        """Return what a text about an item may state. Raises `UnknownIdError` as `write`."""
        return self._source(self._facts(self.recommender.item_row(item_id)))

    @cached_property
    def _names(self) -> NameIndex:
        return NameIndex(self._catalog.titles, self._catalog.frame["brand"].drop_nulls().cast(pl.String).unique())

    # A letter to an audience

    def _letter(self, members: list[Id], k: int, say: dict[str, str], code: str) -> Copy:
        shown = self.recommender.recommend_batch(members, max(2 * k, 10))
        ranked = shown.group_by("item_id").len().sort("len", "item_id", descending=[True, False])["item_id"]
        bought = [{one.row for one in self._purchases.of_user(member)} for member in members]
        lines, items, facts = [say["audience"]], list[Id](), list[Fact]()
        for item in ranked:
            if len(items) == k:
                break
            row = self.recommender.item_row(item)
            reason = self._reason(row, bought, say)
            if reason is None:
                continue
            own = self._facts(row)
            told = [own["title"][0], *own.get("price", []), reason[1]]
            sentence = "audience_item" if "price" in own else "audience_item_unpriced"
            lines += ["", say[sentence].format(**{fact.name: fact.text for fact in told}), reason[0]]
            items.append(item)
            facts += told
        if not items:
            raise RequestError(
                f"no item has a reason that is true of {FEWEST_CUSTOMERS} or more of the {len(members)} members; "
                "take a larger audience"
            )
        return Copy("email", code, say["audience_subject"], "\n".join(lines), "template", tuple(items), tuple(facts))

    def _reason(self, row: int, bought: list[set[int]], say: dict[str, str]) -> tuple[str, Fact] | None:
        """Return the strongest reason that is true of enough members: they had it, its companion, or its category."""
        item, size = self._catalog.ids[row], len(bought)
        count = sum(row in own for own in bought)
        if count >= FEWEST_CUSTOMERS:
            text = say["reason_bought"].format(count=count, size=size)
            return text, Fact("members", count, str(count), item)
        for other, _ in self._purchases.companions(row, COMPANIONS):
            count = sum(other in own for own in bought)
            if count >= FEWEST_CUSTOMERS:
                text = say["reason_companion"].format(count=count, size=size, other=self._catalog.title(other))
                return text, Fact("members", count, str(count), item, with_item_id=self._catalog.ids[other])
        category = self._catalog.frame["category"][row]
        if category is None:
            return None
        within = (self._catalog.frame["category"] == category).fill_null(False)
        of_category = set(within.arg_true().to_list())
        count = sum(bool(own & of_category) for own in bought)
        if count < FEWEST_CUSTOMERS:
            return None
        text = say["reason_category"].format(count=count, size=size, category=category)
        return text, Fact("members", count, str(count), item)


def _ended(sentence: str, end: str) -> str:
    """End a sentence, unless it ends itself."""
    sentence = sentence.rstrip()
    doubled = sentence.endswith(end * 2)
    return sentence[:-1] if doubled else sentence if sentence[-1:] in ".!?。！？" else f"{sentence}{end}"
