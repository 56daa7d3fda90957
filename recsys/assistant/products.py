"""Which products a question names: words of the catalogue first, the nearest vector where no word fits."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.assistant.languages import SLOT, Language
from recsys.assistant.tokens import CHINESE, LAST, Token, alternatives, forms_of, head_of, is_size, tokens_of
from recsys.types import CATEGORY_SEPARATOR, Catalog

# Chosen on the development part of the questions in tests/assistant, never on the final third.
COVERED = 0.6  # share of a question's own words, by rarity, that an item must explain
COVERED_BY_TITLE = 0.25  # the same where the question holds the item's whole title
NAMED = 0.5  # share of a title's words, by rarity, that names the item without its noun
NEAR = 5.5  # standard deviations above the mean cosine at which an item answers a search that shares no word with it
NEARLY_AS_NEAR = 0.9  # of the nearest item's cosine, for further items
LIKE_A_WORD = 0.8  # likeness of a misspelt word to a word of the catalogue (difflib)
SHORTEST_MISSPELT = 6  # letters

_SPLIT = re.compile(r"\band\b|\bor\b|&|,|，|、|和|与|还有|以及", re.IGNORECASE)
_JOINED = re.compile(r"\band\b|\bor\b|&|、|和|与|还有|以及", re.IGNORECASE)
_BEFORE_NUMBER = re.compile(r"(?:\bitem|\bproduct|\bnumber|\bno\.?|#|\bid|商品|编号|货号)\W*$", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """The products that a question names.

    Attributes:
        rows: Their rows, best first; empty where none fits.
        named: Whether the question names a product at all, found or not.
        rest: The question with `{item}` in the place of the name of a product that was found.
        strangers: Words that neither carry a question nor belong to the products.
        words: The words that name the product, as the question has them.
        several: Whether several products are named, each by words of its own.
    """

    rows: tuple[int, ...]
    named: bool
    rest: str
    strangers: tuple[str, ...] = ()
    words: str = ""
    several: bool = False


@dataclass(frozen=True)
class _Reading:
    """A question, token by token: which carry it, which lie in a whole title, and the forms of each."""

    text: str
    tokens: list[Token]
    carries: list[bool]
    forms: list[tuple[str, ...]]

    @property
    def content(self) -> list[int]:
        """The places of the words that may name a product."""
        return [place for place, carries in enumerate(self.carries) if not carries]

    def touching(self, one: int, other: int) -> bool:
        """Whether nothing but a space or a hyphen stands between two tokens in a row."""
        first, second = sorted((one, other))
        between = self.text[self.tokens[first].end : self.tokens[second].start]
        return second - first == 1 and not between.strip(" -'’")

    def span(self, places: Sequence[int]) -> tuple[int, int]:
        """Return where the tokens of these places begin and end."""
        return self.tokens[places[0]].start, self.tokens[places[-1]].end


class ProductFinder:
    """Finds the products of a catalogue in questions. Read-only once built, so threads may share it."""

    def __init__(self, catalog: Catalog, languages: Sequence[Language], popularity: LongArray,
                 cosines: Callable[[str], FloatArray] | None = None) -> None:  # fmt: skip
        """Index a catalogue.

        Args:
            catalog: The items.
            languages: Those of the questions, whose carriers name no product.
            popularity: How often each item was bought `(I,)`; the more popular of equals comes first.
            cosines: From a text to its cosine with every item `(I,)`; None looks at words alone.
        """
        words = (word for language in languages for word in language.carriers if not CHINESE.search(word))
        self._carriers = frozenset(token.form for word in words for token in tokens_of(word))
        self._chinese_carriers = [language.chinese_carriers for language in languages]
        self._popularity, self._cosines = popularity, cosines
        texts = catalog.frame.select(pl.col("brand", "category").cast(pl.String).fill_null(""))
        self._title_forms = [forms_of(title) for title in catalog.titles]
        self._brand_forms = [forms_of(brand) for brand in texts["brand"]]
        categories = [forms_of(text.replace(CATEGORY_SEPARATOR, " ; ")) for text in texts["category"]]
        wider = [a | b | c for a, b, c in zip(self._title_forms, self._brand_forms, categories, strict=True)]
        self._in_title, self._in_item = _postings(self._title_forms), _postings(wider)
        self._heads = np.array([head_of(title) for title in catalog.titles])
        self._sequences = [[token.form for token in tokens_of(title)] for title in catalog.titles]
        self._lengths = np.array([len(sequence) for sequence in self._sequences])
        self._starting = defaultdict(list)
        for row, sequence in enumerate(self._sequences):
            self._starting[sequence[0] if sequence else ""].append(row)
        self._n_items = len(catalog)
        self._idf = {form: math.log(1 + self._n_items / len(rows)) for form, rows in self._in_item.items()}
        self._rarest = math.log(1 + 2 * max(self._n_items, 1))
        self._ids = {str(item).lower(): row for row, item in enumerate(catalog.ids)}
        self._vocabulary = [form for form in self._idf if form.isascii() and form.isalpha() and len(form) > 3]

    def find(self, question: str, loose: bool = False) -> Found:
        """Find the products that a question names.

        Args:
            question: The question.
            loose: Accept a brand or a category alone, and an item that only its vector is near to: a search wants that,
                a question for a price does not.
        """
        if (by_id := self._by_id(question)) is not None:
            return by_id
        reading = self._read(question)
        found = self._match(reading, loose)
        if found.strangers:
            found = self._each_part(question, reading, loose) or found
        if found.named and not found.rows and loose and self._cosines is not None:
            found = self._by_vector(found)
        return found

    def _by_id(self, question: str) -> Found | None:
        """Find an item whose id stands in the question; a bare number only where it is called an item."""
        for match in re.finditer(r"[A-Za-z0-9_-]+", question):
            form = match[0].lower()
            if form not in self._ids or not re.search(r"\d", form):
                continue
            if form.isdigit() and not _BEFORE_NUMBER.search(question[: match.start()]):
                continue
            rest = f"{question[: match.start()]}{SLOT}{question[match.end() :]}"
            return Found((self._ids[form],), True, rest, words=match[0])
        return None

    def _read(self, question: str) -> _Reading:
        tokens = tokens_of(question)
        covered = np.zeros(len(question) + 1, dtype=bool)
        for carriers in self._chinese_carriers:
            for match in carriers.finditer(question):
                covered[match.start() : match.end()] = True
        tokens = [token if covered[token.start] else self._spelt(token) for token in tokens]
        carries = [bool(covered[t.start]) if t.chinese else t.form in self._carriers for t in tokens]
        for row, start in self._whole_titles([token.form for token in tokens]):
            length = len(self._sequences[row])
            if not all(carries[start : start + length]):
                carries[start : start + length] = [False] * length
        forms = alternatives(question, tokens)
        self._take_back(tokens, carries)
        return _Reading(question, tokens, carries, forms)

    def _take_back(self, tokens: list[Token], carries: list[bool]) -> None:
        """Give a product the Chinese carriers at its edges that the catalogue joins to it: `睡袋` of `有羽绒睡袋吗`."""
        pairs = list(enumerate(itertools.pairwise(tokens)))
        for (place, (one, other)), step in [(pair, 1) for pair in pairs] + [(pair, 0) for pair in reversed(pairs)]:
            joined = one.chinese and other.chinese and one.end == other.start and one.form + other.form in self._in_item
            if joined and not carries[place + 1 - step]:
                carries[place + step] = False

    def _spelt(self, token: Token) -> Token:
        """Return a token as the catalogue spells it, where it is misspelt."""
        form = token.form
        if form in self._carriers or form in self._idf or len(form) < SHORTEST_MISSPELT or not form.isascii():
            return token
        words = (word for pool in (self._vocabulary, self._carriers) for word in pool)
        pool = [word for word in words if word[0] == form[0] and abs(len(word) - len(form)) <= 1]
        near = difflib.get_close_matches(form, pool, n=1, cutoff=LIKE_A_WORD) if form.isalpha() else []
        return Token(near[0], token.start, token.end) if near else token

    def _whole_titles(self, forms: list[str]) -> list[tuple[int, int]]:
        """Return the titles that stand whole in a question: the row of the item, and where its title begins."""
        return [
            (row, start)
            for start, form in enumerate(forms)
            for row in self._starting.get(form, ())
            if forms[start : start + len(self._sequences[row])] == self._sequences[row]
        ]

    def _match(self, reading: _Reading, loose: bool) -> Found:
        content = reading.content
        if not content:
            return Found((), False, reading.text)
        explained = np.zeros((len(content), self._n_items), dtype=bool)
        for line, place in enumerate(content):
            explained[line, self._holders(self._in_item, reading.forms[place])] = True
        weight = np.array([self._weight(reading.forms[place]) for place in content])
        share = (weight @ explained) / weight.sum()
        whole = np.zeros(self._n_items, dtype=bool)
        whole[[row for row, _ in self._whole_titles([token.form for token in reading.tokens])]] = True
        possible = np.flatnonzero((share >= COVERED) | (whole & (share >= COVERED_BY_TITLE)))
        rows = [
            row
            for row in possible.tolist()
            if not _stranger_beside(reading, content, explained[:, row])
            and (loose or self._is_named(row, reading, content, explained[:, row]))
        ]
        start, end = reading.span(content)
        if not rows:
            forms = tuple(reading.tokens[place].form for place in content)
            return Found((), True, reading.text, forms, reading.text[start:end])
        rows = self._best(rows, reading, content, share, whole)
        own = [place for place, is_own in zip(content, explained[:, rows[0]], strict=True) if is_own]
        strangers = tuple(reading.tokens[place].form for place in content if place not in own)
        return Found(tuple(rows), True, _masked(reading, own), strangers, _phrase(reading, own))

    def _holders(self, postings: dict[str, LongArray], forms: Iterable[str]) -> LongArray:
        held = [postings[form] for form in forms if form in postings]
        return np.concatenate(held) if held else np.zeros(0, dtype=np.int64)

    def _weight(self, forms: Iterable[str]) -> float:
        return max((self._idf[form] for form in forms if form in self._idf), default=self._rarest)

    def _is_named(self, row: int, reading: _Reading, content: list[int], explained: BoolArray) -> bool:
        """Whether the words name the item by its noun or by half of its title, not by a brand or a modifier alone."""
        said = {form for place, own in zip(content, explained, strict=True) if own for form in reading.forms[place]}
        ends = {LAST + reading.tokens[place].form for place in content if reading.tokens[place].chinese}
        if self._heads[row] in said | ends:
            return True
        title = self._title_forms[row] - self._brand_forms[row]
        title = {form for form in title if not form.startswith(LAST) and not is_size(form)}
        return bool(title) and self._sum(title & said) >= NAMED * self._sum(title)

    def _sum(self, forms: Iterable[str]) -> float:
        return sum(self._idf[form] for form in forms)

    def _best(
        self, rows: list[int], reading: _Reading, content: list[int], share: FloatArray, whole: BoolArray
    ) -> list[int]:
        """Keep the items that fit best, the most popular first: those that explain most, by whole title, by noun."""
        beside = [reading.forms[place] for place, carries in enumerate(reading.carries) if carries]
        extra = np.zeros(self._n_items)
        for forms in beside:
            extra[np.unique(self._holders(self._in_title, forms))] += 1
        last = reading.tokens[content[-1]]
        noun = LAST + last.form if last.chinese else last.form
        for fit in (share.round(6), self._lengths * whole, extra, self._heads == noun):
            best = max(fit[row] for row in rows)
            rows = [row for row in rows if fit[row] == best]
        return sorted(rows, key=lambda row: (-int(self._popularity[row]), row))

    def _each_part(self, question: str, reading: _Reading, loose: bool) -> Found | None:
        """Find a product in every part of a question that names several.

        None where it names but one. Where a part after `and` names a product that the shop lacks, nothing is found.
        """
        start, end = reading.span(reading.content)
        words = question[start:end]
        parts = [part for part in _SPLIT.split(words) if part.strip()]
        if len(parts) < 2:
            return None
        found = [self._match(self._read(part), loose) for part in parts]
        if all(part.rows and not part.strangers for part in found):
            rows = tuple(dict.fromkeys(row for part in found for row in part.rows))
            rest = f"{question[:start]} {SLOT} {question[end:]}"
            return Found(rows, True, rest, words=words, several=True)
        joined = [self._match(self._read(part), loose) for part in _JOINED.split(words) if part.strip()]
        if len(joined) > 1 and all(len(part.words) > 1 for part in joined) and not all(part.rows for part in joined):
            return Found((), True, question, tuple(form for part in joined for form in part.strangers), words)
        return None

    def _by_vector(self, found: Found) -> Found:
        assert self._cosines is not None
        cosine = self._cosines(found.words)
        if cosine.max(initial=0) <= max(0, cosine.mean() + NEAR * cosine.std()):
            return found
        near = np.flatnonzero(cosine >= NEARLY_AS_NEAR * cosine.max())
        rows = near[np.argsort(-cosine[near], kind="stable")]
        return Found(tuple(rows.tolist()), True, found.rest.replace(found.words, SLOT), (), found.words)


def _postings(forms: Iterable[Iterable[str]]) -> dict[str, LongArray]:
    """Return by form the rows of the items that hold it, ascending."""
    lists: dict[str, list[int]] = defaultdict(list)
    for row, own in enumerate(forms):
        for form in own:
            lists[form].append(row)
    return {form: np.array(rows, dtype=np.int64) for form, rows in lists.items()}


def _stranger_beside(reading: _Reading, content: list[int], explained: BoolArray) -> bool:
    """Whether a word that the item lacks stands right beside one that it has: `Aurora tent pegs` are no tent."""
    for line, (one, other) in enumerate(itertools.pairwise(content)):
        if explained[line] != explained[line + 1] and reading.touching(one, other):
            return True
    return False


def _masked(reading: _Reading, places: list[int]) -> str:
    """Write the question with `{item}` instead of the words at these places."""
    text, done = [], 0
    for nth, place in enumerate(places):
        token = reading.tokens[place]
        text += [reading.text[done : token.start], f" {SLOT} " if nth == 0 else ""]
        done = token.end
    return "".join([*text, reading.text[done:]])


def _phrase(reading: _Reading, places: list[int]) -> str:
    start, end = reading.span(places)
    return reading.text[start:end]
