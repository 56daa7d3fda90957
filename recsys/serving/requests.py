"""What a request may say: each part checked, and put into numbers and rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from recsys.errors import RequestError
from recsys.types import Id, LongArray

LARGEST = (1 << 63) - 1


def shown(value: object) -> str:
    """Write any value for an error message, cut to 200 characters."""
    try:
        return f"{value!r:.200}"
    except Exception:  # an integer of too many digits, or whatever a caller's own class does
        return f"a {type(value).__name__} that cannot be shown"


def identity(user_id: Id) -> Id:
    """Check who asks: a text or a whole number, which a bundle may know or not. Raises `RequestError`.

    Returned is what an answer can carry: no half of a surrogate pair, no number beyond 64 bits.
    """
    if isinstance(user_id, str):
        return user_id.encode("utf-8", "replace").decode()
    if isinstance(user_id, bool) or not isinstance(user_id, int | np.integer):
        raise RequestError(f"user_id must be a text or a whole number, got {shown(user_id)}")
    return int(user_id) if -LARGEST <= user_id <= LARGEST else shown(user_id)


def flag(name: str, value: bool) -> bool:
    """Check a yes or no. Raises `RequestError`."""
    if not isinstance(value, bool | np.bool_):
        raise RequestError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def words(text: str) -> str:
    """Check a free text. Raises `RequestError`."""
    if not isinstance(text, str):
        raise RequestError(f"the text to search for must be a string, got {shown(text)}")
    return text


def count(k: object) -> int:
    """Check how many items are asked for: a whole number from 0. Raises `RequestError`."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
        raise RequestError(f"k must be a whole number from 0, got {shown(k)}")
    return int(k)


def listed(name: str, ids: Iterable[Id]) -> list[Id]:
    """Read several ids. Raises `RequestError` for a single one, and for what is no collection."""
    single = isinstance(ids, np.ndarray) and ids.ndim != 1
    if single or isinstance(ids, str | bytes | Mapping | pl.DataFrame) or not isinstance(ids, Iterable):
        raise RequestError(f"{name} must be a list of ids, got {shown(ids)}")
    return ids.tolist() if isinstance(ids, np.ndarray) else list(ids)


def places(ids: pl.Series, wanted: Sequence[Id]) -> LongArray:
    """Place of each wanted id in an ascending column `(n,)`, -1 where it is not there.

    Ids from a command line may be text where the column has integers, and the other way round.
    """
    if not len(ids) or not len(wanted):
        return np.full(len(wanted), -1, dtype=np.int64)
    read = _as_text if ids.dtype == pl.String else _as_number
    clean = pl.Series([read(one) for one in wanted], dtype=ids.dtype)
    place = ids.search_sorted(clean.fill_null(ids[0])).to_numpy().astype(np.int64)
    place = np.minimum(place, len(ids) - 1)
    return np.where((ids.gather(place) == clean).fill_null(False).to_numpy(), place, -1)


def _as_text(wanted: object) -> str | None:
    if isinstance(wanted, bool) or not isinstance(wanted, str | int | np.integer):
        return None
    try:
        return str(wanted).encode().decode()
    except ValueError:  # a lone surrogate, or an integer of too many digits: no table holds either
        return None


def _as_number(wanted: object) -> int | None:
    if isinstance(wanted, str):
        number = int(wanted) if re.fullmatch("-?[0-9]{1,19}", wanted) else None
    else:
        number = int(wanted) if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool) else None
    return number if number is not None and -LARGEST <= number <= LARGEST else None
