"""Errors planted into true copy, in English and Chinese: made by rule from three catalogues, and written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.assistant.copywriting import Copywriter
from recsys.assistant.verifier import Source

BY_HAND = Path(__file__).parents[1] / "assistant" / "planted.txt"
KINDS = ("price", "unit", "brand", "companion", "claim")
EACH = 10  # errors of each kind from each shop, three ways

CLAIMS = {
    "en": ["free", "organic", "the best of its kind", "25% off", "waterproof", "half price", "award-winning", "new",
           "handmade", "guaranteed for life", "recommended by experts", "our cheapest"],
    "zh": ["免费包邮", "有机", "最好的选择", "七五折", "防水", "半价", "获奖产品", "全新上市", "纯手工", "终身保修",
           "专家推荐", "全网最低价"],
}  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """A text with one error, of a kind, about an item that a source describes."""

    kind: str
    language: str
    text: str
    source: Source


def plant(writer: Copywriter, seed: int) -> Iterator[Planted]:
    """Plant errors of every kind into the descriptions of random items of one shop."""
    rng = np.random.default_rng(seed)
    catalog = writer.recommender.catalog
    rows = [int(row) for row in rng.permutation(len(catalog))]
    others = [catalog.title(int(row)) for row in rng.permutation(len(catalog))]
    brands = sorted(set(catalog.frame["brand"].drop_nulls()))
    made: dict[str, int] = dict.fromkeys(KINDS, 0)
    for row in rows:
        copy = writer.write(catalog.ids[row])
        source = writer.source(catalog.ids[row])
        for kind in KINDS:
            if made[kind] >= 2 * EACH:
                continue
            text = _spoil(kind, made[kind], copy.text, source, copy.language, others, brands)
            if text is not None and text != copy.text:
                made[kind] += 1
                yield Planted(kind, copy.language, text, source)


def _spoil(
    kind: str, nth: int, text: str, source: Source, language: str, others: list[str], brands: list[str]
) -> str | None:
    chinese = language == "zh"
    foreign = next(name for name in others[nth:] if name not in (*source.titles, *source.companions)
                   and not any(name in one or one in name for one in (*source.titles, *source.companions)))  # fmt: skip
    if kind == "price" and source.price is not None:
        value = float(source.price)
        wrong = [
            f"{value * 10:.2f}",
            f"{value / 10:.2f}",
            f"{value + 1:.2f}",
            f"${value:.2f}",
            f"{value:.2f}元",
            f"{int(value)}",
            f"{value:.2f}0",
            f"1{value:.2f}",
            f"{value:.2f}%",
            f"-{value:.2f}",
        ][nth % 10]
        return text.replace(f"{source.price}", wrong)
    if kind == "unit":
        said = [
            "8 oz",
            "12 pieces",
            "2 kg",
            "500 ml",
            "6 rolls",
            "24-pack",
            "3 months",
            "two sizes",
            "a dozen",
            "100 cm",
        ]
        chinese_said = ["8盎司", "12片", "2公斤", "500毫升", "六卷", "24件装", "三个月", "两种尺寸", "一打", "100厘米"]
        return f"{text}{chinese_said[nth % 10]}。" if chinese else f"{text} It has {said[nth % 10]}."
    if kind == "brand" and source.brand is not None:
        other = next(b for b in brands[nth % len(brands) :] + brands if b not in (source.brand, "Everyday"))
        wrongs = [other, f"{source.brand}牌" if chinese else f"{source.brand}x", "金象" if chinese else "Zephyr",
                  source.brand[:-1] or "Q"]  # fmt: skip
        wrong = wrongs[nth % (3 if chinese else 4)]
        label = f"品牌：{source.brand}" if chinese else f"Brand: {source.brand}"
        return text.replace(label, label.replace(source.brand, wrong))
    if kind == "companion" and source.companions:
        true = source.companions[0]
        wrong = [
            foreign,
            true[:-1] if chinese else true.rsplit(" ", 1)[0],
            f"{true}Pro" if chinese else f"{true} Pro",
            "Zephyr kayak" if not chinese else "金象皮划艇",
        ][nth % 4]
        if wrong in source.titles:
            return None
        return text.replace(true, wrong)
    if kind == "claim":
        claim = CLAIMS[language][nth % 12]
        return f"{text}{claim}。" if chinese else f"{text} It is {claim}."
    return None


def load_by_hand(sources: dict[str, Source]) -> tuple[list[Planted], list[Planted]]:
    """Read the texts written by hand: those with an error, and those without (`true`)."""
    wrong, right = [], []
    for line in BY_HAND.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        kind, about, text = (part.strip() for part in line.split("|", 2))
        one = Planted(kind, "zh" if about.startswith("zh") else "en", text, sources[about])
        (right if kind == "true" else wrong).append(one)
    return wrong, right


SOURCES = {
    "en-sauce": Source(
        ("Marinara sauce 24 oz",),
        ("Spaghetti 16 oz", "Parmesan wedge 5 oz"),
        "Hearth & Mill",
        "Pantry > Sauces",
        "$3.50",
        ("Tomatoes, garlic and basil. No added sugar.",),
    ),
    "en-tent": Source(
        ("Aurora tent",),
        ("Aurora sleeping bag", "Birch lantern"),
        "Aurora",
        "Outdoor > Camping",
        "24.00",
        ("A tent for two people. Weighs 2.4 kg. Not suitable for winter.",),
    ),
    "zh-tea": Source(
        ("清和龙井茶叶",),
        ("清和紫砂茶壶", "山语品茗杯"),
        "清和",
        "茶 > 茶叶",
        "¥31.60",
        ("明前采摘，一罐250克。不含香精。",),
    ),
    "zh-lamp": Source(
        ("远山经典款露营灯",),
        ("远山经典款双人帐篷",),
        "远山",
        "运动 > 户外",
        "149.00",
        ("三档亮度，续航12小时。不支持快充。",),
    ),
}
