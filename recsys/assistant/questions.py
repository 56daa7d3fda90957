"""Customers' questions, answered from the catalogue and their own orders, or refused, or handed over to a person."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import FloatArray
from recsys.assistant.answers import Answering
from recsys.assistant.building import Question
from recsys.assistant.conditions import take_period, take_price_range
from recsys.assistant.drafts import Drafter, DraftError
from recsys.assistant.facts import Answer
from recsys.assistant.intents import Encode, IntentClassifier
from recsys.assistant.languages import LANGUAGES, SLOT, Language, language_of, load_language
from recsys.assistant.orders import Purchases
from recsys.assistant.products import ProductFinder
from recsys.assistant.quantities import plain
from recsys.assistant.verifier import NameIndex, Source, Verifier, load_copy_language
from recsys.assistant.who import speaks_of_others
from recsys.embedding.coverage import MOST as UNREAD
from recsys.embedding.coverage import find_vocabulary
from recsys.errors import RequestError
from recsys.serving import requests
from recsys.serving.recommender import Recommender
from recsys.types import Id

log = logging.getLogger(__name__)

# Below this probability of the likeliest intent, a question is refused. Chosen on the development part of the
# questions in tests/assistant, never on the final third.
UNDERSTOOD = 0.3
LONGEST = 500  # characters of a question
# Intents whose answers a model may reword: others deny, compare or relate, which a changed word may turn around.
REWORDED = ("price", "brand", "category", "describe", "search", "recommend")
SURE = 0.6  # probability from which on a question is taken to be about a product that the shop lacks
OF_PRODUCTS = ("price", "stock", "search", "brand", "describe", "cheapest", "dearest", "goes_with", "similar")
SEARCHES = ("search", "recommend", "cheapest", "dearest", "category")


class Assistant:
    """Answers questions over one bundle. Built once; `ask` changes nothing, so threads may share it.

        assistant = Assistant(Recommender.load("artifacts/shop"))
        assistant.ask("How much is the Aurora tent?").text

    An answer speaks of the orders of `user_id` alone. No word of a question chooses whose orders are read, so whoever
    calls must know that the user is who they say.
    """

    def __init__(self, recommender: Recommender, questions: str | Path | None = None,
                 drafter: Drafter | None = None) -> None:  # fmt: skip
        """Prepare to answer.

        Args:
            recommender: The bundle.
            questions: A shop's own YAML of example questions, carrier words and currency, in either language.
            drafter: A model that may reword answers; its text is used only where the verifier passes it.

        Raises:
            ConfigError: The file cannot be read, or scikit-learn is not installed.
        """
        self.recommender = recommender
        self._drafter = drafter
        languages = {code: load_language(code) for code in LANGUAGES}
        if questions is not None:
            languages = {code: language.extended(Path(questions)) for code, language in languages.items()}
        self._languages = languages
        self._purchases = Purchases(recommender)
        self._lock = Lock()
        self._classifiers: dict[str, IntentClassifier] = {}

    def ask(self, question: str, user_id: Id | None = None) -> Answer:
        """Answer a question.

        Args:
            question: What a customer asks, in English or Chinese, up to 500 characters.
            user_id: Who asks, where that is known: the only user whose orders the answer may speak of.

        Returns:
            The answer. Each number and name in its text is one of its facts, with an item or orders as the source.

        Raises:
            RequestError: The question is no text, blank or too long, or the user id is no id.
            ArtifactError: The encoder on this machine is not the one that made the bundle's vectors.
        """
        text = requests.check_text(question, "a question").strip()
        if len(text) > LONGEST:
            raise RequestError(f"a question has at most {LONGEST} characters, and this one has {len(text)}")
        if user_id is not None:
            requests.check_user_id(user_id)
        language = self._languages[language_of(text, self._languages)]
        answering = Answering(self.recommender, self._purchases, language)
        if speaks_of_others(text, self.recommender.user_ids, user_id):
            return answering.refuse("others", "others")
        limits, rest = take_price_range(_without_id(text, user_id))
        period, rest = take_period(rest)
        found = self._finder.find(rest)
        intent, probability = self._intent(found.rest, language)
        if not found.rows and (wider := self._finder.find(rest, loose=True)).rows:
            searching = self._intent(wider.rest, language)
            if searching[0] in SEARCHES:
                found, (intent, probability) = wider, searching
        if intent == "unknown" and found.named and not found.rows:
            # A product that the shop lacks is a word that no example has: what would be asked if it were one?
            supposed, sure = self._intent(found.rest.replace(found.words, SLOT), language)
            intent = supposed if sure >= SURE and supposed in OF_PRODUCTS else intent
        if probability < UNDERSTOOD:
            return answering.refuse("unclear", intent)
        return self._reworded(answering.answer(Question(rest, intent, found, user_id, limits, period)))

    def _reworded(self, answer: Answer) -> Answer:
        """Let the model say the same in its words, where the verifier passes them; else keep the template's."""
        if self._drafter is None or answer.status != "answered" or answer.intent not in REWORDED:
            return answer
        titles = tuple(dict.fromkeys(fact.text for fact in answer.facts if fact.name == "title"))
        values = {fact.name: fact.text for fact in answer.facts}
        if len(titles) > 1 and len(values) > 1:  # a value of one item must not go over to another
            return answer
        source = Source(titles, (), values.get("brand"), values.get("category"), values.get("price"), (answer.text,))
        prompt = load_copy_language(answer.language).sentences["prompt_reword"].format(text=answer.text)
        try:
            draft = self._drafter.draft(prompt)
        except DraftError as error:
            log.warning("the answer keeps the words of its template: %s", error)
            return answer
        told = [plain(fact.text) in plain(draft) for fact in answer.facts]
        if not all(told) or Verifier(answer.language, self._names).check(draft, source):
            return answer
        return replace(answer, text=draft, reworded=True)

    @cached_property
    def _names(self) -> NameIndex:
        catalog = self.recommender.catalog
        return NameIndex(catalog.titles, catalog.frame["brand"].drop_nulls().cast(pl.String).unique())

    def _intent(self, masked: str, language: Language) -> tuple[str, float]:
        classifier = self._classifier(language)
        probability = classifier.probabilities([masked])[0]
        best = int(np.argmax(probability))
        return classifier.intents[best], float(probability[best])

    def _classifier(self, language: Language) -> IntentClassifier:
        """Return the classifier of a language, fitted with the first question in it."""
        with self._lock:
            if language.code not in self._classifiers:
                self._classifiers[language.code] = IntentClassifier(language.examples, language.code, self._encode)
            return self._classifiers[language.code]

    @property
    def _encode(self) -> Encode:
        return self.recommender.text_space.encoder.encode

    @cached_property
    def _finder(self) -> ProductFinder:
        languages = list(self._languages.values())
        return ProductFinder(self.recommender.catalog, languages, self._purchases.counts, self._cosines)

    def _cosines(self, text: str) -> FloatArray:
        """Return the cosine of a text with every item `(I,)`; zeros where the encoder cannot read the text."""
        vocabulary = find_vocabulary(self.recommender.config.embedding)
        if vocabulary is not None and vocabulary.unread_shares([text])[0] >= UNREAD:
            return np.zeros(len(self.recommender.catalog), dtype=np.float32)
        return self.recommender.vectors @ self.recommender.text_space.encode([text])[0]


def _without_id(text: str, user_id: Id | None) -> str:
    """Take the id of the one who asks out of a question: it names no product."""
    return text if user_id is None else re.sub(rf"(?<!\w){re.escape(str(user_id))}", " ", text, flags=re.IGNORECASE)


def answer_request(assistant: Assistant, body: Mapping[str, Any], user_id: Id | None) -> dict[str, Any]:
    """Answer the body of an HTTP request; a service mounts this under `/ask`.

    Args:
        assistant: The assistant.
        body: `{"question": "…"}` and nothing else: a body does not say whose orders it wants.
        user_id: Who asks, as the service has authenticated them; None for nobody.

    Returns:
        The answer as plain data.

    Raises:
        RequestError: The body is no such mapping, or as `Assistant.ask`.
        ArtifactError: As `Assistant.ask`.
    """
    if not isinstance(body, Mapping) or set(body) != {"question"}:
        keys = sorted(map(str, body)) if isinstance(body, Mapping) else type(body).__name__
        raise RequestError(f"the body must be {{'question': TEXT}} and nothing else, and has {keys}")
    return assistant.ask(body["question"], user_id).to_dict()
