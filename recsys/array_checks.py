"""Checks on arrays that were read from a bundle: types, shapes and ranges, before anything is computed with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from recsys.errors import ArtifactError


@dataclass(frozen=True)
class ArrayChecks:
    """Checks on the arrays of one part of a bundle. Each raises `ArtifactError` with the full name of the array.

    `arrays` and `extents` (the lowest and the highest value of each array, as seen when it was loaded) are keyed by
    the name within the part; `part` is what stands before that name in the bundle, such as `retrievers/tower/`.
    """

    arrays: Mapping[str, NDArray[Any]]
    extents: Mapping[str, tuple[Any, Any]]
    n_items: int
    part: str = ""

    def within(self, part: str) -> ArrayChecks:
        """Return the checks on a part of this part, such as `retrievers/tower/`."""
        arrays = {name.removeprefix(part): array for name, array in self.arrays.items() if name.startswith(part)}
        extents = {name: self.extents[part + name] for name in arrays if part + name in self.extents}
        return ArrayChecks(arrays, extents, self.n_items, self.part + part)

    def require(self, holds: object, message: str) -> None:
        """Raise `ArtifactError` with a message, after the name of the part, unless something holds."""
        if not holds:
            raise ArtifactError(self.part + message)

    def shape(self, name: str, dtype: DTypeLike | None, *lengths: Any) -> tuple[int, ...]:
        """Check an array's type and shape.

        Args:
            name: The array, within the part.
            dtype: The type that it must have; None for any.
            lengths: The length of each axis: a number, None for any length, a last `...` for any further axes.

        Returns:
            The shape of the array.

        Raises:
            ArtifactError: The array has another type or shape.
        """
        array = self.arrays[name]
        wanted = [length for length in lengths if length is not ...]
        shape = array.shape[: len(wanted)] if lengths[-1] is ... else array.shape
        fits = len(shape) == len(wanted) and all(w in (None, n) for w, n in zip(wanted, shape, strict=True))
        should = f"{np.dtype(dtype or array.dtype)} ({', '.join(str(w) if w is not None else 'any' for w in wanted)})"
        same_type = dtype is None or array.dtype == dtype
        self.require(fits and same_type, f"{name} is {array.dtype} {array.shape}, and should be {should}")
        return array.shape

    def integers(self, name: str, length: int) -> None:
        """Check that an array holds `length` integers of 32 or 64 bits."""
        kind = self.arrays[name].dtype
        self.require(kind in (np.int32, np.int64), f"{name} holds {kind}, and should hold integers")
        self.shape(name, None, length)

    def item_rows(self, name: str) -> None:
        """Check that every value of an array is a row of the catalogue."""
        low, high = self.extents[name]
        fits = not self.arrays[name].size or (low >= 0 and high < self.n_items)
        self.require(fits, f"{name} names rows {low} to {high} of a catalogue of {self.n_items}")

    def offsets(self, name: str, lists: int, values: int) -> None:
        """Check that an array holds the ragged offsets of so many lists with so many values together."""
        offsets = self.arrays[name]
        self.require(offsets.dtype in (np.int32, np.int64) and offsets.shape == (lists + 1,),
                     f"{name} is {offsets.dtype} {offsets.shape}, and should be integers ({lists + 1},)")  # fmt: skip
        ends = (int(offsets[0]), int(offsets[-1]))
        self.require(ends == (0, values), f"{name} goes from {ends[0]} to {ends[1]}, and should from 0 to {values}")
        self.require((offsets[1:] >= offsets[:-1]).all(), f"{name} goes backwards")
