"""Bundles that mean harm, or come from a bug: every checksum is right, what they say is not. None gives an answer."""

from __future__ import annotations

import pickle
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from publications import forge
from shops import Shop, write_shop_config
from tampering import Change, Trap, change, put, refresh_checksums, refused

from recsys import Recommender, train
from recsys.config import load_config
from recsys.errors import RecsysError
from recsys.retrieval.registry import RETRIEVERS


@pytest.fixture
def version(shop: Shop, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop.version, tmp_path / "version"))


def test_a_bundle_with_fresh_checksums_is_still_one(version: Path, shop: Shop) -> None:
    names = [str(path.relative_to(version)) for path in version.rglob("*.npy")]
    refresh_checksums(version, *names, "catalog.parquet", "users.parquet")
    user = "u029"
    assert Recommender.load(version).recommend(user) == Recommender.load(shop.version).recommend(user)


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "how", "told"),
    [
        ("vectors", lambda a: a[:-1], r"vectors is float32 \(343, 32\), and should be float32 \(344, any\)"),
        ("vectors", lambda a: a.astype(np.float64), r"vectors is float64 \(344, 32\), and should be float32"),
        ("vectors", lambda a: a[:, 0], r"vectors is float32 \(344,\), and should be float32 \(344, any\)"),
        ("vectors", put((7, 7), NAN), "vectors holds values that are not finite"),
        ("popular", put(3, 344), "popular names rows 0 to 344 of a catalogue of 344"),
        ("popular", put(3, -1), "popular names rows -1 to 343 of a catalogue of 344"),
        ("popular", lambda a: a[:9], r"popular is int32 \(9,\), and should be int32 \(344\)"),
        ("popular", np.zeros_like, "popular holds an item twice"),
        ("item_order", lambda a: a[::-1], "item_order is not the ascending order of item_id, or item_id holds"),
        ("item_order", put(5, 344), "item_order names rows 0 to 344 of a catalogue of 344"),
        ("item_order", lambda a: a[:9], r"item_order is int32 \(9,\), and should be int32 \(344\)"),
        ("histories/item", put(5, 344), "histories/item names rows 0 to 344 of"),
        ("histories/item", put(5, -344), "histories/item names rows -344 to "),
        ("histories/item", lambda a: a.astype(np.int64), "histories/item is int64 .* and should be int32"),
        ("histories/offsets", put(5, 99_999), "histories/offsets goes backwards"),
        ("histories/offsets", put(0, -5), "histories/offsets goes from -5 to 9782, and should from 0 to 9782"),
        ("histories/offsets", put(-1, 9783), "histories/offsets goes from 0 to 9783, and should from 0 to 9782"),
        (
            "histories/offsets",
            lambda a: a[:-1],
            r"histories/offsets is int64 \(600,\), and should be integers \(601,\)",
        ),
        ("histories/offsets", lambda a: a.astype(np.float64), "histories/offsets is float64"),
        ("histories/time", lambda a: a + 10**15, "histories/time holds 9782 events at or after their user's as_of"),
        ("histories/weight", put(0, np.inf), "histories/weight holds values that are not finite"),
        ("histories/as_of", lambda a: a[:-1], r"histories/as_of is int64 \(599,\), and should be int64 \(600\)"),
        ("retrievers/covisitation/indices", put(0, 10**6), "retrievers/covisitation/indices names rows 0 to 1000000"),
        ("retrievers/covisitation/indices", put(0, -1), "retrievers/covisitation/indices names rows -1 to "),
        (
            "retrievers/covisitation/indices",
            lambda a: a.astype(np.float32),
            "indices holds float32, and should hold int",
        ),
        ("retrievers/covisitation/indptr", put(3, 10**8), "retrievers/covisitation/indptr goes backwards"),
        (
            "retrievers/covisitation/indptr",
            lambda a: a[:-1],
            r"indptr is int\d+ \(344,\), and should be integers \(345",
        ),
        ("retrievers/covisitation/data", put(0, NAN), "retrievers/covisitation/data holds values that are not finite"),
        ("retrievers/covisitation/data", lambda a: a[:-1], "retrievers/covisitation/data is float32"),
        ("retrievers/popularity/count", lambda a: a[:-1], r"popularity/count is float32 \(343,\), and should be"),
        ("features/log_popularity/count", lambda a: a[:5], r"log_popularity/count is float32 \(5,\), and should be"),
        ("scorer/scale", put(0, 0), "scorer/scale holds values that are not above 0"),
        ("scorer/scale", lambda a: a[:-1], r"scorer/scale is float32 \(\d+,\), and should be float32 \(\d+\)"),
        ("scorer/weight0", put((0, 0, 0), np.inf), "scorer/weight0 holds values that are not finite"),
        (
            "scorer/weight0",
            lambda a: a[:, :-1],
            r"scorer/weight0 is float32 \(1, \d+, 1\), and should be float32 \(any",
        ),
        (
            "scorer/weight0",
            lambda a: a.repeat(2, axis=2),
            r"scorer/bias0 is float32 \(1, 1\), and should be .* \(1, 2\)",
        ),
        ("scorer/weight0", lambda a: a[:0], r"scorer/bias0 is float32 \(1, 1\), and should be float32 \(0, 1\)"),
        (
            "whitening/mean",
            lambda a: a[:-1],
            r"whitening/projection is float32 \(32, 32\), and should be .* \(31, 32\)",
        ),
    ],
)
def test_what_does_not_fit_together(version: Path, name: str, how: Change, told: str) -> None:
    change(version, name, how)
    text = refused(version)
    assert re.search(told, text), text
    assert text.startswith(f"bundle {version} does not fit together: ")
    assert text.endswith("; train again")


