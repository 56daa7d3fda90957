"""The index against exact search: recall, compression, and what it refuses."""

from dataclasses import replace

import faiss
import numpy as np
import pytest
from worlds import (
    asks,
    lists_of,
    log_of,
    random_vectors,
    state_of,
)

from recsys.arrays import unit_rows
from recsys.errors import ArtifactError, ConfigError
from recsys.ragged import owners_of
from recsys.retrieval.index import Index
from recsys.retrieval.index_spec import IndexSpec, auto_factory, synthetic_queries
from recsys.retrieval.semantic import Semantic
from recsys.retrieval.tower import Tower

POINTS = random_vectors(1500, 16, seed=3)
HNSW, IVF = ("HNSW32", "efSearch=256"), ("IVF16,Flat", "nprobe=8")


def exact(queries, k):
    return np.argsort(-(queries @ POINTS.T), axis=1, kind="stable")[:, :k]


def overlap(rows, truth):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(rows.tolist(), truth.tolist(), strict=True)])


QUERIES = synthetic_queries(POINTS)


def test_flat_is_exact():
    queries = random_vectors(50, 16, seed=4)
    index = Index.build(POINTS)
    rows, found = index.search(queries, 20)
    np.testing.assert_array_equal(rows, exact(queries, 20))
    np.testing.assert_allclose(found, np.take_along_axis(queries @ POINTS.T, rows, 1), atol=1e-6)
    assert index.exact
    assert index.recall(queries) == 1.0
    assert index.search(queries, 9999)[0].shape == (50, 1500)


@pytest.mark.parametrize(("factory", "search"), [HNSW, IVF, ("IVF16,PQ8x4fs", "nprobe=4")])
def test_an_approximate_index_knows_its_recall_and_gives_exact_scores(factory, search):
    index = Index.build(POINTS, factory, search)
    rows, found = index.search(QUERIES, 100)
    assert not index.exact
    assert index.recall(QUERIES) == pytest.approx(overlap(rows, exact(QUERIES, 100)), abs=0.002)
    assert index.recall(QUERIES) > 0.5
    products = np.take_along_axis(QUERIES @ POINTS.T, rows, 1)
    np.testing.assert_allclose(found[rows >= 0], products[rows >= 0], atol=1e-6)
    assert (np.diff(found, axis=1) <= 0).all()


def test_of_equally_good_neighbours_any_counts():
    thrice = np.concatenate([POINTS, POINTS, POINTS])
    assert Index.build(thrice, "IVF16,Flat", "nprobe=16").recall(QUERIES) == 1.0


def test_a_wider_search_finds_more():
    recalls = [Index.build(POINTS, "IVF16,Flat", f"nprobe={n}").recall(QUERIES) for n in (1, 4, 16)]
    assert recalls[0] < recalls[1] < recalls[2] == 1.0


def test_nprobe_scales_with_k():
    index = Index.build(POINTS, "IVF64,Flat", "nprobe=16")
    assert index.recall(QUERIES, 1000) > index.recall(QUERIES) - 0.02
    assert (index.search(QUERIES, 1000)[0] >= 0).all(), "a quarter of the lists holds fewer items"


