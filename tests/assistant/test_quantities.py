"""Numbers by type and unit."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.assistant.quantities import Quantity, plain, quantities

MONEY, PERCENT, COUNT = "money", "percent", "count"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$24.00", (MONEY, Decimal(24), "$")),
        ("24 dollars", (MONEY, Decimal(24), "$")),
        ("1,234.50 EUR", (MONEY, Decimal("1234.5"), "€")),
        ("£3", (MONEY, Decimal(3), "£")),
        ("¥31.60", (MONEY, Decimal("31.6"), "¥")),
        ("31.60元", (MONEY, Decimal("31.6"), "¥")),
        ("三十元", (MONEY, "三十", "¥")),
        ("25%", (PERCENT, Decimal(25), "")),
        ("25 per cent", (PERCENT, Decimal(25), "")),
        ("百分之五", (PERCENT, "五", "")),
        ("八折", (PERCENT, "八折", "折")),
        ("8 oz", (COUNT, Decimal(8), "oz")),
        ("8 ounces", (COUNT, Decimal(8), "oz")),
        ("250克", (COUNT, Decimal(250), "g")),
        ("24-pack", (COUNT, Decimal(24), "pack")),
        ("two people", (COUNT, Decimal(2), "people")),
        ("a dozen eggs", (COUNT, Decimal(12), "egg")),
        ("12", (COUNT, Decimal(12), "")),
    ],
)
def test_a_number_has_a_type_a_value_and_a_unit(text, expected) -> None:
    assert quantities(plain(text)) == [Quantity(*expected)]


def test_types_and_units_keep_equal_values_apart() -> None:
    said = [quantities(plain(text))[0] for text in ("$8", "8%", "8 oz", "8 lb", "8", "£8")]
    assert len(set(said)) == len(said)


@given(st.decimals(min_value=0, max_value=99_999, places=2))
def test_a_price_is_read_as_it_is_written(value) -> None:
    assert quantities(f"${value:.2f}") == [Quantity("money", value.normalize(), "$")]


def test_one_form_for_what_looks_alike() -> None:
    assert plain("Ｆｒ\u200bｅｅ　８ｏｚ") == "free 8oz"
    assert plain("½ kg") == "1⁄2 kg"
    assert plain("don’t") == "don't"
