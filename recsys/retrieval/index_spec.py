"""Which index to build over some vectors: chosen by their number, measured with queries, held to a floor."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, unit_rows
from recsys.errors import ArtifactError
from recsys.retrieval.index import EXACT, RECALL_K, Index

log = logging.getLogger(__name__)

AUTO = "auto"
FLOOR = 0.98
MAX_EXACT_NUMBERS = 20_000_000  # that one core reads in about 3 ms: `auto` searches smaller catalogues exactly
TUNING_QUERIES = 500  # that an index is measured with
MIN_PAIRED_WIDTH = 256  # width of a vector from which on one code stands for two numbers


@dataclass(frozen=True, eq=False)
class IndexSpec:
    """Which index to build over some vectors, and what recall it must reach.

    Attributes:
        vectors: The item vectors `(I, d)`.
        queries: The queries that the recall is measured with `(q, d)`; none of them is one of the vectors.
        factory: `auto`, `Flat` or a FAISS factory string.
        search: How widely an approximate index searches; empty: as widely as the floor needs.
        floor: The recall that an approximate index must reach.
    """

    vectors: FloatArray
    queries: FloatArray
    factory: str = AUTO
    search: str = ""
    floor: float = FLOOR

    def build(self) -> Index:
        """Build the index and measure its recall.

        `auto` is exact for a catalogue that is read in a few milliseconds, and `auto_factory` above; where that does
        not reach the floor, it is exact again. Without `search` an inverted file searches as many of its lists as the
        floor needs, and no more.

        Raises:
            ConfigError: FAISS does not know the factory or the search string.
            ArtifactError: A factory other than `auto` finds less than the floor.
        """
        auto = self.factory == AUTO
        if self.factory == EXACT or (auto and self.vectors.size <= MAX_EXACT_NUMBERS):
            return Index(self.vectors)
        factory = auto_factory(self.vectors.shape) if auto else self.factory
        index = Index.build(self.vectors, factory, self.search)
        index.measure(self.queries, math.inf if self.search else self.floor)
        if auto and index.measured_recall < self.floor:
            log.warning("index auto: %s finds %.3f of the true %d nearest items, below the floor of %s: every search "
                        "is exact", index.factory, index.measured_recall, RECALL_K, self.floor)  # fmt: skip
            return Index(self.vectors)
        return self._require_floor(index)

    def extend(self, data: NDArray[np.uint8]) -> Index:
        """Add to a stored index those of the vectors that it does not hold yet, and measure it again.

        Raises:
            ArtifactError: FAISS cannot read the index, or it now finds less than the floor.
        """
        index = Index.extend(data, self.vectors, self.factory)
        index.measure(self.queries)
        return self._require_floor(index)

    def _require_floor(self, index: Index) -> Index:
        if index.measured_recall < self.floor:
            raise ArtifactError(
                f"index {index.factory!r} finds {index.measured_recall:.3f} of the true {RECALL_K} nearest items, "
                f"below the floor of {self.floor}: let it search more (`search: nprobe=64` or `efSearch=512`), or use "
                f"`index: {AUTO}` or `index: {EXACT}`"
            )
        return index


def auto_factory(shape: tuple[int, ...]) -> str:
    """Return the FAISS factory string for many vectors `(I, d)`: an inverted file with short codes.

    The number of lists is about the root of the number of vectors. 4 bits stand for one number, or for two where there
    are many: product quantisation (Jégou, Douze and Schmid 2011), compared within the processor's registers (André,
    Kermarrec and Le Scouarnec 2015). docs/log.md compares this with HNSW and with 8 bits a number.
    """
    n_items, width = shape
    codes = width // 2 if width >= MIN_PAIRED_WIDTH and width % 2 == 0 else width
    return f"IVF{2 ** round(math.log2(n_items) / 2)},PQ{codes}x4fs"


def synthetic_queries(vectors: FloatArray, n: int = TUNING_QUERIES) -> FloatArray:
    """Make query vectors `(n, d)` like those of histories: decayed sums of 2 to 10 random items; unit rows."""
    rng = np.random.default_rng(0)
    items = rng.integers(len(vectors), size=(n, 10))
    weight = np.float32(0.8) ** np.arange(10, dtype=np.float32)
    weight = np.where(np.arange(10) < rng.integers(2, 11, size=(n, 1)), weight, 0).astype(np.float32)
    return unit_rows(np.einsum("qj,qjd->qd", weight, vectors[items]))
