"""Names of array types, and unit rows.

Throughout, `U` users, `I` items, `n` rows, `r` retrievers, `d` dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]
LongArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Scale each row to length 1; rows of zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32, copy=False)
