"""Item vectors for a vector database: the nearest items of pgvector are ours."""

from __future__ import annotations

import json
from pathlib import Path

import database
import numpy as np
import polars as pl
import pytest
from servers import Postgres
from shops import Shop, recsys_process

from recsys import Recommender
from recsys.artifacts.bundle import load
from recsys.errors import ArtifactError
from recsys.jobs.vectors import write_vectors


@pytest.fixture(scope="module")
def folder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vectors") / "out"
    assert write_vectors(load(shop.folder), out) == 344
    return out


def test_nearest_items_of_pgvector_are_ours(folder: Path, postgres: Postgres, recommender: Recommender) -> None:
    items = pl.read_parquet(folder / "items.parquet")
    database.ask(postgres.url, "CREATE EXTENSION IF NOT EXISTS vector")
    as_text = pl.col("vector").cast(pl.List(pl.String)).list.join(",")
    database.fill(postgres.url, {"vectors": items.select("item_id", vector="[" + as_text + "]")})
    width = items["vector"].dtype.shape[0]  # type: ignore[attr-defined]
    database.ask(postgres.url, f"ALTER TABLE vectors ALTER vector TYPE vector({width}) USING vector::vector({width})")
    for item in ("i000", "i077", "i343"):
        ours = recommender.similar_items(item, 10)
        theirs = database.ask(
            postgres.url,
            f"SELECT item_id, -(vector <#> (SELECT vector FROM vectors WHERE item_id = '{item}'))::float4 FROM vectors "
            f"WHERE item_id <> '{item}' ORDER BY 2 DESC LIMIT 10",
        )
        np.testing.assert_allclose([score for _, score in theirs], ours["score"], atol=1e-5)
        # Items of one score may stand in any order.
        wanted = dict(zip(ours["item_id"], ours["score"], strict=True))
        last = min(wanted.values()) + 1e-5
        assert {name for name, score in theirs if score > last} == {n for n, score in wanted.items() if score > last}


def test_a_new_text_gets_its_vector_from_the_files(folder: Path, recommender: Recommender) -> None:
    whitening = pl.read_parquet(folder / "whitening.parquet")
    mean, projection = whitening["mean"].to_numpy(), whitening["projection"].to_numpy()
    text = "a lantern for the tent"
    _, output = next(recommender._encoder.space.encoder.encode_batches([text]))
    made = (output[0] - mean) @ projection
    made /= np.linalg.norm(made)
    items = pl.read_parquet(folder / "items.parquet")
    scores = items["vector"].to_numpy() @ made
    found = recommender.search(text, 5)
    np.testing.assert_allclose(np.sort(scores)[::-1][:5], found["score"], atol=1e-5)


def test_metadata_and_command(folder: Path, shop: Shop, tmp_path: Path, recommender: Recommender) -> None:
    about = pl.read_parquet_metadata(folder / "items.parquet")
    assert about["model_version"] == recommender.version
    assert about["encoder"] == recommender.manifest["encoder"]
    ran = recsys_process(["vectors", "--out", str(tmp_path / "v"), "--bundle", str(shop.folder), "--json"])
    assert json.loads(ran.stdout) == {"folder": str(tmp_path / "v"), "model_version": recommender.version,
                                      "items": 344, "dimension": 32}  # fmt: skip
    assert pl.read_parquet(tmp_path / "v" / "items.parquet").equals(pl.read_parquet(folder / "items.parquet"))


def test_what_cannot_be_written(shop: Shop, tmp_path: Path, version: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"could not write vectors to .*out"):
        write_vectors(load(shop.folder), tmp_path / "out")
    bundle = load(shop.folder)
    bare = type(bundle)(bundle.path, {**bundle.manifest, "encoder": ""}, bundle.arrays, bundle.tables, bundle.extents)
    with pytest.raises(ArtifactError, match="holds no text vectors: no member of its config needs them"):
        write_vectors(bare, tmp_path / "v")