@pytest.mark.parametrize(("factory", "search"), [HNSW, IVF, ("IVF16,PQ8x4fs", "nprobe=4")])
def test_an_index_survives_its_bytes_with_its_search_settings(factory, search):
    index = Index.build(POINTS, factory, search)
    data = index.to_bytes()
    data.setflags(write=False)
    restored = Index.from_bytes(data, POINTS)
    assert restored.search_params == index.search_params == search
    for one, other in zip(index.search(POINTS[:40], 30), restored.search(POINTS[:40], 30), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_faiss_does_not_know_is_a_config_error():
    message = "index 'Flatt' is not a FAISS factory string; try auto, Flat, HNSW32 or IVF256"
    with pytest.raises(ConfigError, match=message):
        Index.build(POINTS, "Flatt")
    for factory, search in (("HNSW32", "nprobe=3"), ("IVF16,Flat", "nonsense")):
        message = f"search '{search}' does not fit index '{factory}'; try nprobe=32 or efSearch=256"
        with pytest.raises(ConfigError, match=message):
            Index.build(POINTS, factory, search)


def test_an_index_below_its_floor_is_refused_with_the_numbers():
    state = state_of(log_of([(0, 0, 0)]), 1500, vectors=POINTS)
    poor = Semantic(index="IVF16,Flat", search="nprobe=1", floor=0.9)
    finds = Index.build(POINTS, "IVF16,Flat", "nprobe=1").recall(poor.index_tuning_queries(state))
    message = f"index 'IVF16,Flat' finds {finds:.3f} of the true 100 nearest items, below the floor of 0.9: .*nprobe=64"
    with pytest.raises(ArtifactError, match=message):
        poor.fit(state)
    assert replace(poor, floor=finds - 0.01).fit(state).index is not None
    assert replace(poor, search="nprobe=16", floor=1.0).fit(state).index is not None


def test_an_index_is_measured_with_known_histories_and_synthetic_queries_where_these_are_few():
    log = log_of([(0, 3, 0), (0, 4, 1), (2, 5, 0)])
    queries = Semantic(decay=0.5).index_tuning_queries(state_of(log, 1500, vectors=POINTS))
    np.testing.assert_allclose(queries[:2], unit_rows(np.stack([0.5 * POINTS[3] + POINTS[4], POINTS[5]])), atol=1e-6)
    np.testing.assert_array_equal(queries[2:], synthetic_queries(POINTS, 498))
    many = log_of([(user, user, 0) for user in range(1200)])
    assert len(Semantic().index_tuning_queries(state_of(many, 1500, vectors=POINTS))) == 500


def test_an_inverted_file_searches_as_widely_as_the_floor_needs():
    reached = [IndexSpec(POINTS, QUERIES, "IVF64,Flat", floor=floor).build() for floor in (0.3, 0.7, 0.98, 1.0)]
    for index, floor in zip(reached, (0.3, 0.7, 0.98, 1.0), strict=True):
        assert index.measured_recall == index.recall(QUERIES) >= floor
        lists = int(index.search_params.removeprefix("nprobe="))
        if lists > 1:
            assert Index.build(POINTS, "IVF64,Flat", f"nprobe={lists // 2}").recall(QUERIES) < floor
    assert len({index.search_params for index in reached}) > 2


def test_auto_is_exact_while_that_is_quick_and_meets_the_floor_above(monkeypatch):
    assert IndexSpec(POINTS, QUERIES).build().exact
    rng = np.random.default_rng(5)
    centres = random_vectors(40, 32, seed=6)
    vectors = unit_rows(centres[rng.integers(40, size=6000)] + 0.1 * rng.standard_normal((6000, 32), np.float32))
    queries = synthetic_queries(vectors)
    monkeypatch.setattr("recsys.retrieval.index_spec.MAX_EXACT_NUMBERS", 100_000)
    index = IndexSpec(vectors, queries).build()
    assert not index.exact
    assert index.factory == "IVF64,PQ32x4fs"
    assert index.measured_recall == index.recall(queries) >= 0.98
    np.testing.assert_array_equal(index.to_bytes(), IndexSpec(vectors, queries).build().to_bytes())


def test_auto_that_cannot_reach_the_floor_is_exact_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr("recsys.retrieval.index_spec.MAX_EXACT_NUMBERS", 0)
    monkeypatch.setattr("recsys.retrieval.index.RERANK_FACTOR", 1)
    index = IndexSpec(POINTS, QUERIES, floor=0.999).build()
    assert index.exact
    assert "auto: IVF32,PQ16x4fs finds 0." in caplog.text


@pytest.mark.parametrize(("width", "codes"), [(16, 16), (129, 129), (384, 192), (385, 385)])
def test_codes_divide_the_width(width, codes):
    assert auto_factory((1_000_000, width)) == f"IVF1024,PQ{codes}x4fs"


def test_the_tower_searches_its_own_index(monkeypatch):
    monkeypatch.setattr("recsys.retrieval.index_spec.MAX_EXACT_NUMBERS", 0)
    rng = np.random.default_rng(0)
    log = log_of([(user, int(item), step) for user in range(60) for step, item in enumerate(rng.integers(400, size=8))])
    state = state_of(log, 400, vectors=random_vectors(400, 16))
    retriever = Tower(width=8, epochs=1, depth=20, floor=0.9)
    fitted = retriever.fit(state)
    assert not fitted.index.exact
    assert fitted.index.measured_recall >= 0.9
    restored = retriever.restore(fitted.arrays(), state.vectors)
    assert "index" not in restored.weights
    histories = asks([[5, 7], [8]])
    for one, other in zip(
        lists_of(fitted.ask(histories).top(20)), lists_of(restored.ask(histories).top(20)), strict=True
    ):
        assert one == other
    grown = retriever.grow(fitted.arrays(), state_of(log, 410, vectors=random_vectors(410, 16)))
    assert len(retriever.restore(grown, random_vectors(410, 16)).index.vectors) == 410


@pytest.mark.parametrize(("factory", "search"), [HNSW, ("IVF16,Flat", "nprobe=1")])
def test_padding_of_an_approximate_index_is_never_shown(factory, search):
    state = state_of(log_of([(0, 0, 0)]), 1500, vectors=POINTS)
    retriever = Semantic(index=factory, search=search, floor=0)
    fitted = retriever.fit(state)
    histories = asks([[5], [], [7, 8, 900], [1499]])
    rows, found = fitted.index.search(POINTS[:4], 1400)
    assert (found[rows < 0] == -np.inf).all()
    answer = fitted.ask(histories)
    hits = answer.top(1400)
    assert (hits.item >= 0).all()
    assert np.isfinite(hits.score).all()
    assert all(len(items) == len(set(items)) for items in lists_of(hits))
    np.testing.assert_allclose(answer.score(owners_of(hits.offsets), hits.item), hits.score, atol=1e-5)
    if factory != "HNSW32":
        assert 0 < np.diff(hits.offsets)[0] < 1400, "the world does make FAISS pad"
    again = retriever.restore(fitted.arrays(), POINTS).ask(histories).top(1400)
    np.testing.assert_array_equal(hits.item, again.item)


def test_bytes_that_are_no_index_of_these_vectors_are_refused():
    data = Index.build(POINTS, "IVF16,Flat").to_bytes()
    with pytest.raises(ArtifactError, match=r"the index is one of 1500 x 16 numbers, the vectors are \(1499, 16\)"):
        Index.from_bytes(data, POINTS[:-1])
    with pytest.raises(ArtifactError, match=r"the index is none that FAISS reads: .*; train again"):
        Index.from_bytes(data[:40], POINTS)
    with pytest.raises(ArtifactError, match=r"the index is none that FAISS reads: .*; train again"):
        Index.extend(data[:40], POINTS, "IVF16,Flat")
    damaged = faiss.deserialize_index(data)
    damaged.nprobe = 17
    with pytest.raises(ArtifactError, match="the index looks into 17 of 16 lists: it is damaged; train again"):
        Index.from_bytes(faiss.serialize_index(damaged), POINTS)


def test_an_index_that_names_a_row_beyond_the_vectors_is_refused():
    index = Index(POINTS[:100], faiss.deserialize_index(Index.build(POINTS, "HNSW32").to_bytes()), "HNSW32")
    with pytest.raises(ArtifactError, match=r"the index names row 1\d+ of 100: it is damaged; train again"):
        index.search(POINTS[1400:], 5)


def test_an_extended_index_finds_the_vectors_that_were_added_and_is_held_to_its_floor():
    data = Index.build(POINTS[:1400], "IVF16,Flat", "nprobe=16").to_bytes()
    index = IndexSpec(POINTS, QUERIES, "IVF16,Flat").extend(data)
    assert index.search(POINTS[1400:], 1)[0][:, 0].tolist() == list(range(1400, 1500))
    assert index.measured_recall == 1.0
    with pytest.raises(ArtifactError, match=r"index 'IVF16,Flat' finds 1\.000 of the true 100 .* the floor of 1\.01"):
        IndexSpec(POINTS, QUERIES, "IVF16,Flat", floor=1.01).extend(data)
