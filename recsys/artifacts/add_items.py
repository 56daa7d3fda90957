"""Add items to a loaded bundle: in memory, without training again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.artifacts.bundle import Bundle, extent
from recsys.artifacts.persistence import load_histories
from recsys.config import Config
from recsys.embedding.texts import item_texts
from recsys.engine.embeddings import TextSpace
from recsys.engine.plan import Plan
from recsys.ranking.featurizer import Featurizer
from recsys.types import Catalog, Interactions, State


def add_items(loaded: Bundle, config: Config, items: pl.DataFrame, space: TextSpace) -> Bundle:
    """Return a bundle with further items; `loaded` stays as it is.

    Only the texts of the new items are encoded. Retrievers grow (`Retriever.grow`); features are prepared again, which
    takes time linear in the events. The new items are the least popular. The result lies in memory, not in files.

    Args:
        loaded: The bundle.
        config: Its config.
        items: The new items, with the columns of its catalogue.
        space: Its text space.

    Returns:
        The larger bundle. Its version is that of the bundle on disk, `+`, how many items were added, and 8 hex digits
        of their ids.
    """
    catalog = Catalog(pl.concat([loaded.tables["catalog"], items]))
    further = space.encode(item_texts(Catalog(items), config.embedding.text, config.embedding.html))
    vectors = np.concatenate([loaded.arrays["vectors"], further])
    newest = np.arange(len(vectors) - len(further), len(vectors), dtype=np.int32)
    as_of = int(loaded.arrays["histories/as_of"].max(initial=0)) if config.split.kind == "time" else None
    state = State(catalog, _interactions(loaded), vectors, as_of)
    arrays: dict[str, Any] = {"vectors": vectors, "popular": np.concatenate([loaded.arrays["popular"], newest])}
    for name, retriever in Plan.of(config).retrievers.items():
        larger = retriever.grow(loaded.group(f"retrievers/{name}"), state)
        arrays |= {f"retrievers/{name}/{key}": array for key, array in larger.items()}
    for name, prepared in Featurizer.fit(config.features, state).prepared.items():
        arrays |= {f"features/{name}/{key}": array for key, array in prepared.items()}
    arrays["item_order"] = _order(loaded, items["item_id"])
    for array in arrays.values():
        array.setflags(write=False)
    added = catalog.ids[loaded.manifest["counts"]["items"] :].to_list()
    digest = hashlib.sha256(json.dumps(added).encode()).hexdigest()[:8]
    version = f"{loaded.version.partition('+')[0]}+{len(added)}-{digest}"
    return replace(loaded, on_disk=False, manifest={**loaded.manifest, "model_version": version},
                   arrays={**loaded.arrays, **arrays}, tables={**loaded.tables, "catalog": catalog.frame},
                   extents={**loaded.extents, **{name: extent(array) for name, array in arrays.items()}})  # fmt: skip


def _order(loaded: Bundle, further: pl.Series) -> NDArray[np.int32]:
    """Return the ascending order of all item ids `(I,)`: new rows go where their ids belong among the old."""
    old, order = loaded.arrays["item_order"], further.arg_sort()
    known = loaded.tables["catalog"]["item_id"].gather(old)
    places = known.search_sorted(further.gather(order)).to_numpy().astype(np.int64)
    return np.insert(old, places, len(old) + order.to_numpy().astype(np.int32))


def _interactions(loaded: Bundle) -> Interactions:
    """Return the events of a bundle. It does not store which of them were targets, and no statistic needs that."""
    histories = load_histories(loaded)
    target = np.ones(len(histories.item), dtype=bool)
    return Interactions(histories.owner.astype(np.int32), histories.item, histories.time, histories.weight, target,
                        len(histories))  # fmt: skip
