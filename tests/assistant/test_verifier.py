"""Planted errors are caught to the last; true copy passes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import KINDS, SOURCES, load_by_hand, plant

from recsys.assistant.copywriting import Copywriter
from recsys.assistant.verifier import NameIndex, Source, Verifier, load_copy_language

WRONG, RIGHT = load_by_hand(SOURCES)
NAMES = NameIndex(
    [name for source in SOURCES.values() for name in (*source.titles, *source.companions)]
    + ["Penne rigate 16 oz", "Aurora lantern", "Birch sleeping bag", "Birch tent", "清和茶刀", "行野新款双人帐篷"],
    ["Hearth & Mill", "Sunny Row", "Copper Pot", "Aurora", "Birch", "清和", "山语", "远山", "行野"],
)
VERIFIERS = {code: Verifier(code, NAMES) for code in ("en", "zh")}


def check(text: str, source: Source, language: str = "en") -> list[str]:
    return [problem.kind for problem in VERIFIERS[language].check(text, source)]


def test_three_hundred_errors_planted_by_rule_are_caught(asked_shops) -> None:
    planted = []
    for seed, shop in enumerate(asked_shops.values()):
        writer = Copywriter(shop.assistant.recommender)
        for one in plant(writer, seed):
            assert writer.verifier(one.language).check(one.text, one.source), (one.kind, one.text)
            planted.append(one)
    assert len(planted) >= 300
    assert {one.kind for one in planted} == set(KINDS)
    assert {one.language for one in planted} == {"en", "zh"}


@pytest.mark.parametrize("one", WRONG, ids=[f"{one.kind}: {one.text}" for one in WRONG])
def test_an_error_written_by_hand_is_caught(one) -> None:
    assert check(one.text, one.source, one.language)


@pytest.mark.parametrize("one", RIGHT, ids=[one.text for one in RIGHT])
def test_true_copy_passes(one) -> None:
    assert check(one.text, one.source, one.language) == []


TENT = SOURCES["en-tent"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Aurora tent. It costs $24.00.", "money"),
        ("Aurora tent. It is 24% tent.", "percent"),
        ("Aurora tent. A tent for 3 people.", "count"),
        ("A tent for two people.", "name"),
        ("Aurora tent. See the Birch tent.", "companion"),
        ("Aurora tent by Sunny Row.", "brand"),
        ("Aurora tent, waterproof.", "claim"),
        ("Aurora tent for poets.", "word"),
    ],
)
def test_a_problem_is_named_by_its_kind(text, kind) -> None:
    assert kind in check(text, TENT)


def test_a_problem_says_what_and_why() -> None:
    (problem,) = VERIFIERS["en"].check("Aurora tent, waterproof.", TENT)
    assert str(problem) == "claim: 'waterproof' is a claim that the source does not make"


def test_a_claim_of_the_source_may_be_made() -> None:
    organic = Source(("Oat drink",), texts=("An organic drink of oats.",))
    assert check("Oat drink. An organic drink.", organic) == []
    assert check("Oat drink. An organic drink.", Source(("Oat drink",), texts=("A drink of oats.",))) == ["claim"]


def test_a_sentence_that_denies_is_quoted_whole_or_not_at_all() -> None:
    assert check("Aurora tent. Not suitable for winter.", TENT) == []
    assert check("Aurora tent. Suitable for winter.", TENT) == ["word", "word"]


@given(st.integers(0, 99_999_999).map(lambda cents: f"{cents / 100:.2f}"))
def test_no_other_price_passes(price) -> None:
    passes = check(f"Aurora tent. Price: {price}.", TENT) == []
    assert passes == (price == TENT.price)


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=12))
def test_no_text_crashes_it_and_no_unknown_word_passes(text) -> None:
    known = set(load_copy_language("en").neutral)
    problems = check(f"Aurora tent. {text}", TENT)
    words = re.findall(r"[a-z]{3,}", text.lower())
    own = {"tent", "people", "weighs", "two", "aurora", "outdoor", "camping", "for"}
    if any(word not in known | own for word in words):
        assert problems
