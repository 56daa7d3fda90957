"""Variants: items that are one product in several colours or sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.arrays import BoolArray, IntArray, LongArray, Rows
from recsys.config import RulesConfig
from recsys.errors import ConfigError
from recsys.ragged import offsets_of, owners_of, pair_keys, places_of, stable_order
from recsys.types import Catalog, Hits


@dataclass(frozen=True, eq=False)
class Variants:
    """Which items are variants of one product.

    Attributes:
        product: The product of each item `(I,)`, from 0; items of one product share it.
    """

    product: IntArray

    @classmethod
    def of(cls, catalog: Catalog, column: str) -> Variants | None:
        """Read the column that names the product of each item; None where no product has two items.

        An item that names none is a product of its own, and is that of the items that name it.

        Raises:
            ConfigError: The catalogue lacks the column, and it is not the default, which need not be there.
        """
        columns = catalog.frame.columns
        if column not in columns and column != RulesConfig().parent:
            raise ConfigError(
                f"rules.parent names the column {column!r}, which the catalogue lacks; it has: {', '.join(columns)}"
            )
        if column not in columns or catalog.frame[column].dtype.is_nested():
            return None
        number: dict[str, int] = {}
        named = zip(catalog.ids.to_list(), catalog.frame[column].to_list(), strict=True)
        names = (str(own) if parent is None or parent == "" else str(parent) for own, parent in named)
        product = np.array([number.setdefault(name, len(number)) for name in names], dtype=np.int32)
        return cls(product) if len(number) < len(product) else None

    @cached_property
    def spread(self) -> int:
        """How many items a product has on average, rounded up: how much deeper to look for as many products."""
        return -(-len(self.product) // (int(self.product.max(initial=0)) + 1))

    @cached_property
    def _by_product(self) -> tuple[LongArray, LongArray]:
        """The items in the order of their products, and where each product begins."""
        return stable_order(self.product), offsets_of(np.bincount(self.product))

    def siblings(self, items: Rows) -> LongArray:
        """Return all items of the products of some items, ascending and distinct."""
        return self.expand(pair_keys(np.zeros(len(items), dtype=np.int64), items, len(self.product)))

    def expand(self, pairs: LongArray) -> LongArray:
        """Return the keys of the (query, item) pairs of all variants of the items in `pairs`, ascending, distinct."""
        order, begins = self._by_product
        owner, item = np.divmod(pairs, len(self.product))
        product = self.product[item]
        counts = begins[product + 1] - begins[product]
        offsets = offsets_of(counts)
        rows = order[np.repeat(begins[product], counts) + places_of(offsets)]
        return np.unique(pair_keys(np.repeat(owner, counts), rows, len(self.product)))

    def first_of_each(self, owner: LongArray, item: Rows) -> BoolArray:
        """Mark the first item of each product in each list `(n,)`; the lists are ragged, best first."""
        _, first = np.unique(pair_keys(owner, self.product[item], len(self.product)), return_index=True)
        marked = np.zeros(len(item), dtype=bool)
        marked[first] = True
        return marked

    def one_each(self, hits: Hits, k: int) -> Hits:
        """Keep the best item of each product in each list, at most `k`."""
        owner = owners_of(hits.offsets)
        kept = self.first_of_each(owner, hits.item)
        running: LongArray = np.cumsum(kept) - kept
        before = np.append(running, kept.sum())[hits.offsets[:-1]]
        kept &= running - before[owner] < k
        counts = np.bincount(owner[kept], minlength=len(hits.offsets) - 1)
        return Hits(offsets_of(counts), hits.item[kept], hits.score[kept])
