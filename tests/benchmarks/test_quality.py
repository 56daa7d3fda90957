"""The quality benchmark: places are right, and every rival is right where that can be proved."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import write_shop_config
from worlds import DAY, GROUP, N_ITEMS, asks, catalog_of, checkerboard, log_of, logs, random_vectors, rows_of

from benchmarks.page import read_parts, sections
from benchmarks.quality import report
from benchmarks.quality.full_ranking import evaluator_of, place, rank_targets, targets_of
from benchmarks.quality.job import Job, Result, run
from benchmarks.quality.linear import ease_weights, slist_weights
from benchmarks.quality.models import RIVALS, pointless
from benchmarks.quality.protocols import Task
from benchmarks.quality.run import known_names, quality
from benchmarks.quality.tasks import (
    TASKS,
    Recipe,
    cuts,
    days_of_order,
    load,
    prepare,
    refit_per_cut,
    shuffled_within_days,
)
from recsys.config import load_config, parse_config
from recsys.engine.embeddings import Embeddings
from recsys.errors import ConfigError, DataError, RecsysError
from recsys.tables.split import Fold
from recsys.types import Interactions, Tables

quick = settings(max_examples=60, deadline=None)
PACKAGES = {"ials": "implicit"}


def fold_of(known: Interactions, rows: list[tuple], cut: int) -> Fold:
    labels = log_of(rows, known.n_users)
    return Fold(known, labels, np.full(known.n_users, cut, np.int64), cut)


def task_of(known: Interactions, n_items: int, seen: str = "drop", vectors=None, **columns) -> Task:
    config = parse_config(
        {
            "name": "tiny",
            "data": {"catalog": {}, "interactions": {}},
            "split": {"kind": "time"},
            "retrievers": {"popularity": {}},
            "features": ["scores"],
            "scorer": {"kind": "logistic"},
            "rules": {"seen": seen},
        }
    )
    catalog = catalog_of(n_items, **columns)
    vectors = random_vectors(n_items) if vectors is None else vectors
    users = pl.Series("user_id", range(known.n_users))
    return Task("tiny", config, Embeddings(vectors, catalog), Tables(catalog, known, users, "time"))


@dataclass
class FixedScores:
    """A model whose scores are given: one row of `(U, I)` a user."""

    scores: np.ndarray

    def score(self, histories):
        return self.scores[histories.user]


# Places


@quick
@given(logs(last=5), logs(min_size=4, last=5), st.booleans(), st.randoms(use_true_random=False))
def test_places_agree_with_a_plain_loop(known, after, drop_seen, chance):
    fold = fold_of(known, [(user, item, 10 + time) for user, item, time, *_ in rows_of(after)], 10)
    targets = targets_of(fold, N_ITEMS, drop_seen)
    levels = [-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0]
    scores = np.array([[chance.choice(levels) for _ in range(N_ITEMS)] for _ in range(4)], np.float32)
    if not len(targets.users):
        return
    found = rank_targets(FixedScores(scores), fold, targets, drop_seen)
    for user_place, user in enumerate(targets.users):
        mine = targets.owner == user_place
        right = set(targets.item[mine].tolist())
        had = {item for who, item, *_ in rows_of(known) if who == user} if drop_seen else set()
        others = [item for item in range(N_ITEMS) if item not in right | had]
        places = dict(zip(targets.item[mine].tolist(), found[mine].tolist(), strict=True))
        ranked = sorted(right, key=lambda item: (-scores[user, item], item))
        for before, item in enumerate(ranked):
            ahead = sum(scores[user, other] >= scores[user, item] for other in others)
            assert places[item] == (-1 if scores[user, item] == -np.inf else ahead + before)


def test_equal_scores_put_the_target_last():
    assert place(np.zeros((1, 5), np.float32), np.array([2]), np.array([], int)).tolist() == [4]
    assert place(np.zeros((1, 5), np.float32), np.array([2]), np.array([0, 4])).tolist() == [2]


def test_users_are_judged_in_batches_by_their_own_scores():
    n = 1100
    fold = fold_of(log_of([(user, user % 7, 0) for user in range(n)]), [(u, (u + 1) % 7, 20) for u in range(n)], 10)
    scores = np.full((n, 7), -1, np.float32)
    scores[np.arange(n), (np.arange(n) + 1) % 7] = 1
    scores[np.arange(n), np.arange(n) % 7] = 2  # each user's own item would be first
    assert rank_targets(FixedScores(scores), fold, targets_of(fold, 7, True), True).tolist() == [0] * n
    assert rank_targets(FixedScores(scores), fold, targets_of(fold, 7, False), False).tolist() == [1] * n


def test_a_sample_of_users_is_always_the_same_and_keeps_their_targets():
    fold = fold_of(log_of([(user, 0, 0) for user in range(50)]), [(u, i, 20) for u in range(50) for i in (1, 2)], 10)
    some, again = (targets_of(fold, 3, True, 20) for _ in range(2))
    assert np.array_equal(some.users, again.users)
    assert len(some.users) == 20
    assert some.n_relevant.tolist() == [2] * 20
    assert len(targets_of(fold, 3, True, 50).users) == 50


def test_scores_that_are_no_numbers_or_of_another_shape_are_refused():
    fold = fold_of(log_of([(0, 0, 0)]), [(0, 1, 20)], 10)
    targets = targets_of(fold, 3, False)
    with pytest.raises(DataError, match="2 of 3 scores are not a number"):
        rank_targets(FixedScores(np.array([[np.nan, 0, np.nan]])), fold, targets, False)
    with pytest.raises(DataError, match=r"FixedScores scored \(1, 4\) for 1 queries and 3 items"):
        rank_targets(FixedScores(np.zeros((1, 4))), fold, targets, False)


# The rivals


@pytest.mark.parametrize("name", RIVALS)
def test_a_grid_holds_at_most_eight_settings_that_the_rival_knows(name):
    rival = RIVALS[name]
    assert is_dataclass(rival)
    assert 1 <= len(rival.grid) <= 8
    assert len({json.dumps(setting, sort_keys=True) for setting in rival.grid}) == len(rival.grid)
    for setting in rival.grid:
        assert set(setting) <= {field.name for field in fields(rival)}
        rival(**setting)


def built(name: str, **changes):
    package = PACKAGES.get(name, "numpy")
    if not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed: pip install '.[bench]'")
    return RIVALS[name](**changes)


@pytest.mark.parametrize("name", ["item_knn", "covisitation", "bm25", "text", "ials", "ease", "slist"])
def test_it_finds_the_one_item_of_the_users_colour_that_is_left(name):
    world = checkerboard()
    titles = [f"{'white' if item % 2 else 'black'} tile number{item}" for item in range(2 * GROUP)]
    known = world.state.interactions
    task = task_of(known, 2 * GROUP, vectors=world.state.vectors, title=titles)
    fold = fold_of(known, [(user, item, GROUP * DAY) for user, item in enumerate(world.left_out)], GROUP * DAY)
    # As many factors as items would learn the very lists by heart.
    fitted = built(name, **({"factors": 2} if name == "ials" else {})).fit(task, fold, 0)
    assert rank_targets(fitted, fold, targets_of(fold, 2 * GROUP, True), True).tolist() == [0] * known.n_users


@pytest.mark.parametrize("name", ["item_knn", "covisitation", "bm25", "text", "ials", "ease", "slist"])
def test_strangers_get_what_is_popular(name):
    known = log_of([(user, item, 0) for user in range(4) for item in range(user + 1)])
    scores = built(name).fit(task_of(known, 5), fold_of(known, [(0, 4, 20)], 10), 0).score(asks([[], [1]]))
    ranked = np.argsort(-scores[0], kind="stable").tolist()
    assert ranked[:4] == [0, 1, 2, 3]


def test_popularity_counts_everything_and_recent_popularity_the_last_days():
    known = log_of([(0, 1, 0), (1, 1, 0), (2, 1, 1), (0, 2, 99 * DAY), (1, 2, 99 * DAY), (2, 0, 99 * DAY)])
    fold = fold_of(known, [(0, 0, 100 * DAY)], 100 * DAY)
    task = task_of(known, 4)
    orders = [
        np.argsort(-built(name).fit(task, fold, 0).score(asks([[0]]))[0], kind="stable").tolist()
        for name in ("popularity", "recent_popularity")
    ]
    assert orders == [[1, 2, 0, 3], [2, 0, 1, 3]]


def test_repeat_last_gives_what_was_had_most_or_last_and_then_what_is_popular():
    known = log_of([(0, 1, 0), (0, 1, 1), (0, 2, 2), (1, 3, 0), (2, 3, 0), (2, 0, 0)])
    fold, task = fold_of(known, [(0, 0, 10)], 10), task_of(known, 5, seen="keep")
    often, lately = (built("repeat_last", decay=d).fit(task, fold, 0).score(asks([[1, 1, 2]])) for d in (1.0, 0.1))
    assert np.argsort(-often[0], kind="stable").tolist() == [1, 2, 3, 0, 4]
    assert np.argsort(-lately[0], kind="stable").tolist() == [2, 1, 3, 0, 4]


def test_bm25_is_the_formula():
    titles = ["red soap", "red red cream", "blue soap bar", "green"]
    known = log_of([(0, 0, 0)])
    task = task_of(known, 4, title=titles)
    scores = built("bm25").fit(task, fold_of(known, [(0, 1, 5)], 5), 0).score(asks([[0]]))[0]
    terms = [title.split() for title in titles]
    usual = np.mean([len(words) for words in terms])
    for item, words in enumerate(terms[:3]):
        expected = 0.0
        for word in ("red", "soap"):
            having = sum(word in other for other in terms)
            rarity = np.log1p((4 - having + 0.5) / (having + 0.5))
            room = 1.2 * (1 - 0.75 + 0.75 * len(words) / usual)
            expected += rarity * words.count(word) * 2.2 / (words.count(word) + room)
        assert scores[item] == pytest.approx(expected, rel=1e-3)
    assert scores[3] < 0  # shares no word


@quick
@given(logs())
def test_ease_is_the_regression_of_each_item_on_the_others(log):
    chosen, weights = ease_weights(fold_of(log, [], 20), N_ITEMS, 2.0)
    had = np.zeros((log.n_users, N_ITEMS))
    had[log.user, log.item] = 1
    had = had[:, chosen]
    for item in range(len(chosen)):
        others = [other for other in range(len(chosen)) if other != item]
        x = had[:, others]
        alone = np.linalg.solve(x.T @ x + 2 * np.eye(len(others)), x.T @ had[:, item])
        assert weights[others, item] == pytest.approx(alone, abs=1e-4)
        assert weights[item, item] == 0


@quick
@given(logs(), st.sampled_from([None, 0.0001]))
def test_slist_is_one_ridge_regression_over_histories_and_their_parts(log, half_life):
    end, past_decay, next_decay, alpha = 20, 0.5, 0.7, 0.3
    arguments = (N_ITEMS, 2.0, alpha, past_decay, next_decay, half_life)
    chosen, weights = slist_weights(fold_of(log, [], end), *arguments)
    x, y, row_weights = [], [], []
    for user in range(log.n_users):
        baskets: dict[int, set[int]] = {}
        for who, item, time, *_ in rows_of(log):
            if who == user:
                baskets.setdefault(time, set()).add(item)
        times = sorted(baskets)
        one_hot = [np.isin(np.arange(N_ITEMS), list(baskets[time])).astype(float) for time in times]
        age = [1.0 if half_life is None else 0.5 ** ((end - time) / (half_life * DAY)) for time in times]
        if times:
            whole = np.max(one_hot, axis=0)
            x, y, row_weights = [*x, whole], [*y, whole], [*row_weights, alpha * age[-1]]
        for at in range(len(times) - 1):  # 6 and 10 steps weigh at least 0.03
            past = sum(past_decay**step * one_hot[at - step] for step in range(min(at + 1, 6)))
            future = sum(next_decay**step * one_hot[at + 1 + step] for step in range(min(len(times) - at - 1, 10)))
            x, y, row_weights = [*x, past], [*y, future], [*row_weights, (1 - alpha) * age[at]]
    x, y = np.array(x)[:, chosen], np.array(y)[:, chosen]
    weighted = x.T * np.array(row_weights)
    assert weights == pytest.approx(np.linalg.solve(weighted @ x + 2 * np.eye(len(chosen)), weighted @ y), abs=1e-4)


def test_models_without_a_point_are_left_out():
    order = load_config("configs/shop.yaml").model_copy(update={"rules": task_of(log_of([(0, 0, 0)]), 1).config.rules})
    assert pointless("repeat_last", order) == "seen items are removed"
    assert pointless("recent_popularity", order) == ""
    clocked = order.model_copy(update={"data": order.data.model_copy(update={"clock": "order"})})
    assert pointless("recent_popularity", clocked) == "the log has no dates"


# Tasks, jobs, report


def test_shuffling_keeps_the_days_and_what_was_had_on_each():
    rows = [(user, item, item) for user in range(3) for item in range(40)]
    log = log_of(rows)
    day = np.tile(np.repeat([0, 0, DAY, 5 * DAY], 10), 3)
    shuffled = shuffled_within_days(log, day, 7)
    assert not np.array_equal(shuffled.item, log.item)
    assert np.array_equal(shuffled.time, log.time)
    for user in range(3):
        for moment in (0, DAY, 5 * DAY):
            those = (log.user == user) & (day == moment)
            assert sorted(shuffled.item[those]) == sorted(log.item[those])


def test_days_are_those_of_the_users_position(tmp_path):
    file = tmp_path / "events.parquet"
    rows = {"user_id": ["b", "a", "a"], "position": [0, 1, 0], "elapsed_days": [0, 9, 0]}
    pl.DataFrame(rows).write_parquet(file)
    log = log_of([(0, 0, 0), (0, 1, 1), (1, 0, 0)])
    tables = Tables(catalog_of(2), log, pl.Series(["a", "b"]), "order")
    assert days_of_order(tables, file).tolist() == [0, 9 * DAY, 0]
    pl.DataFrame(rows).head(1).write_parquet(file)
    with pytest.raises(DataError, match="elapsed_days is missing for 2 of 3 events"):
        days_of_order(tables, file)


@pytest.fixture
def shop_task(tmp_path, tiny_model, monkeypatch):
    """The made-up shop as a task with both habits, its paths below a folder of its own."""
    (tmp_path / "configs").mkdir()
    shutil.move(write_shop_config(tmp_path, tiny_model), tmp_path / "configs" / "shop.yaml")
    recipe = Recipe("shop", "The made-up shop", "keep", habits=("refitted", "train only"))
    monkeypatch.setitem(TASKS, "shop", recipe)
    monkeypatch.chdir(tmp_path)
    return recipe


def job_of(folder, model, **changes) -> Job:
    return Job(**{"task": "shop", "model": model, "data": str(folder), "store": "store", "budget": 0} | changes)


def test_a_job_tunes_on_validation_and_tests_both_habits(tmp_path, shop_task, capsys):
    prepare(shop_task, tmp_path, tmp_path / "store")
    jobs = [job_of(tmp_path, "popularity"), job_of(tmp_path, "repeat_last", budget=600)]
    assert not jobs[0].done
    for job in jobs:
        run(job)
    assert jobs[0].done
    assert not job_of(tmp_path, "popularity", budget=1).done  # another budget is another result
    tried, all_tried = (Result.read(job.about) for job in jobs)
    assert len(tried.trials) == 1
    assert len(all_tried.trials) == 8
    assert all_tried.chosen == max(all_tried.trials, key=lambda one: one.ndcg).settings
    assert [(test.habit, test.seed) for test in tried.tests] == [("refitted", 0), ("train only", 0)]
    assert tried.peak_mb > 10

    task = load("shop", tmp_path, tmp_path / "store")
    validation, test = cuts(task)
    assert len(validation.known) < len(test.known) < len(task.tables.interactions)
    assert np.array_equal(refit_per_cut(task, tmp_path / "store").labels.item, test.labels.item)
    targets = targets_of(test, len(task.tables.catalog), False)
    for habit, known in (("refitted", test), ("train only", validation)):
        places = rank_targets(RIVALS["popularity"]().fit(task, known, 0), test, targets, False)
        with np.load(jobs[0].places) as arrays:
            assert np.array_equal(arrays[f"{habit}, seed 0"], places)

    report.write(tmp_path / "page.md", jobs, "python -m benchmarks.quality --budget 0", {})
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    figure = evaluator_of(
        targets, {"popularity": rank_targets(RIVALS["popularity"]().fit(task, test, 0), test, targets, False)}
    )
    assert f"| popularity | {figure.per_user('popularity', 'recall', 10).mean():.4f} |" in page
    assert page.count("| repeat_last |") == 2 + 3 + 1  # habits, slices, settings
    assert f"{len(targets.users):,} users, {len(targets.keys):,} targets" in page
    assert "By `python -m benchmarks.quality --budget 0` on " in page


def test_a_report_leaves_the_sections_of_what_was_not_run(tmp_path, shop_task, monkeypatch):
    prepare(shop_task, tmp_path, tmp_path / "store")
    monkeypatch.setitem(report.TASKS, "other", shop_task)
    job, page = job_of(tmp_path, "popularity"), tmp_path / "page.md"
    run(job)
    page.write_text("# Old head\n\n## gone\n\nno task\n\n## shop\n\nold\n\n## other\n\nkept\n\n## Cold start\n\nkept\n")
    report.write(page, [job], "", {})
    written = sections(read_parts(page)[0])
    assert list(written) == ["", "shop", "other", "Cold start"]
    assert written["other"] == "## other\n\nkept"
    assert written["Cold start"] == "## Cold start\n\nkept"
    assert "old" not in written["shop"]
    assert written[""].startswith("# Benchmarks")


def test_a_report_refuses_results_of_other_data(tmp_path, shop_task):
    prepare(shop_task, tmp_path, tmp_path / "store")
    job = job_of(tmp_path, "popularity")
    run(job)
    with np.load(job.places) as arrays:
        np.savez(job.places, **{name: arrays[name][1:] for name in arrays})
    with pytest.raises(DataError, match=r"that are not the \d+ of the data.*--again popularity"):
        report.write(tmp_path / "page.md", [job], "", {})


def test_names_on_the_command_line_are_known_ones():
    assert known_names("ease, slist,", RIVALS, "--models") == ["ease", "slist"]
    with pytest.raises(ConfigError, match=r"--models: unknown name 'eas'; did you mean 'ease'\?"):
        known_names("eas", RIVALS, "--models")


def test_a_failed_process_is_told_and_missing_data_are_left_out(tmp_path, shop_task, capsys):
    with pytest.raises(RecsysError, match=r"1 of 1 runs failed \(see above\): popularity on shop"):
        # The child is a fresh process, to which the task of this test is unknown.
        quality(tmp_path, "shop,beauty", "popularity", 1, 1, 5, "", False)
    assert f"beauty: left out, the folder {tmp_path / 'beauty'} is not there" in capsys.readouterr().err
    assert "There are no results yet" in (tmp_path / "artifacts/quality/5_users/benchmarks.md").read_text()
