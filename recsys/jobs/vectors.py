"""Item vectors and their whitening as Parquet, for a vector database."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from recsys.artifacts.bundle import Bundle
from recsys.errors import ArtifactError
from recsys.storage import atomic

ITEMS, WHITENING = "items.parquet", "whitening.parquet"


def write_vectors(bundle: Bundle, out: Path) -> int:
    """Write the item vectors of a bundle, and what makes such a vector of the encoder's output for a new text.

    `items.parquet` has one row an item: `item_id`, `title` and `vector`, float32 of unit length, so that inner product
    and cosine give the same order; an item without text may have a vector of zeros. `whitening.parquet`, where the
    bundle has a whitening, has one row a dimension of the encoder's output: `mean`, and `projection`, that row of the
    matrix. The vector of a text is `(output - mean) @ projection`, scaled to unit length. Both files name
    `model_version` and the fingerprint of the `encoder` in their metadata.

    Args:
        bundle: A loaded bundle, from `recsys.artifacts.bundle.load`.
        out: The folder; created where it is missing. Files that are there are replaced.

    Returns:
        How many items there are.

    Raises:
        ArtifactError: The bundle holds no text vectors, or the folder cannot be written.
    """
    vectors = bundle.arrays["vectors"]
    if not bundle.manifest.get("encoder") or not vectors.shape[1]:
        raise ArtifactError(f"bundle {bundle.path} holds no text vectors: no member of its config needs them")
    catalog = bundle.tables["catalog"]
    tables = {
        ITEMS: catalog.select("item_id", "title").with_columns(_array("vector", vectors)),
    }
    whitening = bundle.group("whitening")
    if whitening:
        tables[WHITENING] = pl.DataFrame(
            [pl.Series("mean", whitening["mean"]), _array("projection", whitening["projection"])]
        )
    about = {"model_version": bundle.version, "encoder": str(bundle.manifest["encoder"])}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            with atomic.whole(out / name) as aside:
                table.write_parquet(aside, metadata=about)
        if not whitening:
            (out / WHITENING).unlink(missing_ok=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"could not write vectors to {out}: {atomic.why_not_written(error, out)}") from error
    return len(catalog)


def _array(name: str, rows: np.ndarray) -> pl.Series:
    return pl.Series(name, np.ascontiguousarray(rows), dtype=pl.Array(pl.Float32, rows.shape[1]))
