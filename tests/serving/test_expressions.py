"""Conditions on the catalogue: each expression means what plain Python says, and bad ones tell what is wrong."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import Recommender
from recsys.errors import RequestError
from recsys.serving.expressions import evaluate
from recsys.serving.filters import Filters

COLUMNS = pl.DataFrame(
    {
        "n": [1, -2, None, 3, 300],
        "x": [1.5, None, float("nan"), -0.5, 1e300],
        "s": ["Home > Tea", 'a"b', None, "", "it's"],
        "b": [True, False, None, True, False],
        "odd name": [1, 2, 3, 4, 5],
        "and": [1, 2, 3, 4, None],
        "tags": [["a", "b"], [], None, ["c"], ["a"]],
        "day": pl.Series(["2025-01-01", None, "2025-02-01", "2024-12-31", "2025-01-02"]).str.to_date(),
        "at": [datetime(2025, 1, 1, 12), None, datetime(2025, 1, 2), datetime(2025, 1, 3), datetime(2025, 1, 4)],
        "zoned": [datetime(2025, 1, 1, 12, tzinfo=UTC), None, *[datetime(2025, 1, d, tzinfo=UTC) for d in (2, 3, 4)]],
        "tiny": pl.Series([1, 2, 255, None, 0], dtype=pl.UInt8),
        "big": pl.Series([1, 2**64 - 1, None, 4, 5], dtype=pl.UInt64),
        "f": pl.Series([19.99, 0.1, None, 3, 4], dtype=pl.Float32),
        "kind": pl.Series(["A", "B", None, "A", "C"], dtype=pl.Categorical),
        "dec": pl.Series(["1.50", "2", None, "3", "4"]).cast(pl.Decimal(10, 2)),
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("n <= 1", [0, 1]), ("n > -2", [0, 3, 4]), ("n == 3.0", [3]), ("n < 2.5", [0, 1]), ("n != 1", [1, 3, 4]),
        ("n < 99999999999999999999999", [0, 1, 3, 4]), ("n in (1, 3.0, 2.5, 1e30)", [0, 3]), ("n in ()", []),
        ("not n in (1,)", [1, 3, 4]), ("n not in [1, 3]", [1, 4]), ("n is null", [2]), ("n is not null", [0, 1, 3, 4]),
        ("x < 2", [0, 3]), ("x > 1", [0, 4]), ("not x > 1", [3]), ("x is null", [1, 2]), ("not x is null", [0, 3, 4]),
        ("x == -.5", [3]), ("x in (1.5, 1)", [0]), ("x >= 1e300", [4]),
        ("s startswith 'Home'", [0]), ("s contains \"Tea\"", [0]), ("s endswith ''", [0, 1, 3, 4]),
        (r's == "a\"b"', [1]), (r"s == 'it\'s'", [4]), ("s != ''", [0, 1, 4]), ("s contains '.'", []),
        ("s not contains 'e'", [1, 3, 4]), ("s > 'b'", [4]), ("s in ('', \"it's\")", [3, 4]),
        ("b", [0, 3]), ("not b", [1, 4]), ("b == false", [1, 4]), ("b != true", [1, 4]), ("b in (true)", [0, 3]),
        ("`odd name` > 3", [3, 4]), ("`and` == 2 and n < 0", [1]),
        ("tags contains 'a'", [0, 4]), ("tags not contains 'a'", [1, 3]), ("tags is null", [2]),
        ("day >= '2025-01-01'", [0, 2, 4]), ("day in ('2025-01-02', '2024-12-31')", [3, 4]),
        ("at < '2025-01-02'", [0]), ("at == '2025-01-01T13:00:00+01:00'", [0]), ("at in ('2025-01-03',)", [3]),
        ("zoned <= '2025-01-02'", [0, 2]), ("zoned == '2025-01-01T13:00:00+01:00'", [0]),
        ("tiny > 254", [2]), ("tiny < 300", [0, 1, 2, 4]), ("tiny > -1", [0, 1, 2, 4]), ("tiny in (255, -1, 256)", [2]),
        ("big > 4", [1, 4]), ("f == 19.99", [0]), ("f <= 0.1", [1]), ("f in (19.99)", [0]),
        ("kind == 'A'", [0, 3]), ("kind in ('B', 'C')", [1, 4]), ("kind startswith 'A'", [0, 3]), ("dec <= 2", [0, 1]),
        ("n == 1 or n == 3 and b", [0, 3]), ("(n == 1 or n == 3) and not b", []), ("not (n == 1 or b)", [1, 4]),
        ("NOT n == 1 AND b IS NOT NULL", [1, 3, 4]), ("  n\n==\t1 ", [0]),
    ],
)  # fmt: skip
def test_what_expressions_mean(expression: str, rows: list[int]) -> None:
    met = evaluate(expression, COLUMNS)
    assert met.dtype == pl.Boolean
    assert [row for row, one in enumerate(met) if one] == rows


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "where: expected a column (character 1 of '')"),
        ("   ", "where: expected a column"),
        ("pricee < 3", "the catalogue has no column 'pricee'; it has: n, x, s"),
        ("tag == 1", "the catalogue has no column 'tag'; did you mean 'tags'?; it has: "),
        ("n = 3", "cannot read '= 3'; equality is written == (character 3 of 'n = 3')"),
        ("n == 3 and", "expected a column (character 11"),
        ("n == 3 n", "expected `and`, `or` or the end (character 8"),
        ("n ==", "expected a value; texts stand in quotes (character 5"),
        ("s == Tea", "expected a value; texts stand in quotes (character 6"),
        ("s == null", "expected a value; ask for missing values with `is null` (character 6"),
        ("s == 'Tea", "cannot read \"'Tea\" (character 6"),
        ("n", "expected a comparison after 'n': ==, !=, <, <=, >, >=, in, is, startswith, endswith, contains"),
        ("n not 3", "expected `in`, `startswith`, `endswith` or `contains` after `not` (character 7"),
        ("n in 3", "expected a list such as (1, 2) after `in` (character 6"),
        ("n in (3", "expected ')' (character 8"),
        ("(n == 3", "expected ')' (character 8"),
        ("n is 3", "expected 'null' (character 6"),
        ("n == '3'", "'n' holds Int64, which cannot be compared with a text (character 6"),
        ("s == 3", "'s' holds String, which cannot be compared with a number"),
        ("n == true", "'n' holds Int64, which cannot be compared with true or false"),
        ("b < true", "'b' is true or false, which < cannot compare"),
        ("n startswith '3'", "startswith asks for a text in a column of texts, and 'n' holds Int64"),
        ("s contains 3", "contains asks for a text in a column of texts, and 's' holds String"),
        ("day > 'noon'", "'day' holds Date, and 'noon' is no date such as 2025-01-31 (character 7"),
        ("n == 1.2.3", "cannot read '1.2.3'"),
        ("import os", "the catalogue has no column 'import'"),
        ("__import__('os').system('true')", "cannot read \".system('t\""),
        ("__import__('os')", "the catalogue has no column '__import__'"),
        ("n==1or n==3", "cannot read '1or n==3'"),
        ("n == 3; n", "cannot read '; n'"),
        ("(" * 60 + "n == 1" + ")" * 60, "more than 50 brackets and `not`s within each other (character 51"),
        ("not " * 100_000 + "b", "more than 50 brackets and `not`s within each other"),
        ("n == \udcff", "where: character 6 is half of a surrogate pair, which no text holds"),
        ("s == '\udcff'", "where: character 7 is half of a surrogate pair, which no text holds"),
    ],
)  # fmt: skip
def test_an_expression_that_cannot_be_read_is_told_where(expression: str, told: str) -> None:
    with pytest.raises(RequestError, match=re.escape(told)):
        evaluate(expression, COLUMNS)


def _expressions() -> st.SearchStrategy:
    """Random conditions, as a string and as what Python makes of a row: true, false, or None for unknown."""

    def compare(sign, value):
        return {"==": lambda c: c == value, "!=": lambda c: c != value, "<": lambda c: c < value,
                "<=": lambda c: c <= value, ">": lambda c: c > value, ">=": lambda c: c >= value}[sign]  # fmt: skip

    def missing(value):
        return value is None or value != value

    def test(column, sign, value, shown):
        return (
            f"{column} {sign} {shown}",
            lambda row: None if missing(row[column]) else compare(sign, value)(row[column]),
        )

    signs = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    numbers = st.integers(-3, 4) | st.sampled_from([1.5, -0.5, 0.25])
    number = st.builds(lambda c, sign, v: test(c, sign, v, repr(v)), st.sampled_from(["n", "x"]), signs, numbers)
    text = st.builds(lambda sign, v: test("s", sign, v, json.dumps(v)), signs, st.sampled_from(["", "a", "b", "it's"]))
    member = st.builds(
        lambda c, vs: (f"{c} in ({', '.join(map(repr, vs))})", lambda r: None if missing(r[c]) else r[c] in vs),
        st.sampled_from(["n", "x"]), st.lists(numbers, max_size=3),
    )  # fmt: skip
    null = st.builds(lambda c: (f"{c} is null", lambda r: missing(r[c])), st.sampled_from(["n", "x", "s", "b"]))
    flag = st.just(("b", lambda r: r["b"]))

    def both(one, other, word):
        def met(row):
            told = one[1](row), other[1](row)
            decided = word == "or"
            return decided if decided in told else None if None in told else not decided

        return f"({one[0]}) {word} ({other[0]})", met

    def inverse(one):
        return f"not ({one[0]})", lambda row: None if one[1](row) is None else not one[1](row)

    return st.recursive(
        number | text | member | null | flag,
        lambda inner: st.builds(both, inner, inner, st.sampled_from(["and", "or"])) | st.builds(inverse, inner),
        max_leaves=6,
    )


@settings(max_examples=150, deadline=None)
@given(
    _expressions(),
    st.lists(
        st.fixed_dictionaries({
            "n": st.none() | st.integers(-3, 4), "x": st.none() | st.sampled_from([1.5, -0.5, 1.0, float("nan")]),
            "s": st.none() | st.sampled_from(["", "a", "b", "it's"]), "b": st.none() | st.booleans(),
        }), min_size=1, max_size=6,
    ),
)  # fmt: skip
def test_expressions_are_three_valued_logic(expression, rows) -> None:
    text, met = expression
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "x": pl.Float64, "s": pl.String, "b": pl.Boolean})
    assert evaluate(text, frame).to_list() == [met(row) for row in rows]


# Filters


def test_a_filter_is_compiled_once_and_memory_is_bounded(small: Recommender) -> None:
    popular = small._model.retrieval.popular
    filters = Filters(small.catalog, popular)
    for one, same in [("u < 0.5", "u < 0.5"), (pl.col("u") < 0.5, pl.col("u") < 0.5)]:
        first = filters.allowed(one)
        assert filters.allowed(same) is first
    assert filters.allowed("u < 0.5") is not filters.allowed(pl.col("u") < 0.5)
    each = filters.allowed("u < 0.5").nbytes + len("u < 0.5")
    bounded = Filters(small.catalog, popular, max_bytes=4 * each)
    first = bounded.allowed("u < 0.5")
    for number in range(500, 504):
        bounded.allowed(f"u < 0.{number}")
        assert bounded.allowed("u < 0.5") is first, "what was asked for lately is kept"
    assert sum(kept.nbytes + len(key) for key, kept in bounded._kept.items()) == bounded._bytes <= 4 * each
    assert "u < 0.500" not in bounded._kept
    assert Filters(small.catalog, popular, max_bytes=1).allowed("u < 0.5") is not None


def test_polars_expressions_filter_too(small: Recommender) -> None:
    frame, user = small.catalog.frame, small.user_ids[0]
    for where, text in [
        (
            (pl.col("price") <= 20) & pl.col("brand").is_in(["b1", "b2", "b3"]),
            'price <= 20 and brand in ("b1","b2","b3")',
        ),
        (pl.col("stock").map_batches(lambda s: s > 2, return_dtype=pl.Boolean), "stock > 2"),
        (pl.lit(True), None),
        (pl.col("fresh"), "fresh"),
        (pl.lit(None, dtype=pl.Boolean), "u < 0"),
    ]:
        assert small.recommend(user, 10, where=where) == small.recommend(user, 10, where=text)
    assert small.recommend(user, 10, where="u >= 0") == small.recommend(user, 10)
    for where, told in [
        (pl.col("pricee") < 1, "polars cannot apply this expression to the catalogue: "),
        (pl.col("price"), "must give true or false for each of 60 items, and gives 1 columns of 60 rows: Float64"),
        (pl.col("price", "u") < 1, "gives 2 columns of 60 rows: Boolean, Boolean"),
        ((pl.col("u") < 1).head(3), "gives 1 columns of 3 rows: Boolean"),
        (pl.col("u").map_elements(lambda v: 1 / 0, return_dtype=pl.Boolean), "polars cannot apply this expression"),
        (7, "where: expected a string or a polars expression, got int"),
        (frame["fresh"], "where: expected a string or a polars expression, got Series"),
    ]:
        with pytest.raises(RequestError, match=re.escape(told)):
            small.recommend(user, 10, where=where)  # type: ignore[arg-type]
