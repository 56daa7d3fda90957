"""Items that a request names and the bundle lacks: refused as ever, or ignored and named."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from random_bundles import ids_of

from recsys import Recommender
from recsys.config import nearest
from recsys.errors import RequestError, UnknownIdError

GONE = "no-longer-sold"
ASKED: dict[str, Callable[[list[Any]], Any]] = {
    "history": lambda ids: ids,
    "candidates": lambda ids: ids,
    "exclude": lambda ids: ids,
    "pinned": lambda ids: ids,
    "boosts": lambda ids: dict.fromkeys(ids, 2.0),
}


@pytest.mark.parametrize("argument", ASKED)
def test_an_unknown_item_is_ignored_and_named(small: Recommender, argument: str) -> None:
    user, ids = small.user_ids[4], small.catalog.ids.to_list()
    known, form = [ids[3], ids[9], ids[12]], ASKED[argument]
    mixed = [known[0], GONE, known[1], GONE, known[2]]
    with pytest.raises(UnknownIdError, match=r"[12] of [45] items are not in the catalogue of 60: 'no-longer-sold'"):
        small.recommend(user, 5, **{argument: form(mixed)})
    answer = small.recommend(user, 5, unknown="ignore", **{argument: form(mixed)})
    plain = small.recommend(user, 5, **{argument: form(known)})
    assert (answer.items, answer.shortage) == (plain.items, plain.shortage)
    assert answer.ignored == {argument: [GONE]}
    assert plain.ignored == {}
    assert json.loads(json.dumps(answer.to_dict()))["ignored"] == {argument: [GONE]}
    assert f"ignored, unknown items in {argument}: {GONE}" in repr(answer)
    assert small.why_not(user, ids[0], 5, unknown="ignore", **{argument: form(mixed)}) == small.why_not(
        user, ids[0], 5, **{argument: form(known)}
    )


def test_whatever_is_no_id_is_ignored_in_a_form_that_json_holds(small: Recommender) -> None:
    odd = [None, math.nan, True, "half \udc80", 10**5000, ("i1",), b"i1", -1]
    answer = small.recommend("nobody", 3, exclude=odd, history=["\udc80"], unknown="ignore")
    assert json.loads(json.dumps(answer.to_dict()))["ignored"] == {
        "exclude": ["None", "nan", "True", "half ?", "a int that cannot be shown", "('i1',)", "b'i1'", -1],
        "history": ["?"],
    }
    assert (answer.cold, answer.fallback) == (True, True)
    assert len(json.dumps(answer.to_dict()).encode()) > 0


def test_scores_keep_their_places(small: Recommender) -> None:
    user, ids = small.user_ids[4], small.catalog.ids.to_list()
    with pytest.raises(UnknownIdError, match="1 of 3 items are not in the catalogue of 60: 'no-longer-sold'"):
        small.score(user, [ids[0], GONE, ids[1]])
    scores = small.score(user, [ids[0], GONE, ids[1]], history=[GONE], unknown="ignore")
    assert scores["item_id"].to_list() == [ids[0], GONE, ids[1]]
    assert scores["score"].to_list() == [small.score(user, [ids[0]])["score"][0], None, scores["score"][2]]
    assert scores.filter(scores["score"].is_not_null()).equals(small.score(user, [ids[0], ids[1]]))
    assert small.explain(user, ids[:1], history=[GONE], unknown="ignore") == small.explain(user, ids[:1])
    assert small.score(user, [GONE], unknown="ignore")["score"].to_list() == [None]


def test_a_batch_ignores_too_and_logs_it(small: Recommender, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnknownIdError, match="1 of 1 items are not in the catalogue of 60: 'no-longer-sold'"):
        small.recommend_batch(k=3, exclude=[GONE])
    assert small.recommend_batch(k=3, exclude=[GONE], unknown="ignore").equals(small.recommend_batch(k=3))
    assert "exclude: 1 unknown items are ignored: no-longer-sold" in caplog.text


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"unknown": "ignored"}, "unknown must be 'refuse' or 'ignore', got 'ignored'; did you mean 'ignore'?"),
        ({"unknown": None}, "unknown must be 'refuse' or 'ignore', got None"),
        ({"variants": "on"}, "variants must be 'one' or 'all', got 'on'; did you mean 'one'?"),
        ({"variants": 1}, "variants must be 'one' or 'all', got 1"),
    ],
)
def test_a_choice_that_there_is_not(small: Recommender, asked: dict[str, Any], told: str) -> None:
    for ask in (lambda: small.recommend("nobody", 2, **asked), lambda: small.recommend_batch(k=2, **asked)):
        with pytest.raises(RequestError, match=re.escape(told)):
            ask()


def test_a_pandas_frame_is_a_history(small: Recommender) -> None:
    ids = small.catalog.ids.to_list()
    moment = pd.Timestamp("2030-01-01T10:00:00Z")
    frame = pd.DataFrame({"item_id": [ids[3], ids[9]], "event": ["buy", None], "time": [moment, moment]})
    events = [{"item_id": ids[3], "event": "buy", "time": moment}, {"item_id": ids[9], "time": moment}]
    user = small.user_ids[4]
    assert small.recommend(user, 5, history=frame) == small.recommend(user, 5, history=events)
    untimed = frame.assign(time=[pd.NaT, pd.NaT], event=[np.nan, pd.NA])
    assert small.recommend(user, 5, history=untimed) == small.recommend(user, 5, history=[ids[3], ids[9]])
    assert small.recommend(user, 5, history=frame["item_id"]) == small.recommend(user, 5, history=[ids[3], ids[9]])
    with pytest.raises(RequestError, match=r"history event 1: unknown key 'item'; did you mean 'item_id'[?]"):
        small.recommend(user, 5, history=pd.DataFrame({"item": ["i1"]}))


def test_no_word_of_other_people(small: Recommender) -> None:
    """The ids nearest to an unknown one are those of other people."""
    near = small.user_ids[0][:-1]
    for ask in (
        lambda: small.recommend(near, strict=True),
        lambda: small.score(near, ["i1"], strict=True),
        lambda: small.recommend_batch([near]),
        lambda: small.history(near),
    ):
        with pytest.raises(UnknownIdError) as error:
            ask()
        assert str(error.value) == f"user {near!r} is not among the 30 users of this bundle"


@pytest.mark.parametrize("user", [True, False, math.nan, 1.0, None, np.bool_(True), b"u1", ["u1"]])
def test_what_is_no_user_is_refused_and_never_read_as_one(small: Recommender, user: Any) -> None:
    for ask in (lambda: small.recommend(user), lambda: small.score(user, ["i1"]), lambda: small.explain(user, ["i1"])):
        with pytest.raises(RequestError, match=r"^user_id must be a text or a whole number, got "):
            ask()


@pytest.mark.parametrize("text", ["", "  \n", None, 5, True])
def test_a_search_without_words_is_refused(small: Recommender, text: Any) -> None:
    with pytest.raises(RequestError, match=re.escape(f"the text to search for must be words, got {text!r}")):
        small.search(text)


def test_nothing_is_compared_with_a_name_that_is_no_typo(small: Recommender) -> None:
    """A name of megabytes would take seconds to compare with each column."""
    long = "column" * 40
    assert nearest(long[:200], [long]) == f"; did you mean {long!r}?"
    assert nearest(long[:201], [long]) == ""
    with pytest.raises(RequestError, match=r"the catalogue has no column 'brandbrand.*'; it has: item_id"):
        small.recommend("nobody", where="brand" * 60 + " == 1")


def test_a_number_of_many_digits_is_read_once(small: Recommender) -> None:
    """Read once for each place at which it may end, this would take hours."""
    with pytest.raises(RequestError, match="cannot read"):
        small.recommend("nobody", where="u < " + "1" * 1_000_000 + "x")
    assert len(small.recommend("nobody", 5, where="u < " + "1" * 1_000_000)) == 5


def test_it_pickles_as_its_path_wherever_the_process_stands(
    small: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = small.save(tmp_path / "root")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Recommender.load("root"))
    assert len(pickled) < 1000
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = pickle.loads(pickled)  # noqa: S301
    assert ids_of(loaded.recommend(loaded.user_ids[4])) == ids_of(small.recommend(small.user_ids[4]))
    (root / "popular.npy").write_bytes((root / "popular.npy").read_bytes()[:-4])
    with pytest.raises(Exception, match=r"popular.npy has 364 bytes, its manifest says 368"):
        pickle.loads(pickled)  # noqa: S301
