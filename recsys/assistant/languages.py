"""What the assistant knows of a language: example questions, words that name no product, sentences of its answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys.config import nearest
from recsys.errors import ConfigError

LANGUAGES = ("en", "zh")
SLOT = "{item}"
UNSPACED = "\u3400-\u9fff\uf900-\ufaff"


class _Questions(BaseModel):
    """A file of questions, as it must look."""

    model_config = ConfigDict(extra="forbid")

    intents: dict[str, Annotated[list[str], Field(min_length=1)]] = {}
    carriers: str = ""
    relative_times: list[str] = []
    currency: str | None = None


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        code: `en` or `zh`.
        examples: Questions by intent; `{item}` stands for a product.
        carriers: Words that carry a question and name no product, lower case.
        relative_times: Words for a stretch of time that orders cannot be filtered by.
        sentences: The sentences of answers by name, with facts in braces.
        currency: Written before every price; None writes prices without one, as the tables hold them.
    """

    code: str
    examples: Mapping[str, tuple[str, ...]]
    carriers: frozenset[str]
    relative_times: frozenset[str]
    sentences: Mapping[str, str]
    currency: str | None = None

    @cached_property
    def chinese_carriers(self) -> re.Pattern[str]:
        """Matches the Chinese carriers, the longest first."""
        words = sorted((word for word in self.carriers if re.search(f"[{UNSPACED}]", word)), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, words)) or r"(?!)")

    def extended(self, path: Path) -> Language:
        """Return the language with what a shop's own file adds: examples, carriers, a currency.

        Raises:
            ConfigError: The file is missing or no YAML, has an unknown key or intent, or a value of the wrong type.
        """
        added = _read(path)
        for intent in added.intents:
            if intent not in self.examples:
                known = sorted(self.examples)
                raise ConfigError(
                    f"questions file {path}: unknown intent {intent!r}{nearest(intent, known)}; known: "
                    f"{', '.join(known)}"
                )
        examples = {intent: (*own, *added.intents.get(intent, ())) for intent, own in self.examples.items()}
        return replace(
            self,
            examples=examples,
            carriers=self.carriers | frozenset(added.carriers.lower().split()),
            relative_times=self.relative_times | frozenset(added.relative_times),
            currency=added.currency or self.currency,
        )

    def price(self, value: float) -> str:
        """Write a price: two decimals, behind the currency where one is set."""
        return f"{self.currency or ''}{value:.2f}"

    def join(self, parts: list[str]) -> str:
        """Write a list as one phrase."""
        comma, last = self.sentences["comma"], self.sentences["and"]
        return last.join(filter(None, [comma.join(parts[:-1]), parts[-1]])) if parts else ""


@cache
def load_language(code: str) -> Language:
    """Return a language of this library."""
    folder = resources.files("recsys.assistant") / "language"
    questions = _read(Path(str(folder / f"questions.{code}.yaml")))
    sentences = yaml.safe_load((folder / f"answers.{code}.yaml").read_text(encoding="utf-8"))
    examples = {intent: tuple(texts) for intent, texts in questions.intents.items()}
    carriers, times = frozenset(questions.carriers.split()), frozenset(questions.relative_times)
    return Language(code, examples, carriers, times, sentences, questions.currency)


def language_of(text: str, languages: Mapping[str, Language]) -> str:
    """Return the code of the language whose carrier words a question has most of. Product names decide nothing."""
    english = sum(word in languages["en"].carriers for word in re.findall(r"[a-z']+", text.lower()))
    chinese = len(languages["zh"].chinese_carriers.findall(text))
    if english != chinese:
        return "en" if english > chinese else "zh"
    return "zh" if re.search(f"[{UNSPACED}]", text) else "en"


def _read(path: Path) -> _Questions:
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"questions file {path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    try:
        return _Questions.model_validate(raw or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = nearest(where, list(_Questions.model_fields)) if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"questions file {path}: {where}: {first['msg']}{hint}") from error
