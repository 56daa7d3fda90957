"""Whether the parts of a bundle fit together: shapes, types and ranges, before anything is computed with them.

A checksum tells that a file is what its writer wrote, not that the writer meant well or had no bug. A row number
outside the catalogue would make a wrong answer, or read memory that is not the array's. What each array holds was seen
when it was loaded (`Bundle.extents`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import polars as pl

from recsys.array_checks import ArrayChecks
from recsys.artifacts.bundle import Bundle
from recsys.errors import ArtifactError
from recsys.ragged import late_events
from recsys.ranking.scorers.base import Scorer
from recsys.retrieval.base import Retriever

MAY_BE_UNKNOWN = "features"  # a price that is not known, for one


def check(loaded: Bundle, retrievers: Mapping[str, Retriever], scorer: Scorer) -> None:
    """Refuse what cannot have come from `persistence.save`.

    Args:
        loaded: The bundle.
        retrievers: The retrievers of its config; each checks its own arrays.
        scorer: The scorer of its config, which checks its own arrays too.

    Raises:
        ArtifactError: Parts do not fit together; the message names the first one.
    """
    with naming(loaded):
        _Check(loaded).all(retrievers)
        scorer.check_arrays(loaded.group("scorer"))


@contextmanager
def naming(loaded: Bundle) -> Iterator[None]:
    """Name the bundle in the errors of its parts. Raises `ArtifactError`."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(f"bundle {loaded.path} does not fit together: {error}; train again") from None


def _must(holds: object, message: str) -> None:
    if not holds:
        raise ArtifactError(message)


def _ascends(ids: pl.Series) -> bool:
    return bool((ids[1:] > ids[:-1]).all())


class _Check:
    def __init__(self, loaded: Bundle) -> None:
        self._arrays, self._loaded = loaded.arrays, loaded
        self._catalog, self._users = loaded.tables["catalog"], loaded.tables["users"]
        self._n_items, self._n_users = self._catalog.height, self._users.height
        self._checks = ArrayChecks(loaded.arrays, loaded.extents, self._n_items)

    def all(self, retrievers: Mapping[str, Retriever]) -> None:
        self._ids(self._catalog, "item_id")
        self._ids(self._users, "user_id")
        _must(_ascends(self._users["user_id"]), "user_id is not in ascending order, or holds an id twice")
        for name, ends in self._loaded.extents.items():
            known = name.startswith(MAY_BE_UNKNOWN) or np.isfinite(ends).all()
            _must(known, f"{name} holds values that are not finite")
        width = self._checks.shape("vectors", np.float32, self._n_items, None)[1]
        self._sorted_items()
        self._checks.shape("popular", np.int32, self._n_items)
        self._checks.item_rows("popular")
        there = np.zeros(self._n_items, dtype=bool)
        there[self._arrays["popular"]] = True
        _must(there.all(), "popular holds an item twice")
        self._histories(width)
        for name, retriever in retrievers.items():
            retriever.check_arrays(self._checks.within(f"retrievers/{name}/"))
        for name in self._arrays:
            if name.startswith("features/"):
                self._checks.shape(name, None, self._n_items, ...)
        if self._loaded.group("whitening"):
            raw = self._checks.shape("whitening/mean", np.float32, None)[0]
            self._checks.shape("whitening/projection", np.float32, raw, width)

    def _ids(self, table: pl.DataFrame, name: str) -> None:
        ids = table[name]
        _must(ids.dtype == pl.String or ids.dtype.is_integer(), f"{name} has the type {ids.dtype}")
        _must(not ids.null_count(), f"{name} holds a row without an id")

    def _sorted_items(self) -> None:
        """Check the order that items are looked up in. Where each id is above the one before, none is there twice."""
        self._checks.shape("item_order", np.int32, self._n_items)
        self._checks.item_rows("item_order")
        ids = self._catalog["item_id"].gather(self._arrays["item_order"])
        _must(_ascends(ids), "item_order is not the ascending order of item_id, or item_id holds an id twice")

    def _histories(self, width: int) -> None:
        n = len(self._arrays["histories/item"])
        for name, dtype, length in (("item", np.int32, n), ("time", np.int64, n), ("weight", np.float32, n),
                                    ("as_of", np.int64, self._n_users)):  # fmt: skip
            self._checks.shape(f"histories/{name}", dtype, length)
        self._checks.offsets("histories/offsets", self._n_users, n)
        self._checks.item_rows("histories/item")
        time, as_of = self._arrays["histories/time"], self._arrays["histories/as_of"]
        late = len(late_events(self._arrays["histories/offsets"], time, as_of))
        _must(not late, f"histories/time holds {late} events at or after their user's as_of")
        if "histories/text_vectors" in self._arrays:
            self._checks.shape("histories/text_vectors", np.float32, self._n_users, width)
