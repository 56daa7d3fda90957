"""Which products a question names, in a small catalogue whose answer is plain to see."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys.assistant.languages import load_language
from recsys.assistant.products import ProductFinder
from recsys.assistant.tokens import head_of, singular
from recsys.types import Catalog

TITLES = ["Aurora tent", "Birch tent", "Aurora lantern", "Whole milk 1 gal", "Chocolate milk 1 qt", "Road bike",
          "Bike lock", "龙井茶叶", "清和紫砂茶壶", "羽绒睡袋", "Café cups", "Fish net", None]  # fmt: skip
BRANDS = ["Aurora", "Birch", "Aurora", *[None] * 5, "清和", *[None] * 4]
CATALOG = Catalog(
    pl.DataFrame(
        {"item_id": [f"i{n:02d}" for n in range(13)], "title": TITLES, "brand": BRANDS,
         "category": ["A > Camping"] * 3 + [None] * 10},
        schema_overrides={"brand": pl.String, "category": pl.String},
    )
)  # fmt: skip
LANGUAGES = [load_language("en"), load_language("zh")]


def finder(popularity=None, cosines=None) -> ProductFinder:
    return ProductFinder(CATALOG, LANGUAGES, np.zeros(13, np.int64) if popularity is None else popularity, cosines)


FINDER = finder()


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("how much is the Aurora tent?", [0]),
        ("how much is a tent", [0, 1]),
        ("price of the tent from Birch", [1]),
        ("do you have tents?", [0, 1]),
        ("what does the aurora lantrn cost", [2]),
        ("a gallon of whole milk please", [3]),
        ("milk", [3, 4]),
        ("chocolate milk price", [4]),
        ("how much is a bike", [5]),
        ("cafe cups?", [10]),
        ("龙井茶叶多少钱", [7]),
        ("紫砂茶壶还有货吗", [8]),
        ("有没有羽绒睡袋卖", [9]),
        ("price of i02", [2]),
        ("how much are the Aurora tent and the bike lock", [0, 6]),
    ],
)
def test_a_product_is_found(question, rows) -> None:
    assert sorted(FINDER.find(question).rows) == rows


@pytest.mark.parametrize(
    "question",
    [
        "how much is the kayak?",
        "Aurora tent pegs",  # what stands beside a name makes it another product
        "blue Aurora tent",
        "how much is Aurora",  # a brand alone is no product
        "tent for elephants",
        "fish tank",
        "茶叶蛋多少钱",
        "洗衣机多少钱",
        "Aurora tent and kayak",
    ],
)
def test_what_the_shop_lacks_is_not_found(question) -> None:
    found = FINDER.find(question)
    assert found.named
    assert found.rows == ()


def test_a_question_without_a_product_names_none() -> None:
    assert not FINDER.find("what did I buy last?").named


def test_a_search_may_name_a_brand_or_a_category() -> None:
    assert sorted(FINDER.find("what do you have from Aurora", loose=True).rows) == [0, 2]
    assert sorted(FINDER.find("do you have camping things", loose=True).rows) == [0, 1, 2]


def test_the_more_popular_comes_first() -> None:
    popularity = np.zeros(13, np.int64)
    popularity[1] = 5
    assert finder(popularity).find("how much is a tent").rows == (1, 0)


def test_a_vector_far_above_the_rest_finds_what_no_word_does() -> None:
    cosine = np.full(13, 0.1, np.float32)
    cosine[2] = 0.9
    near = finder(cosines=lambda text: cosine if text == "flashlight" else np.zeros(13, np.float32))
    assert near.find("do you sell a flashlight", loose=True).rows == ()  # 13 items: one cannot stand 5.5 deviations out
    wide = np.concatenate([np.random.default_rng(0).normal(0, 0.05, 500), [0.9]]).astype(np.float32)
    many = Catalog(pl.concat([CATALOG.frame.clear(), pl.DataFrame(
        {"item_id": [f"x{n}" for n in range(501)], "title": [f"Thing{n}" for n in range(501)],
         "brand": [None] * 501, "category": [None] * 501}, schema=CATALOG.frame.schema)]))  # fmt: skip
    many_finder = ProductFinder(many, LANGUAGES, np.zeros(501, np.int64), lambda text: wide)
    assert many_finder.find("do you sell a flashlight", loose=True).rows == (500,)
    assert many_finder.find("how much is a flashlight").rows == ()  # a price needs the words


def test_the_product_is_masked_in_the_rest() -> None:
    assert FINDER.find("How much is the Aurora tent?").rest.split() == ["How", "much", "is", "the", "{item}", "?"]


@pytest.mark.parametrize(
    ("title", "head"),
    [("Birch camping mat, 6 mm", "mat"), ("Shampoo for dry hair 12 fl oz", "shampoo"), ("Whole milk 1 gal", "milk"),
     ("龙井茶叶", "$叶"), ("12 oz", "")],
)  # fmt: skip
def test_the_noun_of_a_title(title, head) -> None:
    assert head_of(title) == head


def test_singular() -> None:
    words = {
        "tents": "tent",
        "batteries": "battery",
        "glasses": "glass",
        "boxes": "box",
        "gas": "gas",
        "cactus": "cactus",
    }
    assert {word: singular(word) for word in words} == words
