"""From a fitted model to the arrays and tables of a bundle, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.arrays import FloatArray
from recsys.artifacts import bundle, validation
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.extensions import KEY, describe_extensions, require_extensions
from recsys.config import Config
from recsys.embedding.whitening import Whitening
from recsys.engine.model import Model, Retrieval
from recsys.engine.plan import Plan
from recsys.errors import ArtifactError
from recsys.extras import require
from recsys.ranking.calibration import Calibrator
from recsys.ranking.featurizer import Featurizer
from recsys.retrieval.variants import Variants
from recsys.types import Catalog, Histories

if TYPE_CHECKING:
    from recsys.embedding.store import VectorStore
    from recsys.engine.embeddings import Embeddings, TextSpace


def restore(config: Config, loaded: Bundle) -> Model:
    """Rebuild the model that `save` published; its arrays stay memory-mapped.

    Raises:
        ArtifactError: A member of another package is missing, or parts of the bundle do not fit together.
    """
    require_extensions(loaded, ("retriever", "feature", "scorer"))
    plan = Plan.of(config)
    validation.check(loaded, plan.retrievers, plan.scorer)
    vectors: FloatArray = loaded.arrays["vectors"]
    fitted = {n: r.restore(loaded.group(f"retrievers/{n}"), vectors) for n, r in plan.retrievers.items()}
    retrieval = Retrieval(
        fitted=fitted,
        depths={name: retriever.depth for name, retriever in plan.retrievers.items()},
        vectors=vectors,
        popular=loaded.arrays["popular"],
        drop_seen=plan.drop_seen,
        history=plan.history,
        variants=_variants(config, loaded),
        seen_products=config.rules.seen_variants == "drop",
    )
    featurizer = Featurizer({name: loaded.group(f"features/{name}") for name in plan.features})
    calibration = loaded.group("calibration")
    calibrator = Calibrator.from_arrays(calibration) if calibration else None
    with validation.naming(loaded):
        return Model(retrieval, featurizer, plan.scorer.restore(loaded.group("scorer")), calibrator)


def _variants(config: Config, loaded: Bundle) -> Variants | None:
    """Return the variants of a catalogue; None for a bundle of a release that knew none, which answers as it did."""
    if "parent" not in loaded.manifest["config"].get("rules", {}):
        return None
    return Variants.of(Catalog(loaded.tables["catalog"]), config.rules.parent)


def load_histories(loaded: Bundle) -> Histories:
    """Return the histories of a bundle, one for each row of its users; arrays stay memory-mapped."""
    parts = loaded.group("histories")
    users = np.arange(len(loaded.tables["users"]), dtype=np.int32)
    return Histories(users, parts["offsets"], parts["item"], parts["time"], parts["weight"], parts["as_of"],
                     parts.get("text_vectors"))  # fmt: skip


def history_arrays(histories: Histories) -> dict[str, NDArray[Any]]:
    """Return histories as arrays of a bundle."""
    names = ("offsets", "item", "time", "weight", "as_of", "text_vectors")
    parts = {name: getattr(histories, name) for name in names}
    return {f"histories/{name}": part for name, part in parts.items() if part is not None}


def restore_space(config: Config, loaded: Bundle, store: VectorStore | None = None) -> TextSpace:
    """Rebuild the text space of a bundle: the encoder of this machine, and the bundle's whitening.

    Args:
        config: The config of the bundle, which names the encoder.
        loaded: The bundle.
        store: Where vectors are kept; None encodes every text.

    Raises:
        ArtifactError: That encoder is not the one that made the bundle's vectors.
    """
    from recsys.embedding.registry import load_encoder
    from recsys.engine.embeddings import TextSpace

    require_extensions(loaded, ("encoder",))
    require("train", "encoding texts, as a search does,", "torch", "transformers")
    encoder = load_encoder(config.embedding, store.folder if store else None)
    wanted = loaded.manifest["encoder"]
    if encoder.fingerprint != wanted:
        raise ArtifactError(
            f"the encoder {config.embedding.model!r} on this machine has fingerprint "
            f"{encoder.fingerprint[:12]}, the bundle's vectors were made with {wanted[:12]}: they must not mix; "
            "install the model that the bundle was made with, or train again. A fingerprint changes with precision "
            f"too, which is {config.embedding.precision!r} here: 'auto' means another on a GPU than on a CPU, "
            "so set embedding.precision to the same value for both"
        )
    whitening = loaded.group("whitening")
    return TextSpace(encoder, Whitening.from_arrays(whitening) if whitening else None, store)


def save(root: Path, config: Config, model: Model, embeddings: Embeddings, user_ids: pl.Series, histories: Histories,
         about: Mapping[str, Any]) -> Path:  # fmt: skip
    """Publish a fitted model as a new version.

    Args:
        root: The bundle root.
        config: The config that the model was fitted with.
        model: The model.
        embeddings: The catalogue, its vectors and the text space.
        user_ids: Ids of the users `(U,)`, ascending.
        histories: Their histories, in the same order.
        about: Further entries of the manifest.

    Returns:
        The folder of the new version.

    Raises:
        ArtifactError: As `bundle.publish`.
    """
    arrays: dict[str, Any] = {"vectors": model.retrieval.vectors, "popular": model.retrieval.popular}
    arrays["item_order"] = embeddings.catalog.ids.arg_sort().to_numpy().astype(np.int32)
    arrays |= history_arrays(histories)
    for name, fitted in model.retrieval.fitted.items():
        arrays |= {f"retrievers/{name}/{key}": array for key, array in fitted.arrays().items()}
    for name, prepared in model.featurizer.prepared.items():
        arrays |= {f"features/{name}/{key}": array for key, array in prepared.items()}
    arrays |= {f"scorer/{key}": array for key, array in model.scorer.arrays().items()}
    if model.calibrator is not None:
        arrays |= {f"calibration/{key}": array for key, array in model.calibrator.arrays().items()}
    encoder = ""
    if embeddings.space is not None:
        encoder = embeddings.space.encoder.fingerprint
        if embeddings.space.whitening is not None:
            arrays |= {f"whitening/{key}": array for key, array in embeddings.space.whitening.arrays().items()}
    tables = {"catalog": embeddings.catalog.frame, "users": pl.DataFrame({"user_id": user_ids})}
    manifest: dict[str, Any] = {"name": config.name, "config": config.model_dump(mode="json"), "encoder": encoder}
    extensions = describe_extensions(config)
    if extensions:
        manifest[KEY] = extensions
    return bundle.publish(root, arrays, tables, {**manifest, **about})


def save_copy(root: Path, loaded: Bundle) -> Path:
    """Publish a loaded bundle, also one with added items, as a new version under another root or its own.

    Returns:
        The folder of the new version.

    Raises:
        ArtifactError: As `bundle.publish`.
    """
    about = loaded.about
    if "counts" in about:
        about["counts"] = about["counts"] | {"items": loaded.tables["catalog"].height}
    return bundle.publish(root, loaded.arrays, loaded.tables, about)
