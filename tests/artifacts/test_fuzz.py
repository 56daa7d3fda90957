"""10,000 malformed requests: each gets an answer or an error of the family, never anything else."""

from __future__ import annotations

import inspect
import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from shops import write_tiny_config

from recsys import Recommender, train
from recsys.config import load_config
from recsys.errors import RecsysError, RequestError
from recsys.serving.conditions import ListConditions
from recsys.serving.recommendations import Recommendations

REQUESTS = 10_000

Draw = Callable[[random.Random], Any]


class Hostile:
    """Answers to nothing: not to be shown, compared, hashed, counted or gone through."""

    def __repr__(self) -> str:
        raise ValueError("no")

    __str__ = __repr__
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise TypeError("no")

    def __len__(self) -> int:
        return -1


def endless() -> dict[str, Any]:
    inner: dict[str, Any] = {}
    inner["item_id"] = [inner]
    return inner


SCALARS: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, -(2**63) - 1, 10**30, -(10**400), 10**5000, 0.5, float("nan"),
    float("inf"), -float("inf"), -0.0, 1e308, 5e-324, "", " ", "u029", "i001", "17", "-7", "nobody", "\0",
    "\ud800", "\udfff" * 9, "NaN", "1e3", "0x10", "٣", "１２", "u029\n", "x" * 10_000, "💥", "' OR 1=1", "price <",
    "price < 5",
    b"", b"u029", b"\xff", bytearray(b"i001"), memoryview(b"u"), 1j, Decimal("NaN"), Decimal(3), Fraction(1, 3),
    datetime(2025, 1, 1, tzinfo=UTC), datetime.max, np.int64(3), np.int8(-1), np.uint64(2**64 - 1), np.float32("nan"),
    np.bool_(True), np.str_("u029"),
    np.datetime64("NaT"), np.array([1, 2]), np.array("i001"), np.zeros((0, 3)), pl.Series(["i001"]), pl.Series([None]),
    pl.DataFrame({"item_id": ["i001"]}), pl.col("price"), pl.col("price") < 5, object(), int, len, range(3),
    ..., Hostile(), Path("u029"), slice(1),
]  # fmt: skip


def junk(rng: random.Random, depth: int = 3) -> Any:
    """Anything, or some nest of anything."""
    if depth == 0 or rng.random() < 0.7:
        return rng.choice(SCALARS)
    parts = [junk(rng, depth - 1) for _ in range(rng.choice([0, 1, 1, 2, 5]))]
    match rng.randrange(6):
        case 0:
            return parts
        case 1:
            return tuple(parts)
        case 2:
            return {str(type(part)): part for part in parts} | rng.choice([{}, {"item_id": "i001"}, endless()])
        case 3:
            return iter(parts)
        case 4:
            return {rng.choice(["item_id", "event", "time", "text", "i001", "brand", 5]): part for part in parts}
        case _:
            return {part for part in parts if isinstance(part, int | str | float | bytes)}


def several(draw: Draw) -> Draw:
    return lambda rng: [draw(rng) for _ in range(rng.choice([0, 1, 2, 9]))]


def one_of(*values: Any) -> Draw:
    return lambda rng: rng.choice(values)


def mapped(keys: Draw, values: Draw) -> Draw:
    return lambda rng: {keys(rng): values(rng) for _ in range(rng.randrange(3))}


USER, ITEM = one_of("u029", "u000", "u599", "nobody", 17, 1005, 8), one_of("i001", "i300", "i343", 103, 105)
COUNT, FLAG = one_of(0, 1, 5, 10, 12), one_of(True, False)
EVENT = mapped(one_of("item_id", "event", "time"), one_of("i001", "view", 10**16, "2025-08-01", None, "cart"))

# What each argument may well hold. A draw is made from here, or is junk, or holds junk: at least one of a request.
ARGUMENTS: dict[str, Draw] = {
    "user_id": USER,
    "item_id": ITEM,
    "users": one_of(["u029"], ["u000", "u599"], [8, 17], []),
    "item_ids": several(ITEM),
    "k": COUNT,
    "strict": FLAG,
    "explain": FLAG,
    "candidates": several(ITEM),
    "exclude": several(ITEM),
    "pinned": several(ITEM),
    "boosts": mapped(ITEM, one_of(0.5, -1, 1e9)),
    "caps": mapped(one_of("brand", "category"), one_of(1, 2)),
    "where": one_of("price < 5", "brand = 'x'", "nope > 1"),
    "diversity": one_of(0.0, 0.5, 1.0),
    "history": lambda rng: [rng.choice([ITEM, EVENT])(rng) for _ in range(rng.randrange(4))],
    "variants": one_of("one", "all", None),
    "unknown": one_of("refuse", "ignore"),
    "context": one_of({}, None, {"text": "red soap"}),
    "items": one_of(pl.DataFrame({"item_id": ["new"]})),
}
METHODS = ["recommend", "recommend", "recommend", "score", "similar_items", "history", "recommend_batch"]


def spoilt(rng: random.Random, value: Any) -> Any:
    """Junk in place of a value, or somewhere in it."""
    if isinstance(value, list) and value and rng.random() < 0.5:
        return [*value[:-1], junk(rng)]
    if isinstance(value, dict) and value and rng.random() < 0.5:
        return value | {next(iter(value)): junk(rng)}
    return junk(rng)


def arguments_of(method: Callable[..., Any]) -> dict[str, bool]:
    """Whether each argument of a method is required; conditions of a list are arguments of their own."""
    found = {}
    for name, one in inspect.signature(method).parameters.items():
        if one.kind is one.VAR_KEYWORD:
            found |= dict.fromkeys(ListConditions.__annotations__, False)
        elif name != "self":
            found[name] = one.default is one.empty
    return found


