"""Variants of one product: groups, siblings and one of each, against plain loops."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shops import write_tiny_config

from recsys.config import load_config
from recsys.errors import ConfigError
from recsys.jobs.ingest import ingest
from recsys.ragged import offsets_of
from recsys.retrieval.variants import Variants
from recsys.types import Catalog, Hits

products = st.lists(st.integers(0, 4), min_size=1, max_size=12)


def variants_of(ids: list[object], parents: list[object]) -> Variants | None:
    return Variants.of(Catalog(pl.DataFrame({"item_id": ids, "parent": parents})), "parent")


def test_items_that_name_one_product_are_its_variants() -> None:
    found = variants_of(["tent", "tent-red", "mat", "tent-blue", "lone"], [None, "tent", "", "tent", None])
    assert found is not None
    assert found.product.tolist() == [0, 0, 1, 0, 2], "the product itself is one of its variants"
    assert found.spread == 2
    assert found.siblings(np.array([3])).tolist() == [0, 1, 3]
    assert found.siblings(np.array([2, 4])).tolist() == [2, 4]
    numbers = variants_of([1, 2, 3], [None, 1, 1])
    assert numbers is not None
    assert numbers.product.tolist() == [0, 0, 0]


def test_without_variants_there_are_none() -> None:
    assert variants_of(["a", "b"], [None, None]) is None
    assert variants_of(["a", "b"], ["a", "b"]) is None
    assert variants_of(["a", "b"], [["x"], ["x"]]) is None
    assert Variants.of(Catalog(pl.DataFrame({"item_id": ["a", "b"]})), "parent") is None


def test_a_column_that_is_not_there_is_refused_before_anything_is_learned(tmp_path: Path, tiny_model: Path) -> None:
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["soap", "tea"], "sku": ["x", "x"]})
    events = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2]})
    path = write_tiny_config(tmp_path, tiny_model, items, events, rules={"parent": "style"})
    message = "rules.parent names the column 'style', which the catalogue lacks; it has: item_id, "
    with pytest.raises(ConfigError, match=re.escape(message)):
        ingest(load_config(path))


@pytest.mark.parametrize(("choice", "said"), [("one", "holds one of each"), ("all", "may hold any number of each")])
def test_what_the_column_means_is_said(tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture, choice: str,
                                       said: str) -> None:  # fmt: skip
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["soap", "tea"], "sku": ["x", "x"]})
    events = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2]})
    path = write_tiny_config(tmp_path, tiny_model, items, events, rules={"parent": "sku", "variants": choice})
    with caplog.at_level("INFO", "recsys"):
        ingest(load_config(path))
    message = f"variants: 2 items are 1 products by the column 'sku': a list {said} (rules.variants: {choice})"
    assert message in caplog.messages


@given(products, st.data())
def test_the_best_of_each_product_and_all_siblings(product: list[int], data: st.DataObject) -> None:
    n_items = len(product)
    found = Variants(np.unique(product, return_inverse=True)[1].astype(np.int32))
    lists = data.draw(st.lists(st.permutations(range(n_items)).map(lambda one: one[: n_items // 2 + 1]), max_size=4))
    k = data.draw(st.integers(1, 4))
    item = np.array([row for one in lists for row in one], dtype=np.int32)
    offsets = offsets_of(np.array([len(one) for one in lists], dtype=np.int64))
    hits = Hits(offsets, item, -np.arange(len(item), dtype=np.float32))
    right = [list({product[row]: row for row in reversed(one)}.values())[::-1] for one in lists]
    right = [[row for row in one if row in own][:k] for one, own in zip(lists, right, strict=True)]
    kept = found.one_each(hits, k)
    assert [kept.item[a:b].tolist() for a, b in zip(kept.offsets, kept.offsets[1:], strict=False)] == right
    pairs = {(owner, row) for owner, one in enumerate(lists) for row in one}
    keys = np.array(sorted(owner * n_items + row for owner, row in pairs), dtype=np.int64)
    assert found.expand(keys).tolist() == sorted(
        {owner * n_items + other for owner, row in pairs for other in range(n_items) if product[other] == product[row]}
    )
