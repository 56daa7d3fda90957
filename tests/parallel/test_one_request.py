"""One request costs what its candidates cost: nothing of the catalogue's size, whatever it asks for."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from benchmarks.speed import one_user, synthetic
from recsys import Recommender
from recsys.arrays import unit_rows
from recsys.artifacts.persistence import save
from recsys.engine.candidate_scores import CandidateScorer
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.engine.training import assemble_model, query_moments
from recsys.explain.explanation import with_candidate
from recsys.ranking.calibration import Calibrator
from recsys.ranking.scorers.dense import DenseScorer
from recsys.retrieval.index import CachedSearch, Index

ITEMS = 1_000_000  # a byte for each stands out from all that a request needs
USERS = 1_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """A large catalogue of short vectors; nobody taught its scorer and calibrator, which costs a request no less."""
    folder, config = tmp_path_factory.mktemp("large"), one_user.settings()
    known = synthetic.interactions(USERS, ITEMS, 20 * USERS)
    texts = Embeddings(synthetic.vectors(ITEMS, dimensions=4), synthetic.catalog(ITEMS))
    untaught = DenseScorer(np.zeros(1, np.float32), np.ones(1, np.float32), [], [])
    model = assemble_model(Plan.of(config), known, texts, synthetic.end_of(known), untaught)
    histories = known.histories(np.arange(USERS), query_moments(known, synthetic.end_of(known)))
    width = model.featurizer.compute(model.retrieval.context(histories.select(np.arange(1)))).shape[1]
    weight = np.random.default_rng(0).normal(size=(1, width, 1)).astype(np.float32)
    zeros, ones = np.zeros(width, np.float32), np.ones(width, np.float32)
    scorer = DenseScorer(zeros, ones, [weight], [zeros[None, :1]])
    horizon = np.array([28 * synthetic.DAY])
    calibrator = Calibrator(np.r_[-3.0, 1.0, np.zeros(6)], np.ones(6), np.zeros(1), np.zeros(1), horizon)
    model = replace(model, scorer=scorer, calibrator=calibrator)
    save(folder, config, model, texts, pl.Series("user_id", range(USERS)), histories, {"counts": {"items": ITEMS}})
    return Recommender.load(folder)


@pytest.mark.parametrize("kind", one_user.KINDS)
def test_nothing_of_the_catalogues_size_is_allocated(large: Recommender, kind: str) -> None:
    rng = np.random.default_rng(0)
    request = one_user.requests_of(large.catalog)[kind]
    large.recommend(0, **request(rng))  # what is kept between requests, such as what a filter allows
    asked = request(rng)
    tracemalloc.start()
    try:
        answer = large.recommend(1, **asked)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(answer.items) == 10
    assert peak < ITEMS


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "HNSW8"])
@pytest.mark.parametrize("depths", [(40, 300), (300, 40), (40, 41)])
def test_what_was_searched_deeper_holds_what_is_searched_again(factory: str, depths: tuple[int, int]) -> None:
    vectors = unit_rows(np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32))
    index, queries = Index.build(vectors, factory, "nprobe=2" if factory.startswith("IVF") else ""), vectors[:3]
    searched = CachedSearch(index, queries)
    for k in depths:
        for asked in (queries, queries[1:2]):
            for found, alone in zip(searched.search(asked, k), index.search(asked, k), strict=True):
                np.testing.assert_array_equal(found, alone)


def test_of_equals_at_the_edge_a_list_with_and_without_a_filter_see_the_same() -> None:
    """FAISS may choose others of them at each depth, and a probability must not hang on that."""
    index = Index.build(np.repeat(np.eye(4, dtype=np.float32), 200, axis=0))
    searched = CachedSearch(index, np.eye(4, dtype=np.float32)[:1])
    for k in (50, 100, 180):
        deeper, _ = searched.search(np.eye(4, dtype=np.float32)[:1], 250)
        np.testing.assert_array_equal(searched.search(np.eye(4, dtype=np.float32)[:1], k)[0], deeper[:, :k])


def test_an_item_that_nobody_proposed_scores_as_if_it_alone_had_joined(large: Recommender) -> None:
    model = large._model
    for user in range(5):
        context = model.retrieval.context(large._lookup.histories(np.array([user])))
        items = np.random.default_rng(user).integers(ITEMS, size=20)
        items = np.concatenate([items, items[:3], context.item[:4]])
        alone = [with_candidate(context, int(item)) for item in items]
        right = [model.score(one)[one.item == item][0] for one, item in zip(alone, items, strict=True)]
        score = CandidateScorer.of(model, context).score(np.zeros(len(items), dtype=np.int64), items)
        np.testing.assert_allclose(score, right, rtol=1e-4, atol=1e-4)