def test_a_scorer_of_other_features(version: Path) -> None:
    """Each layer fits the next, but not the features: nothing but an answer shows it."""
    for name in ("mean", "scale"):
        change(version, f"scorer/{name}", lambda a: np.append(a, a[:1]))
    change(version, "scorer/weight0", lambda a: np.concatenate([a, a[:, :1]], axis=1))
    assert "lacks a part (ValueError('operands could not be broadcast" in refused(version)


def test_scores_that_overflow(version: Path) -> None:
    change(version, "scorer/weight0", lambda a: np.full_like(a, 3e38))
    with np.errstate(all="ignore"):
        text = refused(version)
    assert re.search(
        r"was tried out on 4 users and gave 10 of 10 items to one without history, and \d+ of 40 scores", text
    )


@pytest.mark.parametrize(
    ("table", "how", "told"),
    [
        ("users", lambda t: t.reverse(), "user_id is not in ascending order"),
        (
            "users",
            lambda t: t.with_columns(user_id=pl.lit("u1")),
            "user_id is not in ascending order, or holds an id twice",
        ),
        ("users", lambda t: t.with_columns(user_id=pl.lit(1.5)), "user_id has the type Float64"),
        ("users", lambda t: t.head(5), "should be int64 (5)"),
        ("catalog", lambda t: t.with_columns(item_id=pl.lit("i1")), "or item_id holds an id twice"),
        ("catalog", lambda t: t.head(5), "vectors is float32 (344, 32), and should be float32 (5, any)"),
        ("catalog", lambda t: t.reverse(), "item_order is not the ascending order of item_id"),
        ("catalog", lambda t: t.with_columns(item_id=pl.lit(None, pl.String)), "item_id holds a row without an id"),
    ],
)
def test_tables_that_do_not_fit(
    version: Path, table: str, how: Callable[[pl.DataFrame], pl.DataFrame], told: str
) -> None:
    path = version / f"{table}.parquet"
    how(pl.read_parquet(path)).write_parquet(path)
    refresh_checksums(version, path.name)
    assert told in refused(version)


def test_text_vectors_of_other_users(shop: Shop, version: Path) -> None:
    np.save(version / "histories" / "text_vectors.npy", np.zeros((599, 32), np.float32))
    refresh_checksums(version, "histories/text_vectors.npy")
    assert "histories/text_vectors is float32 (599, 32), and should be float32 (600, 32)" in refused(version)


