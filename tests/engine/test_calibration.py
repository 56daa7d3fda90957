"""Probabilities: in worlds where the right ones are known, and as a bundle, an answer and a person see them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import Shop, write_tiny_config
from typer.testing import CliRunner
from worlds import DAY, asks, catalog_of, log_of, random_vectors, rows_of

from recsys import Recommender, evaluate, formatting, train
from recsys.cli.app import app
from recsys.config import load_config, parse_config
from recsys.engine.calibration import fit_calibrated
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.engine.training import fit
from recsys.errors import ArtifactError
from recsys.evaluation.reliability import reliability
from recsys.ragged import offsets_of
from recsys.ranking.calibration import Calibrator, activity, log_totals
from recsys.tables.split import holdout
from recsys.types import Candidates, Interactions

USERS, ITEMS, WINDOWS, DAYS = 1200, 30, 6, 10
TIME = {"kind": "time", "horizon_days": DAYS, "folds": 2}


# A world whose probabilities are known: in every window each user buys each item once with a chance of their own


@dataclass(frozen=True)
class World:
    """`chance` `(U, I)` holds for every window alike, the one after the end of the data too."""

    chance: np.ndarray
    rows: list[tuple[int, int, int]]

    @property
    def log(self) -> Interactions:
        return log_of(self.rows, USERS)


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(3)
    active, wanted = np.exp(rng.normal(0, 1, USERS)), np.exp(rng.normal(0, 1.2, ITEMS))
    chance = np.minimum(0.015 * np.outer(active, wanted), 0.8)
    rows = []
    for window in range(WINDOWS):
        user, item = np.nonzero(rng.random(chance.shape) < chance)
        time = window * DAYS * DAY + rng.integers(DAYS * DAY, size=len(user))
        rows += list(zip(user.tolist(), item.tolist(), time.tolist(), strict=True))
    return World(chance, rows)


def config_of(**changes):
    raw = {
        "name": "world",
        "data": {"catalog": {}, "interactions": {}},
        "split": TIME,
        "retrievers": {"popularity": {"depth": ITEMS}},
        "features": ["log_popularity"],
        "scorer": {"kind": "logistic"},
        "rules": {"seen": "keep"},
    }
    return parse_config(raw | changes)


def embeddings_of(n_items=ITEMS):
    return Embeddings(random_vectors(n_items), catalog_of(n_items))


def end_of(log):
    return int(log.time.max()) + 1


@pytest.fixture(scope="module")
def bundle(world: World, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Recommender:
    """The world through the public door: files, `train`, `load`."""
    folder = tmp_path_factory.mktemp("world")
    user, item, time = zip(*world.rows, strict=True)
    names = [f"u{u:05d}" for u in user], [f"i{i}" for i in item]
    start = 1_700_000_000_000_000
    events = pl.DataFrame({"user_id": names[0], "item_id": names[1], "timestamp": np.array(time) + start})
    events = events.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(ITEMS)], "title": [f"thing {i}" for i in range(ITEMS)]})
    retrievers, features = {"popularity": {"depth": ITEMS}}, ["log_popularity"]
    path = write_tiny_config(folder, tiny_model, items, events, "time", split=TIME, rules={"seen": "keep"},
                             retrievers=retrievers, features=features)  # fmt: skip
    return Recommender.load(train(load_config(path)))


def within_four_errors(predicted: np.ndarray, happened: np.ndarray) -> None:
    """In every decile of predictions, the rate of events lies within four standard errors of their mean."""
    for rows in np.array_split(np.argsort(predicted, kind="stable"), 10):
        mean = predicted[rows].mean()
        error = np.sqrt((predicted[rows] * (1 - predicted[rows])).sum()) / len(rows)
        assert abs(happened[rows].mean() - mean) < 4 * error, (mean, happened[rows].mean(), error)


def test_published_probabilities_are_those_of_the_world(world: World, bundle: Recommender) -> None:
    frame = bundle.recommend_batch(k=ITEMS)
    user = frame["user_id"].str.slice(1).cast(int).to_numpy()
    item = frame["item_id"].str.slice(1).cast(int).to_numpy()
    predicted, truth = frame["probability"].cast(float).to_numpy(), world.chance[user, item]
    assert len(predicted) == bundle.user_ids.len() * ITEMS
    happened = np.random.default_rng(9).random(len(predicted)) < truth
    within_four_errors(predicted, happened)
    for band in (user % 2 == 0, np.isin(item, np.argsort(world.chance.sum(axis=0))[-3:]), truth > 0.1):
        assert predicted[band].mean() == pytest.approx(truth[band].mean(), rel=0.1)
    assert np.corrcoef(np.log(predicted), np.log(truth))[0, 1] > 0.9


def test_the_manifest_says_what_is_stated_and_how_well(world: World, bundle: Recommender) -> None:
    about = bundle.manifest["probability"]
    assert about["statement"] == "the user has an event on the item within 10 days of the end of the data"
    assert (about["events"], about["horizon_days"], about["held_out"]) == ([], DAYS, "time")
    quality = about["quality"]
    assert quality["base_rate"] == pytest.approx(world.chance.mean(), rel=0.1)
    assert quality["mean"] == pytest.approx(quality["base_rate"], rel=0.1)
    assert quality["ece"] < 0.1 * quality["base_rate"]
    assert quality["brier"] == pytest.approx((world.chance * (1 - world.chance)).mean(), rel=0.1)
    assert sum(b["count"] for b in quality["bins"]) == quality["pairs"]
    assert len(quality["bins"]) == 15
    for family in ("users", "rank"):
        parts = [part for name, part in quality["segments"].items() if name.startswith(family)]
        assert len(parts) > 1
        assert sum(part["pairs"] for part in parts) == quality["pairs"]
        assert sum(part["labels"] for part in parts) == quality["labels"]


def test_negative_sampling_does_not_move_probabilities(world: World) -> None:
    means = []
    for negatives in (0, 3, 10):
        config = config_of(scorer={"kind": "logistic", "negatives": negatives})
        model, *_ = fit_calibrated(Plan.of(config), world.log, embeddings_of(), end_of(world.log))
        context = model.retrieval.context(world.log.histories(np.arange(USERS), np.full(USERS, end_of(world.log))))
        probability = model.probability(context, model.score(context))
        means.append([probability.mean(), np.sort(probability)[-1000:].mean()])
    np.testing.assert_allclose(means[1:], [means[0]] * 2, rtol=0.05)
    assert means[0][0] == pytest.approx(world.chance.mean(), rel=0.1)


# Held-out time


def test_the_ranking_is_that_of_a_run_without_probabilities(world: World) -> None:
    model, *_ = fit_calibrated(Plan.of(config_of()), world.log, embeddings_of(), end_of(world.log))
    plain = fit(Plan.of(config_of()), world.log, embeddings_of(), end_of(world.log))
    for name, array in plain.scorer.arrays().items():
        np.testing.assert_array_equal(array, model.scorer.arrays()[name])


def test_the_scorer_that_is_tried_does_not_know_the_window_it_is_tried_on(world: World) -> None:
    """Where the newest window has nothing to do with what was before, a score learnt before it is worth nothing."""
    newest, rng = end_of(world.log) - DAYS * DAY, np.random.default_rng(1)
    rows = [(u, int(rng.integers(ITEMS)) if t >= newest else i, t) for u, i, t in world.rows]
    assert (
        fit_calibrated(Plan.of(config_of()), world.log, embeddings_of(), end_of(world.log))[0].calibrator.weight[1]
        > 0.8
    )
    changed = log_of(rows, USERS)
    model, about, _ = fit_calibrated(Plan.of(config_of()), changed, embeddings_of(), end_of(changed))
    assert about["held_out"] == "time"
    assert abs(model.calibrator.weight[1]) < 0.1


def test_nothing_after_the_cut_reaches_the_calibrator(world: World) -> None:
    runs = []
    for seed in (0, 1):
        rng, cut = np.random.default_rng(seed), end_of(world.log)
        future = [(int(u), int(rng.integers(ITEMS)), cut + 5) for u in rng.choice(USERS, 400, replace=False)]
        fold = holdout(log_of(world.rows + future, USERS), config_of(split=TIME | {"horizon_days": 1}).split, cut + DAY)
        model, about, _ = fit_calibrated(Plan.of(config_of()), fold.known, embeddings_of(), fold.as_of)
        runs.append(({name: array.tobytes() for name, array in model.calibrator.arrays().items()}, about))
    assert runs[0] == runs[1]


# What is measured, measured again


def test_figures_equal_those_of_a_plain_loop(world: World) -> None:
    """`later` of `foretold`, from scores and histories by the definition, one user at a time."""
    from recsys.engine.calibration import measure_on_test

    fold = holdout(world.log, config_of().split, end_of(world.log))
    model, *_ = fit_calibrated(Plan.of(config_of()), fold.known, embeddings_of(), fold.as_of)
    later = measure_on_test(Plan.of(config_of()), model, fold, embeddings_of())["later"]
    bought = {(u, i) for u, i, *_ in rows_of(fold.labels)}
    own = {u: [row for row in rows_of(fold.known) if row[0] == u] for u in range(USERS)}
    weight, horizon = model.calibrator.weight, model.calibrator.horizon[0]
    pairs = []
    for u, past in own.items():
        if not past:
            continue
        context = model.retrieval.context(fold.histories(np.array([u])))
        score = model.score(context).astype(float)
        times = [row[2] for row in past]
        days = [(fold.as_of - t) / DAY for t in (times[-1], times[0])]
        late = sum(t >= fold.as_of - horizon for t in times)
        horizons = max((fold.as_of - times[0]) / horizon, 1)
        active = [*np.log1p([len(past) / horizons, len(set(times)) / horizons, late, *days]), 0]
        active = np.minimum(active, model.calibrator.most)
        share = score - np.log(np.exp(score).sum())
        z = weight[0] + weight[1] * share + np.dot(weight[2:], active)
        p = 1 / (1 + np.exp(-(z + np.interp(z, model.calibrator.log_odds, model.calibrator.shift))))
        place = np.argsort(np.argsort(-score, kind="stable"))
        pairs += [(p[j], (u, int(i)) in bought, place[j], len(past)) for j, i in enumerate(context.item)]
    p, y, place, length = (np.array(column) for column in zip(*pairs, strict=True))
    everything = np.ones(len(p), bool)
    for name, mask in {
        "all": everything,
        "rank: 1-10": place < 10,
        "users: 5-19 events": (length > 4) & (length < 20),
    }.items():
        part = later if name == "all" else later["segments"][name]
        assert (part["pairs"], part["labels"]) == (mask.sum(), y[mask].sum())
        assert part["brier"] == pytest.approx(
            sum((a - b) ** 2 for a, b in zip(p[mask], y[mask], strict=True)) / mask.sum()
        )
        assert part["mean"] == pytest.approx(p[mask].mean(), rel=1e-5)
        assert part["ece"] == pytest.approx(loop_ece(p[mask], y[mask]), abs=1e-5)


def loop_ece(p, y, bins=15):
    rows = sorted(range(len(p)), key=lambda row: p[row])
    size, more = divmod(len(rows), bins)
    total, start = 0.0, 0
    for number in range(bins):
        part = rows[start : start + size + (number < more)]
        start += len(part)
        total += abs(sum(p[row] for row in part) - sum(y[row] for row in part))
    return total / len(rows)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_reliability_of_any_list(pairs):
    p, y = np.array([a for a, _ in pairs], np.float32), np.array([b for _, b in pairs])
    measured = reliability(p, y, {"low": p < 0.5, "none": p > 1})
    assert measured["ece"] == pytest.approx(loop_ece(p.astype(float), y), abs=1e-9)
    assert measured["brier"] == pytest.approx(np.mean((p.astype(float) - y) ** 2), abs=1e-9)
    assert measured["segments"].keys() == ({"low"} if (p < 0.5).any() else set())
    assert sum(b["count"] for b in measured["bins"]) == len(p)


# The calibrator alone


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_within_a_list_a_higher_score_is_never_less_probable(seed, n):
    rng = np.random.default_rng(seed)
    lists = 30
    score = rng.normal(0, 3, lists * n).astype(np.float32)
    candidates = Candidates(offsets_of(np.full(lists, n)), np.tile(np.arange(n, dtype=np.int32), lists),
                            np.zeros((lists * n, 1), np.int32))  # fmt: skip
    histories = asks([[0] * int(rng.integers(6)) for _ in range(lists)])
    share = score - log_totals(candidates, score)[candidates.owner]
    label = rng.random(len(score)) < 0.3
    label[:2] = [True, False]
    calibrator = Calibrator.fit(share, candidates.owner, activity(histories, 0), label, 0)
    probability = calibrator.probability(share, candidates.owner, histories)
    assert ((probability > 0) & (probability < 1)).all()
    for own in range(lists):
        mask = candidates.owner == own
        assert (np.diff(probability[mask][np.argsort(score[mask])]) >= -1e-7).all()
    again = Calibrator.from_arrays(calibrator.arrays())
    np.testing.assert_array_equal(again.probability(share, candidates.owner, histories), probability)


def test_a_score_that_tells_the_wrong_way_round_tells_nothing():
    rng = np.random.default_rng(0)
    share = rng.normal(size=4000)
    label = rng.random(4000) < 1 / (1 + np.exp(3 + share))
    calibrator = Calibrator.fit(share, np.zeros(4000, int), activity(asks([[1]]), 0), label, 0)
    probability = calibrator.probability(share, np.zeros(4000, int), asks([[1]]))
    assert calibrator.weight[1] == 0
    np.testing.assert_allclose(probability, label.mean(), rtol=0.02)


def test_log_totals_of_empty_and_far_lists():
    candidates = Candidates(np.array([0, 2, 2, 3]), np.array([0, 1, 0], np.int32), np.zeros((3, 1), np.int32))
    total = log_totals(candidates, np.array([1000, 1000, -1000], np.float32))
    np.testing.assert_allclose(total, [1000 + np.log(2), -np.inf, -1000])
    assert log_totals(Candidates(np.array([0, 0]), np.zeros(0, np.int32), np.zeros((0, 1), np.int32)),
                      np.zeros(0, np.float32)).tolist() == [-np.inf]  # fmt: skip


def test_activity_counts_events_baskets_and_days():
    histories = asks([[(0, 0), (1, 0), (2, 8 * DAY)], []], as_of=10 * DAY)
    columns = activity(histories, 3 * DAY)
    np.testing.assert_allclose(columns, [[*np.log1p([3 * 0.3, 2 * 0.3, 1, 2, 10]), 0], [0, 0, 0, 0, 0, 1]])
    np.testing.assert_allclose(activity(histories, 0), [[*np.log1p([3, 2]), 0], [0, 0, 1]])


# Where there are none


def test_a_short_log_is_calibrated_by_users(world: World) -> None:
    rows = [row for row in world.rows if row[2] >= 4 * DAYS * DAY]
    plan = Plan.of(config_of(split=TIME | {"folds": 1}))
    model, about, _ = fit_calibrated(plan, log_of(rows, USERS), embeddings_of(), 6 * DAYS * DAY)
    assert (about["held_out"], model.calibrator is None) == ("users", False)
    assert about["users"] < 0.6 * USERS
    assert about["quality"]["mean"] == pytest.approx(about["quality"]["base_rate"], rel=0.1)


@pytest.mark.parametrize(
    ("users", "changes", "why"),
    [
        (30, {}, r"of the candidates of \d+ users at the newest cut \d+ are labels, \d+ in the smaller half"),
        (USERS, {"probabilities": False}, "the config says probabilities: false"),
        (1, {}, "the log is too short: of its 1 cuts only the newest has labels among the candidates"),
    ],
)
def test_no_probabilities_and_why(world: World, users, changes, why) -> None:
    rows = world.rows if users > 1 else [(0, 0, 0), (0, 0, 15 * DAY)]
    log = log_of([row for row in rows if row[0] < users], USERS)
    model, about, _ = fit_calibrated(Plan.of(config_of(**changes)), log, embeddings_of(), end_of(log))
    assert model.calibrator is None
    assert "quality" not in about
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(about["none"])


def test_a_bundle_without_probabilities_answers_none(shop: Shop, tmp_path: Path) -> None:
    config = load_config(shop.config).model_copy(update={"output": str(tmp_path), "probabilities": False})
    loaded = Recommender.load(train(config))
    assert loaded.manifest["probability"]["none"] == "the config says probabilities: false"
    answer = loaded.recommend("u029", 5)
    assert [item.probability for item in answer.items] == [None] * 5
    assert answer.to_polars()["probability"].null_count() == 5
    assert loaded.recommend_batch(["u029"], 5)["probability"].null_count() == 5
    assert loaded.score("u029", ["i001", "i002"])["probability"].null_count() == 2
    ran = CliRunner().invoke(app, ["inspect", "--bundle", str(loaded._bundle.path)])
    assert "No probabilities: the config says probabilities: false" in ran.stdout
    command = ["inspect", "--bundle", str(loaded._bundle.path), "--plot", str(tmp_path / "none.svg")]
    with pytest.raises(ArtifactError, match=r"has no probabilities to draw: the config says probabilities: false"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "none.svg").exists()


# In answers


def test_every_door_tells_the_same_probability(recommender: Recommender) -> None:
    everything = recommender.catalog.ids.to_list()
    for user in ("u000", "u029", "nobody"):
        answer = recommender.recommend(user, len(everything))
        listed = [item for item in answer.items if item.sources]
        assert all(item.probability is None for item in answer.items if not item.sources)
        probabilities = [item.probability for item in listed]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < probabilities[-1] < probabilities[0] < 1
        scored = dict(recommender.score(user, everything).select("item_id", "probability").iter_rows())
        np.testing.assert_allclose([scored[item.item_id] for item in listed], probabilities, rtol=1e-4)
        assert all(0 < scored[item] < 1 for item in everything), "what nobody proposed has one too"
        if user != "nobody":
            batch = recommender.recommend_batch([user], len(everything))
            np.testing.assert_allclose(batch["probability"].drop_nulls(), probabilities, rtol=1e-4)
            assert batch["probability"].null_count() == len(everything) - len(listed)


def test_of_the_next_item_the_probabilities_of_a_list_sum_to_what_it_finds(
    shop: Shop, recommender: Recommender
) -> None:
    """In `leave_last_out` exactly one item comes next, and a list holds it or not."""
    about = recommender.manifest["probability"]
    assert about["statement"] == "the user's next target event (purchase) is on the item"
    assert (about["events"], about["horizon_days"]) == (["purchase"], None)
    frame = recommender.recommend_batch(k=len(recommender.catalog)).drop_nulls("probability")
    sums = frame.group_by("user_id").agg(pl.col("probability").sum())["probability"]
    report = evaluate(load_config(shop.config), probabilities=True)
    assert sums.mean() == pytest.approx(report["candidate_recall"]["all"], rel=0.15)
    assert sums.max() < 1.3
    later = report["probability"]["later"]
    assert later["mean"] == pytest.approx(later["base_rate"], rel=0.15)
    json.dumps(report, allow_nan=False)


# For a person


def test_a_person_sees_percents(shop: Shop) -> None:
    ran = CliRunner().invoke(app, ["score", "u029", "--bundle", str(shop.folder), "-k", "3"])
    assert ran.exit_code == 0
    heading, first = ran.stdout.splitlines()[-4:-2]
    assert "chance" in heading
    assert "%" in first
    assert [formatting.percent(p) for p in (None, 0.0004, 0.001, 0.0234, 0.0996, 0.314, 1.0)] == [
        "", "<0.1%", "0.1%", "2.3%", "10%", "31%", "100%"]  # fmt: skip


def test_inspect_shows_and_draws_reliability(shop: Shop, tmp_path: Path) -> None:
    plot = tmp_path / "deep" / "plot.svg"
    ran = CliRunner().invoke(app, ["inspect", "--bundle", str(shop.folder), "--plot", str(plot)])
    assert ran.exit_code == 0
    for words in ("Probability that the user's next target event", "rank: 1-10", "Brier"):
        assert words in ran.stdout
    texts = {"".join(one.itertext()).strip() for one in ElementTree.parse(plot).getroot().iter()}
    assert {"predicted probability", "observed share", "newest training cut, users held out"} <= texts


@pytest.mark.parametrize(
    "request_of",
    [
        lambda ids: {"where": "price > 10"},
        lambda ids: {"candidates": ids[:40]},
        lambda ids: {"exclude": ids[::2]},
        lambda ids: {"pinned": ids[-3:], "boosts": {ids[5]: 3.0}},
        lambda ids: {"where": "price > 10", "diversity": 0.5, "caps": {"category": 2}},
    ],
)
def test_no_filter_moves_a_probability(recommender: Recommender, request_of: Any) -> None:
    """What is left of a list shares it anew, but a user buys no more for that."""
    asked = request_of(recommender.catalog.ids.to_list())
    for user in ("u029", "u123", "nobody"):
        items = recommender.recommend(user, 8, **asked).items
        probabilities = recommender.score(user, [item.item_id for item in items])["probability"].to_list()
        for item, probability in zip(items, probabilities, strict=True):
            assert item.probability is None or item.probability == pytest.approx(probability, rel=1e-4)
        assert any(item.probability is not None for item in items)