def malformed(rng: random.Random, method: Callable[..., Any]) -> dict[str, Any]:
    """Arguments of a method, at least one of them spoilt."""
    parameters = arguments_of(method)
    wanted = [name for name, required in parameters.items() if required or rng.random() < 0.4]
    wanted = wanted or [rng.choice(list(parameters))]
    bad = {rng.choice(wanted)} | {name for name in wanted if rng.random() < 0.1}
    given = {name: ARGUMENTS[name](rng) for name in wanted}
    return {name: spoilt(rng, value) if name in bad else value for name, value in given.items()}


def check(answer: Any, asked: dict[str, Any], recommender: Recommender) -> None:
    """What is answered must be an answer that can be used."""
    if isinstance(answer, Recommendations):
        assert len({item.item_id for item in answer.items}) == len(answer.items)
        assert all(np.isfinite(item.score) for item in answer.items)
        assert answer.to_polars().height == len(answer.items)
        json.dumps(answer.to_dict(), allow_nan=False)
        assert answer.model_version == recommender.version
    else:
        assert isinstance(answer, pl.DataFrame)
        if "score" in answer.columns:
            assert answer["score"].is_finite().all()
        if isinstance(asked.get("k"), int) and "users" not in asked:
            assert "item_id" in answer.columns
    assert "k" not in asked or (isinstance(asked["k"], int | np.integer) and asked["k"] >= 0), "k was no count"


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Recommender:
    """A bundle whose ids are integers."""
    items = pl.DataFrame({"item_id": range(100, 112), "title": [f"soap {n}" for n in range(12)], "price": [1.5] * 12})
    rows = [(user, 100 + (user + t) % 12, t) for user in range(20) for t in range(5)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return Recommender.load(
        train(load_config(write_tiny_config(tmp_path_factory.mktemp("n"), tiny_model, items, events)))
    )


@pytest.mark.parametrize("ids", ["texts", "numbers"])
def test_malformed_requests(recommender: Recommender, numbered: Recommender, ids: str) -> None:
    loaded = recommender if ids == "texts" else numbered
    rng = random.Random(ids)
    outcomes = {"answered": 0, "refused": 0}
    for number in range(REQUESTS // 2):
        name = rng.choice(METHODS)
        asked = malformed(rng, getattr(loaded, name))
        try:
            answer = getattr(loaded, name)(**asked)
        except RecsysError as error:
            told = str(error)
            assert 10 < len(told) < 50_000, f"request {number}, {name}: {told[:500]}"
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError(f"request {number}: {name}({_shown(asked)}) gave {error!r}") from error
        else:
            try:
                check(answer, asked, loaded)
            except Exception as error:
                raise AssertionError(
                    f"request {number}: {name}({_shown(asked)}) was answered: {answer!r:.500}"
                ) from error
            outcomes["answered"] += 1
    assert min(outcomes.values()) > 100, outcomes


def _shown(asked: dict[str, Any]) -> str:
    shown = []
    for name, value in asked.items():
        try:
            shown.append(f"{name}={value!r:.200}")
        except Exception:
            shown.append(f"{name}=<{type(value).__name__}>")
    return ", ".join(shown)


@pytest.mark.parametrize(
    ("method", "asked", "told"),
    [
        ("recommend", {"user_id": b"u029"}, "user_id must be a text or a whole number, got b'u029'"),
        ("recommend", {"user_id": True}, "user_id must be a text or a whole number, got True"),
        ("recommend", {"user_id": Hostile()}, "user_id must be a text or a whole number, got a Hostile that cannot be"),
        ("score", {"user_id": None, "item_ids": []}, "user_id must be a text or a whole number, got None"),
        ("recommend", {"user_id": "u029", "strict": pl.col("a")}, "strict must be True or False, got <Expr"),
        ("score", {"user_id": "u029", "item_ids": [], "strict": "no"}, "strict must be True or False, got 'no'"),
        ("recommend", {"user_id": "u029", "k": -1}, "k must be a whole number from 0, got -1"),
        ("recommend_batch", {"k": 2.5}, "k must be a whole number from 0, got 2.5"),
        ("recommend_batch", {"users": "u029"}, "users must be a list of ids, got 'u029'"),
        ("similar_items", {"item_id": "i001", "k": "5"}, "k must be a whole number from 0, got '5'"),
        ("score", {"user_id": "u029", "item_ids": 5}, "item_ids must be a list of ids, got 5"),
        ("search", {"text": None}, "the text to search for must be words, got None"),
        ("search", {"text": "tea", "k": None}, "k must be a whole number from 0, got None"),
    ],
)
def test_what_is_malformed_is_named(recommender: Recommender, method: str, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=re.escape(told)):
        getattr(recommender, method)(**asked)


def test_ids_that_no_table_holds_are_answered_in_a_form_that_can_be_written(recommender: Recommender) -> None:
    for asked, told in (
        ("\udcff", "?"),
        (10**30, str(10**30)),
        (10**5000, "a int that cannot be shown"),
        (np.int8(5), 5),
    ):
        answer = recommender.recommend(asked, 3)  # type: ignore[arg-type]
        assert (answer.user_id, answer.fallback) == (told, True)


def test_every_argument_has_its_malformed_values() -> None:
    """A new argument of a method is fuzzed as soon as it is in the table above; this tells when it is not."""
    for name in METHODS:
        assert arguments_of(getattr(Recommender, name)).keys() <= ARGUMENTS.keys(), name


def test_malformed_searches(recommender: Recommender) -> None:
    rng = random.Random(0)
    for text in SCALARS:
        for k in (3, junk(rng)):
            try:
                recommender.search(text, k)
            except RecsysError as error:
                assert len(str(error)) > 10  # noqa: PT017
