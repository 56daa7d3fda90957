"""Variants of one product: groups, siblings and one of each, against plain loops."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

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
