"""The learned rivals of the quality benchmark: SASRec, and the engine with every scorer."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from tiny_bert import MAX_TOKENS
from worlds import asks, catalog_of, log_of, random_vectors

from benchmarks.quality import engine_models
from benchmarks.quality.models import RIVALS
from benchmarks.quality.protocols import Task
from benchmarks.quality.sasrec import SASRec, full_softmax
from recsys.config import parse_config
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.engine.training import fit
from recsys.errors import ConfigError
from recsys.tables.split import holdout
from recsys.types import Tables

RING = 20
SMALL = {"hidden": 32, "dropout": 0.0, "learning_rate": 0.005, "batch_events": 256, "epochs": 40}


def task_of(rows, n_items, seen="keep", **changes) -> Task:
    """A task of these (user, item, time) events, retrieved by what follows and by popularity."""
    raw = {
        "name": "world",
        "data": {"catalog": {"path": "items"}, "interactions": {"path": "events"}, "clock": "order"},
        "split": {"kind": "leave_last_out"},
        "retrievers": {"covisitation": {"depth": 8, "window": 3}, "popularity": {"depth": 4}},
        "features": ["scores", "ranks", "log_popularity", "history_length"],
        "scorer": {"kind": "mlp", "hidden": [8], "epochs": 10},
        "rules": {"seen": seen},
    }
    log = log_of(rows)
    tables = Tables(catalog_of(n_items), log, pl.Series([f"u{u}" for u in range(log.n_users)]), "order")
    return Task("world", parse_config(raw | changes), Embeddings(random_vectors(n_items), tables.catalog), tables)


def ring_task(n_users=200, longest=8, seen="drop", n_items=RING, **changes) -> Task:
    """Each user walks the ring of items, from a start and for a while of their own: the next follows from the last."""
    rng = np.random.default_rng(0)
    starts, steps = rng.integers(RING, size=n_users), rng.integers(3, longest + 1, size=n_users)
    rows = [(user, int(starts[user] + step) % RING, step) for user in range(n_users) for step in range(steps[user])]
    return task_of(rows, n_items, seen, **changes)


def first_cut(task):
    return holdout(task.tables.interactions, task.config.split)


def test_sasrec_learns_the_ring_exactly():
    task = ring_task(longest=RING + 5, seen="keep")
    fitted = SASRec(**SMALL).fit(task, first_cut(task), 0)
    walks = asks([[(start + step) % RING for step in range(steps)] for start in range(RING) for steps in (1, 4, 23)])
    after = [(walk + 1) % RING for walk in walks.item[walks.offsets[1:] - 1]]
    assert fitted.score(walks).argmax(axis=1).tolist() == after


@pytest.fixture(scope="module")
def brief_sasrec():
    """Two epochs on a catalogue of which five items, the last ones, have no event."""
    task = ring_task(n_users=40, n_items=RING + 5)
    return SASRec(**SMALL | {"epochs": 2, "length": 4}).fit(task, first_cut(task), 0)


def test_sasrec_ignores_padding_and_the_other_queries(brief_sasrec):
    lists = [[3], [1, 2, 3, 4], [], [7, 7], [0, 5, 9]]
    together = brief_sasrec.score(asks(lists))
    for row, one in enumerate(lists):
        np.testing.assert_allclose(brief_sasrec.score(asks([one]))[0], together[row], atol=1e-5)


def test_sasrec_never_recommends_items_without_events_and_gives_strangers_popular_ones(brief_sasrec):
    task = ring_task(n_users=40, n_items=RING + 5)
    counts = np.bincount(first_cut(task).known.item, minlength=RING + 5)
    of_stranger, of_one, of_unknown = brief_sasrec.score(asks([[], [3], [RING + 1]]))
    assert np.flatnonzero(np.isfinite(of_one)).tolist() == list(range(RING))
    np.testing.assert_allclose(np.exp(of_stranger), counts, rtol=1e-5)
    assert (of_unknown == of_stranger).all()


def test_sasrec_looks_at_the_newest_events_only(brief_sasrec):
    newest = [4, 5, 6, 7]
    np.testing.assert_allclose(*brief_sasrec.score(asks([newest, [12, 1, *newest]])), atol=1e-5)


def test_sasrec_knows_the_most_frequent_items_and_leaves_out_the_rest():
    rows = [(user, item, time) for user in range(20) for time, item in enumerate((0, user % 2 + 3, 1, 2))]
    task = task_of(rows, 5)
    fitted = SASRec(**SMALL | {"epochs": 2, "vocabulary": 2}).fit(task, first_cut(task), 0)
    rare, without = fitted.score(asks([[0, 3, 1], [0, 1]]))
    assert np.flatnonzero(np.isfinite(rare)).tolist() == [0, 1]
    np.testing.assert_allclose(rare, without, atol=1e-5)


@pytest.mark.parametrize(("seen", "likely"), [("keep", 0), ("drop", 1)])
def test_sasrec_learns_only_targets_that_may_be_shown(seen, likely):
    rows = [(user, 0 if time < 9 else 1, time) for user in range(30) for time in range(10)]
    rows += [(user, 2, 10) for user in range(30)]  # held out by the cut
    task = task_of(rows, 3, seen)
    score = SASRec(**SMALL | {"epochs": 6}).fit(task, first_cut(task), 0).score(asks([[0, 0, 0]]))[0]
    assert score[:2].argmax() == likely


def test_sasrec_is_decided_by_its_seed():
    task = ring_task(n_users=30)
    one, same, other = (
        SASRec(**SMALL | {"epochs": 1}).fit(task, first_cut(task), seed).score(asks([[1, 2]])) for seed in (3, 3, 4)
    )
    assert (one == same).all()
    assert (one != other).any()


def test_the_softmax_in_pieces_is_the_cross_entropy():
    torch.manual_seed(0)
    states, table = torch.randn(600, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    target = torch.randint(0, 50, (600,))
    own = full_softmax(states, table, target)
    own_of = torch.autograd.grad(own, (states, table))
    truth = torch.nn.functional.cross_entropy(states @ table.T, target)
    true_of = torch.autograd.grad(truth, (states, table))
    assert own.item() == pytest.approx(truth.item(), rel=0.01)  # bfloat16 where the processor has it
    for mine, true in zip(own_of, true_of, strict=True):
        assert (mine - true).norm() < 0.02 * true.norm()


MODELS = {
    "mlp": engine_models.Engine(),
    "logistic": engine_models.Logistic({"c": 0.5}),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_engine_ranks_as_the_library_does(name):
    task, rival = ring_task(seed=5), MODELS[name]
    fold = first_cut(task)
    scorer = rival.config(task).scorer | dict(rival.scorer)
    config = task.config.model_copy(update={"scorer": scorer})
    model = fit(Plan.of(config), fold.known, task.embeddings, fold.as_of)
    histories = fold.histories(np.arange(50))
    ranking, score = model.rank(histories, 5), rival.fit(task, fold, 5).score(histories)
    proposed = (ranking.found >= 0).any(axis=1)
    own = np.argsort(-score, axis=1, kind="stable")[:, :5]
    assert proposed.any()
    assert (own.ravel()[proposed] == ranking.item[proposed]).all()
    np.testing.assert_allclose(np.take_along_axis(score, own, 1).ravel()[proposed], ranking.score[proposed], rtol=1e-5)


def test_what_is_no_candidate_is_never_recommended():
    task = ring_task(retrievers={"covisitation": {"depth": 3, "window": 1, "backward": 0}}, features=["scores"])
    fold = first_cut(task)
    score = engine_models.Logistic().fit(task, fold, 0).score(asks([[4], []]))
    assert np.flatnonzero(np.isfinite(score[0])).tolist() == [5]
    assert np.isneginf(score[1]).all()


def test_only_the_scorer_is_fitted_again_for_another_setting_of_it(monkeypatch):
    task, fitted = ring_task(n_users=40), []
    fold = first_cut(task)
    usual = engine_models.fit_retrieval
    monkeypatch.setattr(engine_models, "fit_retrieval", lambda *args: fitted.append(args) or usual(*args))
    engine_models.Engine().fit(task, fold, 0)
    engine_models.Engine({"hidden": [4]}).fit(task, fold, 0)
    assert len(fitted) == 1
    engine_models.Engine({"negatives": 3}).fit(task, fold, 0)
    engine_models.Engine({"negatives": 3}).fit(task, fold, 1)
    assert len(fitted) == 2
    engine_models.Engine({"negatives": 3}).fit(task, holdout(fold.known, task.config.split), 0)
    assert len(fitted) == 3


def test_lightgbm_beats_chance_in_the_ring():
    pytest.importorskip("lightgbm")
    task = ring_task()
    fold = first_cut(task)
    score = (
        engine_models.LightGBM({"min_data": 5, "rounds": 50}).fit(task, fold, 0).score(fold.histories(np.arange(200)))
    )
    right = score.argmax(axis=1) == fold.labels.item
    chance = 1 / np.isfinite(score).sum(axis=1)
    assert right.mean() > 0.9 > 3 * chance.mean()


def test_the_seed_recipe_keeps_data_cut_and_rules_and_brings_its_own_path(tmp_path, tiny_model, monkeypatch):
    recipe = yaml.safe_load(engine_models.SEED_RECIPE.read_text(encoding="utf-8"))
    recipe["embedding"]["max_tokens"] = MAX_TOKENS  # all that the tiny model reads
    (tmp_path / "seed.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    monkeypatch.setattr(engine_models, "SEED_RECIPE", tmp_path / "seed.yaml")
    embedding = {"model": str(tiny_model), "device": "cpu"}
    task = ring_task(n_users=30, embedding=embedding, output=str(tmp_path))
    config = engine_models.Seed().config(task)
    assert (config.data, config.split, config.rules) == (task.config.data, task.config.split, task.config.rules)
    assert (config.features, config.embedding.model) == (["cls_pair"], str(tiny_model))
    score = engine_models.Seed().fit(task, first_cut(task), 0).score(asks([[1, 2], []]))
    assert np.flatnonzero(np.isneginf(score[0])).tolist() == [1, 2]


@pytest.mark.parametrize("model", ["seed", "logistic", "mlp", "lightgbm"])
def test_the_scorers_know_every_setting_of_their_grids(model):
    config = RIVALS[model]().config(ring_task(n_users=2))
    scorers = [RIVALS[model](**settings).built(config) for settings in RIVALS[model].grid]
    assert all(scorers.count(scorer) == 1 for scorer in scorers)


def test_a_setting_that_no_scorer_knows_is_refused():
    task = ring_task(n_users=9)
    with pytest.raises(ConfigError, match=r"scorer\.num_leafs: unknown setting of 'gbdt'; did you mean 'num_leaves'"):
        engine_models.LightGBM({"num_leafs": 3}).fit(task, first_cut(task), 0)
