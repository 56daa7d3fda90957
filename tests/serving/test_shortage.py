"""Lists shorter than asked say why; what is no request is refused, and says what would be."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from random_bundles import ids_of
from worlds import catalog_of

from recsys import Recommender
from recsys.errors import RequestError, UnknownIdError
from recsys.serving.filters import Filters


def test_a_short_list_says_why(small: Recommender) -> None:
    user, ids = small.user_ids[0], small.catalog.ids
    own = set(small.history(user)["item_id"])
    free = [i for i in ids if i not in own]
    whole = small.recommend(user, 100).shortage
    assert whole is not None
    assert whole.reason == (
        f"{60 - len(own)} of 100 items could be given: the catalogue holds 60 items, {len(own)} were seen before"
    )
    some = small.recommend(user, 10, where="u < 0.5", candidates=free[:9], exclude=free[:2], caps={"price": 1}).shortage
    assert some is not None
    match = set(small.catalog.frame.filter(pl.col("u") < 0.5)["item_id"])
    offered = [i for i in free[:9] if i in match]
    out = len(set(free[:2]) & match)
    assert some.reason == (
        f"{len(offered) - out} of 10 items could be given: the catalogue holds 60 items, 30 meet the filter, "
        f"{len(offered)} of them are candidates" + (f", {out} are excluded" if out else "")
    )
    capped = small.recommend(user, 50, caps={"fresh": 2}).to_dict()["shortage"]
    assert capped["capped"] > 0
    assert capped["reason"].endswith(f"{capped['capped']} have no room under the caps")
    assert small.recommend(user, 5).shortage is None
    assert small.recommend(user, 5).to_dict()["shortage"] is None
    assert small.recommend(user, 0).items == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"k": -1}, "k must be a whole number from 0, got -1"),
        ({"k": True}, "k must be a whole number from 0, got True"),
        ({"k": 5.0}, "k must be a whole number from 0, got 5.0"),
        ({"k": "5"}, "k must be a whole number from 0, got '5'"),
        ({"k": None}, "k must be a whole number from 0, got None"),
        ({"k": -(10**5000)}, "k must be a whole number from 0, got a int that cannot be shown"),
        ({"diversity": 1.5}, "diversity must be a number from 0 to 1, got 1.5"),
        ({"diversity": -0.1}, "diversity must be a number from 0 to 1, got -0.1"),
        ({"diversity": float("nan")}, "diversity must be a number from 0 to 1, got nan"),
        ({"diversity": True}, "diversity must be a number from 0 to 1, got True"),
        ({"diversity": "1"}, "diversity must be a number from 0 to 1, got '1'"),
        ({"exclude": "i1"}, "exclude must be a list of ids, got 'i1'"),
        ({"exclude": {"i1": 1}}, "exclude must be a list of ids, got {'i1': 1}"),
        ({"exclude": np.array(7)}, "exclude must be a list of ids, got array(7)"),
        ({"candidates": 7}, "candidates must be a list of ids, got 7"),
        ({"pinned": b"i1"}, "pinned must be a list of ids, got b'i1'"),
        ({"pinned": ["i1"] * 1001}, "pinned holds 1001 items, and at most 1000 can be pinned"),
        ({"boosts": ["i1"]}, "boosts must map item ids to numbers, got ['i1']"),
        ({"boosts": {"i1": "2"}}, "boosts: the boost of 'i1' must be a number up to 1e+09, got '2'"),
        ({"boosts": {"i1": float("nan")}}, "boosts: the boost of 'i1' must be a number up to 1e+09, got nan"),
        ({"boosts": {"i1": -1e10}}, "boosts: the boost of 'i1' must be a number up to 1e+09, got -10000000000.0"),
        ({"boosts": {"i1": True}}, "boosts: the boost of 'i1' must be a number up to 1e+09, got True"),
        ({"caps": [("brand", 2)]}, "caps: expected a mapping such as {'brand': 2}, got list"),
        ({"caps": {"brnd": 2}}, "caps: the catalogue has no column 'brnd'; did you mean 'brand'?; it has: item_id, "),
        ({"caps": {7: 2}}, "caps: the catalogue has no column 7; it has: item_id, "),
        ({"caps": {"brand": 0}}, "caps: the most items of one brand must be a whole number from 1, got 0"),
        ({"caps": {"brand": 1.5}}, "caps: the most items of one brand must be a whole number from 1, got 1.5"),
        ({"caps": {"brand": True}}, "caps: the most items of one brand must be a whole number from 1, got True"),
    ],
)  # fmt: skip
def test_a_request_that_means_nothing(small: Recommender, asked: dict, told: str) -> None:
    with pytest.raises(RequestError, match=re.escape(told)) as raised:
        small.recommend(small.user_ids[0], **asked)
    assert raised.value.exit_code == 7
    if asked.keys() <= {"k", "exclude", "caps"}:
        with pytest.raises(RequestError, match=re.escape(told)):
            small.recommend_batch(**asked)


def test_a_cap_needs_one_value_an_item(small: Recommender, tmp_path: Path) -> None:
    listed = catalog_of(3, tags=[["a"], [], ["b"]])
    with pytest.raises(RequestError, match=re.escape("caps: 'tags' holds List(String), and a cap needs one value")):
        Filters(listed, np.arange(3, dtype=np.int32)).caps({"tags": 1})


@pytest.mark.parametrize("name", ["exclude", "candidates", "pinned"])
@pytest.mark.parametrize(
    "items", [["x"], ["i1", 10**5000], [None], [True], [float("nan")], [b"i1"], [["i1"]], ["\udcff"], ["i1\0"], [1]]
)
def test_unknown_items_are_named(small: Recommender, name: str, items: list) -> None:
    for ask in (small.recommend, small.recommend_batch):
        if ask == small.recommend or name == "exclude":
            user = "u00001" if ask == small.recommend else ["u00001"]
            with pytest.raises(UnknownIdError, match=rf"1 of {len(items)} items are not in the catalogue of 60: "):
                ask(user, 3, **{name: items})  # type: ignore[operator]
    with pytest.raises(UnknownIdError, match="items are not in the catalogue of 60: "):
        small.score("u00001", items)


def test_numbers_and_lists_of_any_size(small: Recommender) -> None:
    user, ids = small.user_ids[0], small.catalog.ids
    everything = [*ids] * 1700  # 102,000 items
    assert small.recommend(user, 10**5000).shortage is not None
    assert small.recommend(user, np.int64(3)).items == small.recommend(user, 3).items  # type: ignore[arg-type]
    assert small.recommend(user, 5, exclude=everything).items == []
    assert ids_of(small.recommend(user, 5, candidates=everything)) == ids_of(small.recommend(user, 5, candidates=ids))
    assert len(small.recommend("nobody", 60, history=everything).items) == 0
    assert small.recommend(user, 5, boosts=dict.fromkeys(everything, 1.0)).items
    assert (
        small.recommend(user, 3, exclude=ids[:5].to_numpy()).items
        == small.recommend(user, 3, exclude=set(ids[:5])).items
    )
    assert small.recommend(user, 3, candidates=[]).shortage is not None
    for where in ("u < 2 or " * 3000 + "u < 0.5", f"brand in ({', '.join(map(repr, range(0)))})"):
        assert small.recommend(user, 3, where=where) is not None
    for one in (small.similar_items, lambda item, k: small.recommend_batch([user], k)):
        with pytest.raises(RequestError, match="k must be a whole number from 0, got -3"):
            one(ids[0], -3)
    with pytest.raises(RequestError, match="users must be a list of ids, got 'u00001'"):
        small.recommend_batch("u00001")
