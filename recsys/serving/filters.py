"""Conditions on the columns of the catalogue, compiled once: filters and caps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import polars as pl

from recsys.arrays import BoolArray, IntArray
from recsys.config import nearest
from recsys.errors import RequestError
from recsys.parallel.forks import ForkSafeLock, nullable, require_polars
from recsys.ranking.rules import Cap
from recsys.retrieval.filtered_search import ItemFilter
from recsys.serving.expressions import evaluate
from recsys.serving.requests import show_value
from recsys.types import Catalog

MAX_BYTES = 256 << 20

Where = str | pl.Expr


class Filters:
    """Filters and caps over the columns of a catalogue. Safe to share between threads.

    The catalogue never changes, so the result of an expression is cached, up to `max_bytes` of memory; the least
    recently used result goes first.
    """

    def __init__(self, catalog: Catalog, popular: IntArray, max_bytes: int = MAX_BYTES) -> None:
        self._catalog, self._popular, self._max_bytes = catalog, popular, max_bytes
        self._kept: OrderedDict[str | bytes, ItemFilter] = OrderedDict()
        self._bytes = 0
        self._codes: dict[str, IntArray] = {}
        self._turn = ForkSafeLock()

    def allowed(self, where: Where | None) -> ItemFilter | None:
        """Return the items that meet an expression; None where all do, as without one.

        Raises:
            RequestError: It is no expression over the catalogue.
        """
        if where is None:
            return None
        key = _key(where)
        with self._turn:
            found = self._kept.get(key) if key is not None else None
            if found is not None and key is not None:
                self._kept.move_to_end(key)
        if found is None:
            found = ItemFilter.of(self._mask(where), self._popular)
            if key is not None:
                self._keep(key, found)
        return None if len(found) == len(self._catalog) else found

    def _keep(self, key: str | bytes, allowed: ItemFilter) -> None:
        with self._turn:
            if key not in self._kept:
                self._bytes += allowed.nbytes + len(key)
            self._kept[key] = allowed
            while self._bytes > self._max_bytes:
                oldest, gone = self._kept.popitem(last=False)
                self._bytes -= gone.nbytes + len(oldest)

    def _mask(self, where: Where) -> BoolArray:
        frame = self._catalog.frame
        met = evaluate(where, frame) if isinstance(where, str) else _collect(where, frame)
        return (met & met.is_not_null()).to_numpy().astype(bool)  # null and False is False

    def caps(self, caps: Mapping[str, int] | None) -> list[Cap]:
        """Return the caps of a mapping from a column to the most items of one of its values.

        Raises:
            RequestError: The catalogue lacks a column, a column holds lists, or a number is below 1.
        """
        if caps is None:
            return []
        if not isinstance(caps, Mapping):
            raise RequestError(f"caps: expected a mapping such as {{'brand': 2}}, got {type(caps).__name__}")
        return [Cap(self._code(name), _check_cap(name, most, len(self._catalog))) for name, most in caps.items()]

    def _code(self, name: str) -> IntArray:
        columns = self._catalog.frame.columns
        if name not in columns:
            near = nearest(name, columns) if isinstance(name, str) else ""
            raise RequestError(
                f"caps: the catalogue has no column {show_value(name)}{near}; it has: {', '.join(columns)}"
            )
        if name not in self._codes:
            column = self._catalog.frame[name]
            if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
                raise RequestError(f"caps: {name!r} holds {column.dtype}, and a cap needs one value an item")
            self._codes[name] = _codes_of(nullable(column) if column.dtype.is_float() else column)
        return self._codes[name]


def _codes_of(column: pl.Series) -> IntArray:
    """Number the distinct values of a column `(n,)`; -1 for null and for an empty text."""
    number: dict[object, int] = {None: -1, "": -1}
    return np.array([number.setdefault(value, len(number) - 2) for value in column.to_list()], dtype=np.int32)


def _check_cap(name: str, most: int, n_items: int) -> int:
    if isinstance(most, bool) or not isinstance(most, int | np.integer) or most < 1:
        raise RequestError(f"caps: the most items of one {name} must be a whole number from 1, got {show_value(most)}")
    return min(int(most), n_items)


def _key(where: Where) -> str | bytes | None:
    """Return the key of an expression in the cache; None for one that cannot be serialized, such as a function."""
    if isinstance(where, str):
        return where
    if not isinstance(where, pl.Expr):
        raise RequestError(f"where: expected a string or a polars expression, got {type(where).__name__}")
    try:
        return where.meta.serialize()
    except Exception:  # polars raises many kinds here, and so may a caller's function
        return None


def _collect(where: pl.Expr, frame: pl.DataFrame) -> pl.Series:
    require_polars("where: a polars expression (a string such as 'price <= 20' does not)")
    try:
        found = frame.select(where)
    except Exception as error:  # polars has many, and a caller's function may raise its own
        raise RequestError(f"where: polars cannot apply this expression to the catalogue: {error}") from error
    met = found.to_series() if found.width == 1 else pl.Series()
    if met.dtype != pl.Boolean or len(met) not in (1, frame.height):
        raise RequestError(
            f"where: the expression must give true or false for each of {frame.height} items, and gives "
            f"{found.width} columns of {found.height} rows: {', '.join(map(str, found.dtypes[:3]))}"
        )
    return met if len(met) == frame.height else met.extend_constant(met.item(), frame.height - 1)
