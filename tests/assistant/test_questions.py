"""The assistant on a small shop: kinds of stock, own columns, clocks, weights, files, errors, rewording."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from shops import write_tiny_config

from recsys import Assistant, Recommender, train
from recsys.assistant.drafts import EndpointDrafter
from recsys.assistant.questions import answer_request
from recsys.config import load_config
from recsys.errors import ConfigError, RequestError

ITEMS = pl.DataFrame(
    {
        "item_id": ["a1", "a2", "a3", "a4", "a5", "a6"],
        "title": ["Oak table", "Pine chair", "Steel lamp", "Wool rug", "Glass vase", "Clay pot"],
        "description": ["A <b>table</b> of oak", None, None, None, None, None],
        "brand": ["Nord", "Nord", None, "Loom", "Vitra", "Terra"],
        "category": ["Home > Tables", None, "Home > Light", None, None, None],
        "price": [120.0, 45.5, None, 80.0, 20.0, 9.99],
        "stock": ["in stock", "sold out", "maybe", None, "yes", "0"],
        "colour": ["brown", None, "grey", "red", "clear", "red"],
    }
)
START = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1e6)
DAY = 86_400_000_000
EVENTS = pl.DataFrame(
    [(f"u{n}", item, START + DAY * (10 * k + n), "purchase" if k % 3 else "view")
     for n in range(12) for k, item in enumerate(["a1", "a2", "a4", "a1", "a5", "a2"])],
    schema=["user_id", "item_id", "timestamp", "event"], orient="row",
)  # fmt: skip
SMALL = {"rules": {"seen": "keep"}, "probabilities": False, "cold_share": 0.0, "new_share": 0.0}


def build(folder: Path, model: Path, clock: str = "time", events: dict[str, float] | None = None) -> Recommender:
    path = write_tiny_config(folder, model, ITEMS, EVENTS, clock, **SMALL)
    config = load_config(path)
    kinds = {"events": events or {}, "targets": ["purchase"] if events else []}
    data = config.data.model_copy(update={"interactions": config.data.interactions.model_copy(update=kinds)})
    return Recommender.load(train(config.model_copy(update={"data": data})))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Recommender:
    return build(tmp_path_factory.mktemp("home"), tiny_model, events={"view": 1, "purchase": 3})


@pytest.fixture(scope="module")
def assistant(home: Recommender) -> Assistant:
    return Assistant(home)


@pytest.mark.parametrize(
    ("question", "status", "text"),
    [
        ("How much is the oak table?", "answered", "Oak table costs 120.00."),
        ("How much is the steel lamp?", "handed_over",
         "My data hold no price for Steel lamp, so I pass your question to a person."),
        ("Is the oak table in stock?", "answered", "Oak table is in stock."),
        ("Is the pine chair in stock?", "answered", "Pine chair is out of stock."),
        ("Is the clay pot in stock?", "answered", "Clay pot is out of stock."),
        ("Is the steel lamp in stock?", "handed_over", "My data do not say whether Steel lamp is in stock, so I pass "
         "your question to a person."),
        ("Tell me about the oak table", "answered", "Oak table. A table of oak. Brand: Nord. Category: Home > Tables. "
         "Price: 120.00."),
        ("What colour is the wool rug?", "answered", "Wool rug: colour red."),
        ("What colour is the pine chair?", "handed_over", "My data do not say that of Pine chair, so I pass your "
         "question to a person."),
        ("How much is the sofa?", "refused", "I found no such product in this shop."),
        ("price?", "refused", "Which product do you mean?"),
    ],
)  # fmt: skip
def test_an_answer_says_what_the_tables_hold(assistant, question, status, text) -> None:
    answer = assistant.ask(question)
    assert (answer.status, answer.text) == (status, text)


def test_a_view_is_no_purchase(assistant) -> None:
    answer = assistant.ask("when did I last buy the oak table?", "u3")
    assert answer.text == "Your orders do not hold Oak table."  # viewed twice, never bought
    assert (
        assistant.ask("when did I last buy the pine chair?", "u3").text == "You last bought Pine chair on 2026-04-23."
    )


def test_an_order_is_named_by_its_moment(assistant) -> None:
    answer = assistant.ask("How many times have I bought the pine chair?", "u0")
    assert answer.text == "You bought Pine chair, 2 times in all, the last time on 2026-04-20."
    assert [order.order_id for order in answer.orders] == ["2026-04-20T12:00:00Z", "2026-03-11T12:00:00Z"]
    (times,) = [fact for fact in answer.facts if fact.name == "times"]
    assert (times.value, times.order_ids) == (2, ("2026-04-20T12:00:00Z", "2026-03-11T12:00:00Z"))


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("what did I buy in March 2026?", "In that time you bought Wool rug (2026-03-21) and Pine chair (2026-03-11)."),
        ("what did I buy in March 2025?", "In that time you bought nothing."),
        ("what did I buy last week?", "I cannot tell which days you mean, so I pass your question to a person."),
    ],
)
def test_orders_of_a_stretch_of_time(assistant, question, text) -> None:
    assert assistant.ask(question, "u0").text == text


def test_without_a_clock_no_day_is_told(tmp_path, tiny_model) -> None:
    ordered = Assistant(build(tmp_path, tiny_model, "order", {"view": 1, "purchase": 3}))
    answer = ordered.ask("when did I last buy the pine chair?", "u0")
    assert answer.status == "handed_over"
    assert answer.text.startswith("My data do not say on which day an order was")


def test_equal_weights_hide_what_was_bought(tmp_path, tiny_model) -> None:
    same = Assistant(build(tmp_path, tiny_model, events={"view": 2, "purchase": 2}))
    answer = same.ask("what did I buy last?", "u0")
    assert answer.status == "handed_over"
    assert "do not tell purchases from other visits" in answer.text
    assert same.ask("what goes with the oak table?").status == "handed_over"


def test_an_unknown_customer_has_no_orders(assistant) -> None:
    assert assistant.ask("what did I buy last?", "nobody").text.startswith("I hold no orders of yours")


def test_the_answer_as_data(assistant) -> None:
    answer = json.loads(json.dumps(assistant.ask("How much is the oak table?").to_dict()))
    assert answer | {"model_version": ""} == {
        "status": "answered", "text": "Oak table costs 120.00.", "intent": "price", "items": ["a1"], "orders": [],
        "facts": [
            {"name": "title", "value": "Oak table", "text": "Oak table", "item_id": "a1", "order_ids": [],
             "with_item_id": None},
            {"name": "price", "value": 120.0, "text": "120.00", "item_id": "a1", "order_ids": [], "with_item_id": None},
        ],
        "language": "en", "model_version": "", "reworded": False,
    }  # fmt: skip


def test_a_shop_adds_its_own_words(home, tmp_path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "intents: {price: ['what damage does {item} do']}\ncurrency: '€'\ncarriers: damage wallet\n", encoding="utf-8"
    )
    assert Assistant(home, own).ask("What damage does the oak table do?").text == "Oak table costs €120.00."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("intents: {prices: [x]}", "unknown intent 'prices'; did you mean 'price'"),
        ("intent: {}", "questions file .*own.yaml: intent: Extra inputs are not permitted; did you mean 'intents'"),
        ("intents: {price: []}", "intents.price"),
        ("{", "cannot be read"),
    ],
)
def test_a_wrong_file_is_told(home, tmp_path, content, message) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        Assistant(home, own)


@pytest.mark.parametrize(
    ("question", "message"),
    [("  ", "a question must be words, got '  '"), ("x" * 501, "at most 500 characters, and this one has 501")],
)
def test_a_question_that_cannot_be_read(assistant, question, message) -> None:
    with pytest.raises(RequestError, match=message):
        assistant.ask(question)


def test_the_body_of_a_request_names_no_customer(assistant) -> None:
    answer = answer_request(assistant, {"question": "what did I buy last?"}, "u0")
    assert answer["orders"][0]["items"] == ("a2",)
    for body in ({"question": "what did I buy last?", "user_id": "u1"}, {}, ["question"]):
        with pytest.raises(RequestError, match="the body must be"):
            answer_request(assistant, body, "u0")


# Rewording by a model


@pytest.mark.parametrize(
    ("draft", "reworded"),
    [
        ("Here you are: the Oak table costs 120.00.", True),
        ("The Oak table costs 12.00.", False),
        ("The Oak table costs 120.00 and is free.", False),
        ("It costs 120.00.", False),
        ("The Pine chair costs 120.00, not the Oak table.", False),
    ],
)
def test_a_reworded_answer_states_the_same(home, endpoint, draft, reworded) -> None:
    endpoint.reply = lambda prompt: {"choices": [{"message": {"content": draft}}]}
    answer = Assistant(home, drafter=EndpointDrafter(endpoint.url, "any")).ask("How much is the oak table?")
    assert (answer.text, answer.reworded) == ((draft, True) if reworded else ("Oak table costs 120.00.", False))
    assert "Oak table costs 120.00." in endpoint.requests[0][1]["messages"][0]["content"]


def test_personal_answers_and_refusals_reach_no_model(home, endpoint) -> None:
    assistant = Assistant(home, drafter=EndpointDrafter(endpoint.url, "any"))
    assistant.ask("what did I buy last?", "u0")
    assistant.ask("how often did I buy the pine chair?", "u0")
    assistant.ask("How much is the sofa?")
    assert endpoint.requests == []


def test_an_answer_without_its_model_is_the_template(home, endpoint, caplog) -> None:
    endpoint.status = 500
    answer = Assistant(home, drafter=EndpointDrafter(endpoint.url, "any")).ask("How much is the oak table?")
    assert (answer.text, answer.reworded) == ("Oak table costs 120.00.", False)
    assert "answered 500" in caplog.text


def test_an_answer_is_frozen(assistant) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        assistant.ask("How much is the oak table?").text = "free"


@pytest.mark.parametrize(
    ("question", "intent", "items"),
    [
        ("Which chairs cost less than 50?", "search", ["a2"]),
        ("Which is the most expensive chair under 50?", "dearest", ["a2"]),
        ("Which rugs are below 20?", "search", []),
    ],
)
def test_a_price_range_narrows_a_search(assistant, question, intent, items) -> None:
    answer = assistant.ask(question)
    assert answer.intent == intent
    assert list(answer.items) == items
