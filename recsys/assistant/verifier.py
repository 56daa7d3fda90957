"""Whether a text states only what its source states: typed numbers, whole names, no word that nothing vouches for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import yaml

from recsys.assistant.languages import UNSPACED
from recsys.assistant.quantities import Quantity, plain, quantities, spellings
from recsys.assistant.tokens import head_of, singular, tokens_of

# Private-use characters that stand for what is vouched for, once it is found.
_MARKS = TITLE, COMPANION, BRAND, PRICE, QUOTE, CATEGORY, FIXED = tuple(chr(0xE000 + n) for n in range(7))
_OF_THE_ITEM = frozenset((BRAND, PRICE, QUOTE, CATEGORY))
WORD_LISTS = ("neutral", "pairing", "claims", "negations")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；;])|\n")
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


@dataclass(frozen=True)
class Problem:
    """Why a text is not published.

    Attributes:
        kind: money, percent, count, name, companion, brand, claim, or word (one that nothing vouches for).
        text: What the text says.
        reason: Why that is not so.
    """

    kind: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text!r} {self.reason}"


@dataclass(frozen=True)
class Source:
    """What a text may state.

    Attributes:
        titles: Names that the text must hold whole: the item's title.
        companions: Names that it may hold, in sentences about nothing else.
        brand: The item's brand.
        category: The item's category, its parts separated by ` > `.
        price: The price as it must be written, with its currency where one is known.
        texts: Sentences that it may quote, and whose words it may use: the item's description.
        fixed: Sentences that it may hold as they are and no other way.
        pairing: Whether it may say that companions go with the item.
    """

    titles: tuple[str, ...]
    companions: tuple[str, ...] = ()
    brand: str | None = None
    category: str | None = None
    price: str | None = None
    texts: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    pairing: bool = True


@dataclass(frozen=True)
class CopyLanguage:
    """The sentences of copy in one language, and the words that a verified text may use."""

    code: str
    sentences: dict[str, str]
    neutral: tuple[str, ...]
    pairing: tuple[str, ...]
    claims: tuple[str, ...]
    negations: tuple[str, ...]


@cache
def load_copy_language(code: str) -> CopyLanguage:
    """Return a language of this library: `en` or `zh`."""
    path = resources.files("recsys.assistant") / "language" / f"copy.{code}.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    words = {name: tuple(sorted(raw.pop(name).split(), key=len, reverse=True)) for name in WORD_LISTS}
    return CopyLanguage(code, raw, **words)


class NameIndex:
    """The names of a catalogue, to find those that a text must not hold."""

    def __init__(self, titles: Iterable[str], brands: Iterable[str]) -> None:
        self._starting: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
        for kind, names in (("companion", titles), ("brand", brands)):
            for name in names:
                forms = tuple(token.form for token in tokens_of(plain(name)))
                if forms:
                    self._starting[forms[0]][forms] = kind

    def find(self, text: str) -> list[tuple[str, int, int]]:
        """Return the whole names in a text as (kind, start, end); kinds are `companion` (a title) and `brand`."""
        tokens = tokens_of(text)
        forms = tuple(token.form for token in tokens)
        return [
            (kind, tokens[start].start, tokens[start + len(name) - 1].end)
            for start, form in enumerate(forms)
            for name, kind in self._starting.get(form, {}).items()
            if forms[start : start + len(name)] == name
        ]


class Verifier:
    """Checks texts against their source. Strict: what cannot be checked is not said.

    Every number must be the source's, of the same type and unit. Names stand whole, those of other items not at all. A
    sentence that names a companion says nothing else. Words come from the source, or from a list of words that state
    nothing; a sentence of the source with a negation may only be quoted, since its words alone may say the opposite.
    """

    def __init__(self, language: str, names: NameIndex) -> None:
        self.language = load_copy_language(language)
        self._names = names

    def check(self, text: str, source: Source) -> list[Problem]:
        """Return what is wrong with a text; nothing where it may be published."""
        written = plain(text)
        if any(0xE000 <= ord(letter) <= 0xF8FF for letter in written):
            return [Problem("word", "a private-use character", "has no place in a text")]
        return list(dict.fromkeys(self._problems(written, _Vouched(source, self.language))))

    def _problems(self, written: str, vouched: _Vouched) -> Iterable[Problem]:
        for title in vouched.titles:
            if not _whole(title).search(written):
                yield Problem("name", title, "is missing, or not whole")
        masked = vouched.mask_names(written)
        for kind, start, end in self._names.find(masked):
            if not vouched.allows(masked[start:end]):
                yield Problem(kind, masked[start:end], "is the name of something else")
        masked = vouched.mask_facts(masked)
        after_companion = False
        for sentence in filter(None, _SENTENCE.split(masked)):
            yield from self._sentence(sentence, vouched)
            plain_words = frozenset(self.language.neutral) | vouched.nouns
            states = set(sentence) & _OF_THE_ITEM or any(word not in plain_words for word in _WORD.findall(sentence))
            if after_companion and states and not {TITLE, COMPANION, FIXED} & set(sentence):
                yield Problem("companion", _shown(sentence), "follows a companion, and may speak of it or of the item")
            after_companion |= COMPANION in sentence

    def _sentence(self, sentence: str, vouched: _Vouched) -> Iterable[Problem]:
        of_companion = COMPANION in sentence
        if of_companion and set(sentence) & _OF_THE_ITEM:
            yield Problem("companion", _shown(sentence), "joins a companion with facts of the item")
        bare = self._without_phrases(sentence, vouched, of_companion)
        for quantity in quantities(bare):
            if of_companion or quantity not in vouched.quantities:
                yield Problem(quantity.kind, str(quantity), "is not in the source")
        for word in self._unvouched(bare, vouched, of_companion):
            claim = word in self.language.claims or any(part in self.language.claims for part in re.split("['-]", word))
            reason = "is a claim that the source does not make" if claim else "is not in the source"
            yield Problem("claim" if claim else "word", word, reason)

    def _without_phrases(self, sentence: str, vouched: _Vouched, of_companion: bool) -> str:
        """Take the vouched Chinese phrases out, the longest first."""
        phrases = [*self.language.neutral, *(self.language.pairing if of_companion and vouched.source.pairing else ()),
                   *(() if of_companion else vouched.chinese)]  # fmt: skip
        chinese = sorted((p for p in phrases if re.search(f"[{UNSPACED}]", p)), key=len, reverse=True)
        if not chinese:
            return sentence
        return re.sub("|".join(map(re.escape, chinese)), " ", sentence)

    def _unvouched(self, bare: str, vouched: _Vouched, of_companion: bool) -> Iterable[str]:
        allowed = set(self.language.neutral)
        if of_companion and vouched.source.pairing:
            allowed |= set(self.language.pairing)
        if not of_companion:
            allowed |= vouched.words
        yield from re.findall(r"[%$£€¥#@*_<>{}\[\]|\\/+=^~`©®™]|https?|www", bare)
        for word in _WORD.findall(bare):
            if re.fullmatch(f"[{UNSPACED}]+", word):
                yield from self._claims_of(word)
            elif word not in allowed and singular(word) not in allowed:
                yield word

    def _claims_of(self, run: str) -> list[str]:
        """Name the claims in a run of Chinese that nothing vouches for, or the run itself."""
        claims = [claim for claim in self.language.claims if claim in run]
        return claims[:1] or [run]


class _Vouched:
    """What a source vouches for, in the form in which texts are compared."""

    def __init__(self, source: Source, language: CopyLanguage) -> None:
        self.source, self._language = source, language
        self.titles = [plain(title) for title in source.titles]
        self._companions = [plain(name) for name in source.companions]
        self._texts = [plain(text) for text in source.texts]
        self._parts = [plain(part) for part in (source.category or "").split(" > ") if part.strip()]
        self._brand = plain(source.brand or "")

    @cached_property
    def _sentences(self) -> list[str]:
        return [one.strip() for text in self._texts for one in _SENTENCE.split(text) if one and one.strip()]

    @cached_property
    def _open(self) -> list[str]:
        """The sentences whose words may be used one by one: those that deny nothing."""
        chinese, words = self._language.code == "zh", set(self._language.negations)
        return [
            one for one in self._sentences
            if not (any(word in one for word in words) if chinese
                    else words & set(re.split(r"[\s-]+|'", re.sub(r"[^\w\s'-]", " ", one))) or "n't" in one)
        ]  # fmt: skip

    @cached_property
    def nouns(self) -> frozenset[str]:
        """What the item is, as its title ends: `tent` of `Aurora tent`."""
        return frozenset(head_of(title) for title in self.titles)

    @cached_property
    def words(self) -> frozenset[str]:
        """Words of the source that stand for themselves; its numbers and names do not."""
        found = {word for text in [*self._open, *self._parts] for word in _WORD.findall(text)}
        units = {word for quantity in self.quantities for word in spellings(quantity.unit)}
        return frozenset(found | {singular(word) for word in found} | self.nouns | units)

    @cached_property
    def chinese(self) -> tuple[str, ...]:
        """Clauses of the source in Chinese."""
        clauses = [clause for text in self._open for clause in re.split(r"[,，、;；:：.。!！?？\s]+", text)]
        return tuple(clause for clause in [*clauses, *self._parts] if len(clause) > 1)

    @cached_property
    def quantities(self) -> frozenset[Quantity]:
        """The numbers of the source, by type and unit."""
        return frozenset(one for text in [*self.titles, *self._open] for one in quantities(text))

    def mask_names(self, text: str) -> str:
        """Put marks for the names and quoted sentences that stand whole in a text, the longest first."""
        names = [(title, TITLE) for title in self.titles] + [(name, COMPANION) for name in self._companions]
        fixed = [(plain(one), FIXED) for one in self.source.fixed]
        quotes = [(text.rstrip(".。"), QUOTE) for text in [*self._texts, *self._sentences]]
        # A quotation holds names of its own; a name within it is its own affair.
        for name, mark in sorted({*fixed, *quotes, *names}, key=lambda pair: (-len(pair[0]), pair)):
            if name:
                text = _whole(name).sub(mark, text)
        return text

    def mask_facts(self, text: str) -> str:
        """Put marks for the price, the category and the brand."""
        if self.source.price:
            price = re.escape(plain(self.source.price))
            text = re.sub(rf"(?<![a-z0-9.,$£€¥-]){price}(?=\s*(?:$|[.!?;,。！？；，)](?!\d)))", PRICE, text)
        whole = " > ".join(self._parts)
        for name, mark in [(whole, CATEGORY), *((part, CATEGORY) for part in self._parts), (self._brand, BRAND)]:
            if name:
                text = _whole(name).sub(mark, text)
        return text

    def allows(self, name: str) -> bool:
        """Whether the source has words that are the name of another item too."""
        words = _WORD.findall(name)
        known = self._brand, *self._parts
        vouched = bool(words) and all({word, singular(word)} & self.words for word in words)
        return vouched or name in known or name in self.chinese


def _whole(name: str) -> re.Pattern[str]:
    """Match a name that no further letter, digit or hyphen continues; Chinese sets no spaces, so it may go on."""
    spaced = [letter.isalnum() and not re.match(f"[{UNSPACED}]", letter) for letter in (name[0], name[-1])]
    before, after = r"(?<![^\W_])(?<!\w-)" if spaced[0] else "", r"(?![^\W_])(?!-\w)" if spaced[1] else ""
    return re.compile(before + re.escape(name) + after)


def _shown(sentence: str) -> str:
    return "".join("…" if letter in _MARKS else letter for letter in sentence).strip()
