"""Whether the parts of a bundle fit together: shapes, types and ranges, before anything is computed with them.

A checksum tells that a file is what its writer wrote, not that the writer meant well or had no bug. A row number
outside the catalogue would make a wrong answer, or read memory that is not the array's. What each array holds was seen
when it was loaded (`Bundle.extents`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl

from recsys.artifacts.bundle import Arrays, Bundle
from recsys.config import Config
from recsys.errors import ArtifactError
from recsys.ragged import late_events
from recsys.ranking.scorers.base import Scorer

MAY_BE_UNKNOWN = "features"  # a price that is not known, for one


def check(config: Config, loaded: Bundle, scorer: Scorer) -> None:
    """Refuse, with an `ArtifactError` that names the part, what cannot have come from `persistence.save`.

    Each array of the `scorer` is finite; what else must hold of them it checks itself.
    """
    with naming(loaded):
        _Check(loaded).all(config)
        scorer.check_arrays(loaded.group("scorer"))


@contextmanager
def naming(loaded: Bundle) -> Iterator[None]:
    """Name the bundle in the errors of its parts. Raises `ArtifactError`."""
    try:
        yield
    except (_UnsoundError, ArtifactError) as error:
        raise ArtifactError(f"bundle {loaded.path} does not fit together: {error}; train again") from None


class _UnsoundError(Exception):
    pass


def _must(holds: object, told: str) -> None:
    if not holds:
        raise _UnsoundError(told)


def _ascends(ids: pl.Series) -> bool:
    return bool((ids > ids.shift(1)).all())


class _Check:
    def __init__(self, loaded: Bundle) -> None:
        self._arrays, self._loaded = loaded.arrays, loaded
        self._catalog, self._users = loaded.tables["catalog"], loaded.tables["users"]
        self._n_items, self._n_users = self._catalog.height, self._users.height

    def all(self, config: Config) -> None:
        self._ids(self._catalog, "item_id")
        self._ids(self._users, "user_id")
        _must(_ascends(self._users["user_id"]), "user_id is not in ascending order, or holds an id twice")
        for name, ends in self._loaded.extents.items():
            known = name.startswith(MAY_BE_UNKNOWN) or np.isfinite(ends).all()
            _must(known, f"{name} holds values that are not finite")
        width = self._shape("vectors", np.float32, self._n_items, None)[1]
        self._sorted_items()
        self._shape("popular", np.int32, self._n_items)
        self._rows("popular")
        there = np.zeros(self._n_items, dtype=bool)
        there[self._arrays["popular"]] = True
        _must(there.all(), "popular holds an item twice")
        self._histories(width)
        for name in config.retrievers:
            self._retriever(f"retrievers/{name}", self._loaded.group(f"retrievers/{name}"))
        for name in self._arrays:
            if name.startswith("features/"):
                self._shape(name, None, self._n_items, ...)
        if self._loaded.group("whitening"):
            raw = self._shape("whitening/mean", np.float32, None)[0]
            self._shape("whitening/projection", np.float32, raw, width)

    def _ids(self, table: pl.DataFrame, name: str) -> None:
        ids = table[name]
        _must(ids.dtype == pl.String or ids.dtype.is_integer(), f"{name} has the type {ids.dtype}")
        _must(not ids.null_count(), f"{name} holds a row without an id")

    def _sorted_items(self) -> None:
        """Check the order that items are looked up in. Where each id is above the one before, none is there twice."""
        self._shape("item_order", np.int32, self._n_items)
        self._rows("item_order")
        ids = self._catalog["item_id"].gather(self._arrays["item_order"])
        _must(_ascends(ids), "item_order is not the ascending order of item_id, or item_id holds an id twice")

    def _shape(self, name: str, dtype: Any, *wanted: Any) -> tuple[int, ...]:
        """Check an array's type and shape: a number is a length, None any length, ... any further axes."""
        array = self._arrays[name]
        lengths = [length for length in wanted if length is not ...]
        shape = array.shape[: len(lengths)] if wanted[-1] is ... else array.shape
        fits = len(shape) == len(lengths) and all(w in (None, n) for w, n in zip(lengths, shape, strict=True))
        should = f"{np.dtype(dtype or array.dtype)} ({', '.join(str(w) if w is not None else 'any' for w in lengths)})"
        _must(fits and dtype in (None, array.dtype), f"{name} is {array.dtype} {array.shape}, and should be {should}")
        return array.shape

    def _rows(self, name: str) -> None:
        """Check that an array holds rows of the catalogue."""
        low, high = self._loaded.extents[name]
        fits = not self._arrays[name].size or (low >= 0 and high < self._n_items)
        _must(fits, f"{name} names rows {low} to {high} of a catalogue of {self._n_items}")

    def _offsets(self, name: str, lists: int, values: int) -> None:
        offsets = self._arrays[name]
        _must(offsets.dtype in (np.int32, np.int64) and offsets.shape == (lists + 1,),
              f"{name} is {offsets.dtype} {offsets.shape}, and should be integers ({lists + 1},)")  # fmt: skip
        ends = (int(offsets[0]), int(offsets[-1]))
        _must(ends == (0, values), f"{name} goes from {ends[0]} to {ends[1]}, and should from 0 to {values}")
        _must((offsets[1:] >= offsets[:-1]).all(), f"{name} goes backwards")

    def _histories(self, width: int) -> None:
        n = len(self._arrays["histories/item"])
        for name, dtype, length in (("item", np.int32, n), ("time", np.int64, n), ("weight", np.float32, n),
                                    ("as_of", np.int64, self._n_users)):  # fmt: skip
            self._shape(f"histories/{name}", dtype, length)
        self._offsets("histories/offsets", self._n_users, n)
        self._rows("histories/item")
        time, as_of = self._arrays["histories/time"], self._arrays["histories/as_of"]
        late = len(late_events(self._arrays["histories/offsets"], time, as_of))
        _must(not late, f"histories/time holds {late} events at or after their user's as_of")
        if "histories/text_vectors" in self._arrays:
            self._shape("histories/text_vectors", np.float32, self._n_users, width)

    def _retriever(self, name: str, arrays: Arrays) -> None:
        if "indptr" in arrays:  # a sparse matrix, whose product is computed without a look at its bounds
            n = len(arrays["indices"])
            self._shape(f"{name}/data", np.float32, n)
            self._offsets(f"{name}/indptr", self._n_items, n)
            kind = arrays["indices"].dtype
            _must(kind in (np.int32, np.int64), f"{name}/indices holds {kind}, and should hold integers")
            self._shape(f"{name}/indices", None, n)
            self._rows(f"{name}/indices")
        elif "items" in arrays:
            width = self._shape(f"{name}/items", np.float32, self._n_items, None)[1]
            self._shape(f"{name}/position", np.float32, None, width - 1)
        elif "count" in arrays:
            self._shape(f"{name}/count", np.float32, self._n_items)
        if "index" in arrays:
            self._shape(f"{name}/index", np.uint8, None)
