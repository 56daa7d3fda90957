"""What the assistant reaches on questions over three shops, the final third apart from those that it was tuned on."""

from __future__ import annotations

import pytest
from asked import SHOPS, false_facts, load_questions, unsourced, verdict


def figures(asked_shops, final: bool | None) -> tuple[float, float, float]:
    """The share right among answered, answered among answerable, and answered among absent products."""
    judged = [
        (one, answer, verdict(one, answer, shop.tables))
        for shop in asked_shops.values()
        for one, answer in shop.answers
        if final in (None, one.final)
    ]
    answered = [verdict for one, answer, verdict in judged if answer.status == "answered"]
    answerable = [answer.status == "answered" for one, answer, _ in judged if one.answerable]
    absent = [answer.status == "answered" for one, answer, _ in judged if one.intent == "absent"]
    return answered.count("right") / len(answered), sum(answerable) / len(answerable), sum(absent) / len(absent)


@pytest.mark.parametrize("final", [True, None], ids=["final third", "all"])
def test_reach(asked_shops, final) -> None:
    right, answered, absent = figures(asked_shops, final)
    assert right >= 0.95
    assert answered >= 0.85
    assert absent <= 0.05


def test_there_are_enough_questions_and_a_third_is_kept() -> None:
    asked = [one for shop in SHOPS for one in load_questions(shop)]
    assert len(asked) >= 400
    assert len({(one.shop, one.user, one.text) for one in asked}) == len(asked), "no question twice"
    assert 0.28 < sum(one.final for one in asked) / len(asked) < 0.39


def test_no_number_lacks_a_source(asked_shops) -> None:
    for shop in asked_shops.values():
        for one, answer in shop.answers:
            assert unsourced(answer) == [], (one.text, answer.text)


def test_every_fact_is_in_the_tables(asked_shops) -> None:
    for shop in asked_shops.values():
        for one, answer in shop.answers:
            assert false_facts(one, answer, shop.tables) == [], one.text


def test_every_fact_names_its_item_and_personal_ones_their_orders(asked_shops) -> None:
    for shop in asked_shops.values():
        for one, answer in shop.answers:
            for fact in answer.facts:
                assert str(fact.item_id) in set(shop.tables.items["item_id"])
                assert bool(fact.order_ids) == (fact.name == "date" or (fact.name == "times" and fact.value > 0)), one


def test_orders_are_those_of_the_asker(asked_shops) -> None:
    told = 0
    for shop in asked_shops.values():
        for one, answer in shop.answers:
            for order in answer.orders:
                own = shop.tables.of_user(one.user)
                assert {str(item) for item in order.items} <= set(own["item_id"]), one.text
                told += 1
    assert told > 30


def test_what_the_data_do_not_hold_goes_to_a_person(asked_shops) -> None:
    kinds = ("no_price", "no_brand", "no_companions", "sign_in")
    found = [answer for shop in asked_shops.values() for one, answer in shop.answers if one.intent in kinds]
    handed = [answer for answer in found if answer.status == "handed_over"]
    assert all(answer.status != "answered" for answer in found)
    assert len(handed) >= 0.85 * len(found) > 10
    assert all("person" in answer.text or "人工" in answer.text for answer in handed)
