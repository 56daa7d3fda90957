"""What a request asks of the catalogue's columns, compiled once: filters and caps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

import numpy as np
import polars as pl

from recsys.arrays import BoolArray, IntArray
from recsys.config import nearest
from recsys.errors import RequestError
from recsys.ranking.rules import Cap
from recsys.retrieval.filtered_search import ItemFilter
from recsys.serving.expressions import evaluate
from recsys.serving.requests import shown
from recsys.types import Catalog, codes_of

MOST_BYTES = 256 << 20

Where = str | pl.Expr


class Filters:
    """The catalogue's columns, asked for what they allow. Safe to share between threads.

    The catalogue never changes, so what an expression allows is kept, up to `most_bytes` of memory; what was not asked
    for longest is forgotten first.
    """

    def __init__(self, catalog: Catalog, popular: IntArray, most_bytes: int = MOST_BYTES) -> None:
        self._catalog, self._popular, self._most_bytes = catalog, popular, most_bytes
        self._kept: OrderedDict[str | bytes, ItemFilter] = OrderedDict()
        self._bytes = 0
        self._codes: dict[str, IntArray] = {}
        self._turn = Lock()

    def allowed(self, where: Where | None) -> ItemFilter | None:
        """Return the items that meet an expression, None where all do (as without one).

        Raises `RequestError` for what is no expression over the catalogue.
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
            while self._bytes > self._most_bytes:
                oldest, gone = self._kept.popitem(last=False)
                self._bytes -= gone.nbytes + len(oldest)

    def _mask(self, where: Where) -> BoolArray:
        frame = self._catalog.frame
        met = evaluate(where, frame) if isinstance(where, str) else _collected(where, frame)
        return met.fill_null(False).to_numpy().astype(bool)

    def caps(self, caps: Mapping[str, int] | None) -> list[Cap]:
        """Return the caps of a mapping from column to the most items of one value.

        Raises `RequestError` for a column that the catalogue lacks, one that holds lists, or a number below 1.
        """
        if caps is None:
            return []
        if not isinstance(caps, Mapping):
            raise RequestError(f"caps: expected a mapping such as {{'brand': 2}}, got {type(caps).__name__}")
        return [Cap(self._code(name), _whole(name, most, len(self._catalog))) for name, most in caps.items()]

    def _code(self, name: str) -> IntArray:
        columns = self._catalog.frame.columns
        if name not in columns:
            near = nearest(name, columns) if isinstance(name, str) else ""
            raise RequestError(f"caps: the catalogue has no column {shown(name)}{near}; it has: {', '.join(columns)}")
        if name not in self._codes:
            column = self._catalog.frame[name]
            if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
                raise RequestError(f"caps: {name!r} holds {column.dtype}, and a cap needs one value an item")
            column = column.fill_nan(None) if column.dtype.is_float() else column
            self._codes[name] = codes_of(column.cast(pl.String))
        return self._codes[name]


def _whole(name: str, most: int, n_items: int) -> int:
    if isinstance(most, bool) or not isinstance(most, int | np.integer) or most < 1:
        raise RequestError(f"caps: the most items of one {name} must be a whole number from 1, got {shown(most)}")
    return min(int(most), n_items)


def _key(where: Where) -> str | bytes | None:
    """What an expression is kept under; None for one that cannot be written down, such as a Python function."""
    if isinstance(where, str):
        return where
    if not isinstance(where, pl.Expr):
        raise RequestError(f"where: expected a string or a polars expression, got {type(where).__name__}")
    try:
        return where.meta.serialize()
    except Exception:  # whatever a caller's function may not survive
        return None


def _collected(where: pl.Expr, frame: pl.DataFrame) -> pl.Series:
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
