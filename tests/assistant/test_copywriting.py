"""Copy: every published text verifies, by template or by model; reasons of a letter are true."""

from __future__ import annotations

import re

import polars as pl
import pytest
from tiny_causal import build_tiny_causal

from recsys.assistant.copywriting import KINDS, Copywriter
from recsys.assistant.drafts import EndpointDrafter, LocalDrafter
from recsys.errors import RequestError, UnknownIdError


@pytest.fixture(scope="module")
def writers(asked_shops) -> dict[str, Copywriter]:
    return {name: Copywriter(shop.assistant.recommender) for name, shop in asked_shops.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_published_verifies(writers, kind) -> None:
    count = 0
    for name in ("grocery", "chinese"):
        for copy in writers[name].write_all(kind):
            assert writers[name].verifier(copy.language).check(copy.text, writers[name].source(copy.items[0])) == []
            count += 1
    assert count == 126 + 104


def test_a_description_states_its_facts(writers, asked_shops) -> None:
    copy = writers["grocery"].write(154)
    assert copy.text == (
        "Marinara sauce 24 oz. Tomatoes, garlic and basil. No added sugar. Brand: Hearth & Mill. Category: Pantry > "
        "Sauces. Price: 3.50. Customers who bought it also bought Alfredo sauce 15 oz and Spaghetti 16 oz."
    )
    companions = {str(fact.item_id) for fact in copy.facts if fact.with_item_id == 154}
    assert companions <= asked_shops["grocery"].tables.companions("154")
    assert copy.written_by == "template"
    assert writers["chinese"].write("p000").text.startswith("素锦经典款连衣裙。")
    assert writers["chinese"].write("p000", language="en").text.startswith("素锦经典款连衣裙.")


def test_a_currency_is_written_before_the_price(asked_shops) -> None:
    writer = Copywriter(asked_shops["grocery"].assistant.recommender, currency="$")
    assert "Price: $3.50." in writer.write(154).text
    assert "Price" not in writer.write(111).text, "this one has no price"


def test_an_email_has_a_subject(writers) -> None:
    copy = writers["grocery"].write(154, "email")
    assert copy.subject == "Marinara sauce 24 oz"
    assert "Category" not in copy.text


def test_a_draft_is_published_once_it_verifies(asked_shops, endpoint) -> None:
    drafts = iter(
        ["Marinara sauce 24 oz, 25% off!", "Meet Marinara sauce 24 oz, a sauce of tomatoes, garlic and basil."]
    )
    endpoint.reply = lambda prompt: {"choices": [{"message": {"content": next(drafts)}}]}
    writer = Copywriter(asked_shops["grocery"].assistant.recommender, EndpointDrafter(endpoint.url, "m"))
    copy = writer.write(154, "ad")
    assert copy.text == "Meet Marinara sauce 24 oz, a sauce of tomatoes, garlic and basil."
    assert copy.written_by == "model"
    (rejected,) = copy.rejected
    assert rejected["text"] == "Marinara sauce 24 oz, 25% off!"
    assert "percent: 'percent 25' is not in the source" in rejected["reasons"]
    assert "Tomatoes, garlic and basil" in endpoint.requests[0][1]["messages"][0]["content"]


def test_a_model_that_invents_leaves_the_template(asked_shops, tmp_path) -> None:
    recommender = asked_shops["grocery"].assistant.recommender
    copy = Copywriter(recommender, LocalDrafter(build_tiny_causal(tmp_path / "tiny"))).write(154)
    assert copy.written_by == "template"
    assert len(copy.rejected) == 2
    assert all(draft["reasons"] for draft in copy.rejected)


def test_an_endpoint_that_fails_leaves_the_template_and_its_reason(asked_shops, endpoint) -> None:
    endpoint.status = 503
    writer = Copywriter(asked_shops["grocery"].assistant.recommender, EndpointDrafter(endpoint.url, "m"))
    copy = writer.write(154)
    assert copy.written_by == "template"
    assert "answered 503" in copy.rejected[0]["reasons"][0]


def test_reasons_of_a_letter_are_true(writers, asked_shops) -> None:
    tables = asked_shops["grocery"].tables
    members = [5000 + n for n in range(60)]
    letter = writers["grocery"].write_to(members)
    bought = {str(m): set(tables.of_user(m)["item_id"]) for m in members}
    reasons = [fact for fact in letter.facts if fact.name == "members"]
    assert len(reasons) == len(letter.items) == 5
    for fact in reasons:
        other = str(fact.with_item_id or fact.item_id)
        direct = sum(other in own for own in bought.values())
        shelf = set(tables.items.filter(pl.col("category") == tables.cell(fact.item_id, "category"))["item_id"])
        assert fact.value in (direct, sum(bool(own & shelf) for own in bought.values()))
        assert fact.value >= 5
    assert set(re.findall(r"(\d+) of the 60 readers", letter.text)) == {fact.text for fact in reasons}
    assert not [member for member in members if str(member) in letter.text]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: w.write(154, "poem"), RequestError, "kind must be one of description, ad, email, got 'poem'"),
        (lambda w: w.write(154, language="fr"), RequestError, "language must be en or zh, got 'fr'"),
        (lambda w: list(w.write_all("poem")), RequestError, "kind must be one of"),
        (lambda w: w.write(1), UnknownIdError, "1 of 1 items are not in the catalogue of 126"),
        (lambda w: w.write_to([5000, 5000, 5001, 5002, 5003]), RequestError, "at least 5 members, and this one has 4"),
        (lambda w: w.write_to([1, 2, 3, 4, 5]), UnknownIdError, "is not among the 120 users"),
    ],
)
def test_what_cannot_be_written_is_told(writers, call, error, message) -> None:
    with pytest.raises(error, match=message):
        call(writers["grocery"])


def test_an_audience_that_shares_too_little_is_told(writers) -> None:
    with pytest.raises(RequestError, match="no item has a reason that is true of 5 or more of the 5 members"):
        writers["gear"].write_to(["u000", "u001", "u002", "u003", "u004"])
