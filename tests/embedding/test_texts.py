"""Texts to encode: of items from their columns, of users from what they did last."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys.embedding.texts import behaviour_texts, item_texts
from recsys.errors import ConfigError
from recsys.types import Catalog, Histories


def catalog(**columns: object) -> Catalog:
    return Catalog(pl.DataFrame(columns))


def test_item_texts_join_clean_and_fall_back() -> None:
    items = catalog(
        item_id=["a", "b", "c", "d", "e"],
        title=["Red  lipstick\n", None, "  ", None, "口红 💄"],
        category=["Beauty > Lips", "Beauty > Hair", None, "", None],
        price=[9.5, None, None, None, 3.0],
        tags=[["new", None, "vegan"], [], None, [" "], ["x"]],
    )
    assert item_texts(items, ["title", "category", "price", "tags"]) == [
        "Red lipstick. Beauty > Lips. 9.5. new vegan", "Beauty > Hair", "c", "d", "口红 💄. 3.0. x",
    ]  # fmt: skip
    assert item_texts(items, ["title"]) == ["Red lipstick", "Beauty > Hair", "c", "d", "口红 💄"]
    assert item_texts(Catalog(items.frame.clear()), ["title"]) == []
    assert item_texts(catalog(item_id=[7], title=[None]), ["title"]) == ["7"]


def test_item_texts_refuse_unknown_columns() -> None:
    items = catalog(item_id=["a"], title=["x"])
    with pytest.raises(ConfigError, match=r"no column 'titel'; did you mean 'title'\?; known: item_id, title"):
        item_texts(items, ["titel"])
    with pytest.raises(ConfigError, match=r"embedding\.text names no column; known: item_id, title"):
        item_texts(items, [])


def test_behaviour_texts_tell_the_newest_distinct_titles_first() -> None:
    item = np.array([0, 1, 2, 1, 3, 4, 0], dtype=np.int32)  # user 0: five events, user 1: none, user 2: two
    offsets = np.array([0, 5, 5, 7])
    histories = Histories(
        np.arange(3, dtype=np.int32), offsets, item, np.arange(7), np.ones(7, dtype=np.float32), np.full(3, 9)
    )
    titles = ["soap", "cream", "gel", "cream", "oil"]  # items 1 and 3 share a title
    assert behaviour_texts(histories, titles, 10) == ["cream ; gel ; soap", "", "soap ; oil"]
    assert behaviour_texts(histories, titles, 2) == ["cream ; gel", "", "soap ; oil"]
    assert behaviour_texts(histories.select(np.array([1])), titles, 2) == [""]
    assert behaviour_texts(histories.select(np.array([], dtype=np.int64)), titles, 2) == []