# Every retriever's own arrays


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A bundle with every retriever, one with an approximate index, and a network as scorer."""
    folder = tmp_path_factory.mktemp("every")
    members: dict[str, dict[str, Any]] = {name: {} for name in RETRIEVERS}
    members["semantic"] = {"depth": 60}
    members["tower"] = {"width": 8, "epochs": 1}
    members["near"] = {"kind": "semantic", "depth": 60, "index": "HNSW16", "search": "efSearch=256"}
    scorer = {"kind": "mlp", "hidden": [8], "epochs": 1}
    return train(load_config(write_shop_config(folder, tiny_model, retrievers=members, scorer=scorer)))


@pytest.mark.parametrize(
    ("name", "how", "told"),
    [
        ("retrievers/tower/items", lambda a: a[:-1], "retrievers/tower/items is float32"),
        ("retrievers/tower/position", lambda a: a[:, :-1], "retrievers/tower/position is float32"),
        ("retrievers/tower/attend.weight", lambda a: a[:-1], "lacks a part (ValueError"),
        ("retrievers/near/index", lambda a: a[:-1], "the index is none that FAISS reads"),
        ("retrievers/near/index", lambda a: a[:0], "the index is none that FAISS reads"),
        ("retrievers/near/index", lambda a: a.astype(np.int32), "retrievers/near/index is int32"),
        ("scorer/weight1", lambda a: a[:, :-1], "scorer/weight1 is float32"),
        ("scorer/weight1", lambda a: a.repeat(2, axis=2), "scorer/bias1 is float32"),
    ],
)
def test_arrays_of_every_retriever(every: Path, tmp_path: Path, name: str, how: Change, told: str) -> None:
    version = Path(shutil.copytree(every, tmp_path / "version"))
    Recommender.load(version)
    change(version, name, how)
    assert told in refused(version)


def test_the_index_of_another_catalogue(every: Path, tmp_path: Path) -> None:
    import faiss

    version = Path(shutil.copytree(every, tmp_path / "version"))
    for rows, width in ((343, 32), (344, 31)):
        index = faiss.IndexHNSWFlat(width, 16, faiss.METRIC_INNER_PRODUCT)
        index.add(np.zeros((rows, width), np.float32))
        change(version, "retrievers/near/index", lambda a, index=index: faiss.serialize_index(index))
        assert f"the index is one of {rows} x {width} numbers, the vectors are (344, 32)" in refused(version)
    forge(version, lambda manifest: manifest["files"].pop("retrievers/near/index.npy"))
    assert "lacks a part (KeyError('index'))" in refused(version)  # and none is built from the config's words


def test_an_index_that_names_rows_it_does_not_have(every: Path, tmp_path: Path) -> None:
    import faiss

    version = Path(shutil.copytree(every, tmp_path / "version"))
    vectors = np.load(version / "vectors.npy")
    index = faiss.index_factory(32, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(344) + 7)
    change(version, "retrievers/near/index", lambda a: faiss.serialize_index(index))
    assert re.search(r"the index names row 3\d\d of 344: it is damaged; train again", refused(version))


# Nothing runs, nothing is fetched


def test_loading_fetches_nothing_and_runs_nothing(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config may name any encoder. Loading does not look; searching unpickles nothing and runs none of its code."""

    def no_network(*args: object) -> None:
        raise AssertionError(f"a bundle made this process connect: {args}")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    mark, model = tmp_path / "mark", tmp_path / "model"
    model.mkdir()
    forge(version, lambda manifest: manifest["config"]["embedding"].update(model=str(model)))
    loaded = Recommender.load(version)
    assert loaded.recommend("u029").items
    (model / "config.json").write_text(
        '{"model_type": "evil", "hidden_size": 32, "auto_map": {"AutoModel": "evil.Evil"}}'
    )
    (model / "vocab.txt").write_text("[PAD]")
    (model / "evil.py").write_text(f"open({str(mark)!r}, 'w')")
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(RecsysError, match="nothing is unpickled here"):
        Recommender.load(version).search("tea")
    (model / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(RecsysError, match="they must not mix"):
        Recommender.load(version).search("tea")
    fingerprint = _fingerprint(version)
    forge(version, lambda manifest: manifest.update(encoder=fingerprint))
    with pytest.raises(RecsysError, match="cannot be loaded"):
        Recommender.load(version).search("tea")
    assert not mark.exists()


def _fingerprint(version: Path) -> str:
    from recsys.embedding.registry import load_encoder

    return load_encoder(Recommender.load(version).config.embedding).fingerprint
