"""Items of a request that the bundle does not hold: refused, or left out and named in the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from recsys.arrays import LongArray
from recsys.config import nearest
from recsys.errors import RequestError, UnknownIdError
from recsys.serving.requests import legible_id, show_value
from recsys.types import Id

Unknown = Literal["refuse", "ignore"]
POLICIES = ("refuse", "ignore")
SHOWN = 10


class UnknownItems:
    """The unknown items of one request, by the argument that names them.

    Args:
        policy: `refuse` raises for the first argument that holds any; `ignore` collects them.

    Raises:
        RequestError: There is no such policy.
    """

    def __init__(self, policy: Unknown = "refuse") -> None:
        if not isinstance(policy, str) or policy not in POLICIES:
            near = nearest(policy, POLICIES) if isinstance(policy, str) else ""
            raise RequestError(f"unknown must be 'refuse' or 'ignore', got {show_value(policy)}{near}")
        self._refuses = policy == "refuse"
        self._found: dict[str, list[Id]] = {}

    def check(self, argument: str, ids: Sequence[Id], rows: LongArray, n_items: int) -> None:
        """Refuse or collect the ids `(n,)` whose row is -1. Raises `UnknownIdError`."""
        unknown = np.flatnonzero(rows < 0)
        if not len(unknown):
            return
        if self._refuses:
            shown = ", ".join(show_value(ids[place]) for place in unknown[:SHOWN].tolist())
            count = f"{len(unknown)} of {len(rows)} items"
            raise UnknownIdError(f"{count} are not in the catalogue of {n_items}: {shown}")
        own = self._found.setdefault(argument, [])
        own += list(dict.fromkeys(legible_id(ids[place]) for place in unknown.tolist()))

    @property
    def ignored(self) -> Mapping[str, list[Id]]:
        """What was left out of each argument, each id once."""
        return self._found
