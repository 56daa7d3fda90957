"""The audit: an honest run passes it, a dishonest one does not, and it counts exactly."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from members import add_member
from shops import write_shop_config
from worlds import DAY, N_ITEMS, catalog_of, log_of, logs, random_vectors, rows_of

from recsys.arrays import unit_rows
from recsys.audit.audit import (
    Finding,
    audit,
    check_dates,
    check_near_duplicates,
    check_repeats,
    check_ties,
    check_twin_users,
    check_undated_texts,
    nearest_other,
)
from recsys.audit.probes import DEVIATIONS, K, Lists, count_first_alone, replace_future
from recsys.cli import main
from recsys.config import LeaveLastOut, TimeSplit, load_config
from recsys.diagnostics import FAIL, OK, WARN
from recsys.engine.embeddings import Embeddings
from recsys.errors import DataError, LeakageError
from recsys.jobs.ingest import ingest
from recsys.ragged import find_keys, offsets_of, pair_keys
from recsys.ranking.feature_context import Context
from recsys.ranking.features import FEATURES, Feature
from recsys.retrieval.popularity import FittedPopularity, Popularity
from recsys.retrieval.registry import RETRIEVERS
from recsys.tables import split as splits
from recsys.tables.split import Fold, holdout, holdouts
from recsys.types import Candidates, State

LAST_OUT = LeaveLastOut(kind="leave_last_out")
TWO_WEEKS = TimeSplit(kind="time", horizon_days=14, folds=1)
HONEST = ["scores", "log_popularity", "best_match", "category_share"]
SPLITS = {"last_out": LAST_OUT.model_dump(), "time": TWO_WEEKS.model_dump()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audited")


def shop_config(folder: Path, model: Path, split: str = "last_out", features: tuple[str, ...] = (), **more) -> Path:
    retrievers = {"covisitation": {"depth": 40}, "repeat": {"depth": 20}, "popularity": {"depth": 20}}
    return write_shop_config(folder, model, split=SPLITS[split], features=[*HONEST, *features],
                             retrievers=retrievers | more)  # fmt: skip


def audited(config: Path) -> dict[str, Finding]:
    findings = audit(load_config(config))
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.status == FAIL}


# An honest run


@pytest.fixture(scope="module", params=SPLITS)
def honest(request: pytest.FixtureRequest, folder: Path, tiny_model: Path) -> dict[str, Finding]:
    return audited(shop_config(folder, tiny_model, request.param))


def test_an_honest_run_passes(honest: dict[str, Finding]) -> None:
    assert failed(honest) == set()
    assert honest["future replaced"].status == OK
    assert honest["future replaced"].numbers["changed"] == {}
    assert honest["future replaced"].numbers["users"] > 100
    assert honest["row numbers"].numbers["same"] > 0.999
    assert {"dates, judged cut", "dates, training cut 1"} <= honest.keys()


def test_shuffled_labels_bring_the_scorer_to_chance_and_true_ones_do_not(honest: dict[str, Finding]) -> None:
    found = honest["shuffled labels"]
    assert found.status == OK
    for metric in ("recall@10", "ndcg@10"):
        low, high = found.numbers["chance"][metric]
        assert low <= found.numbers["shuffled"][metric] <= high
        assert found.numbers["true"][metric] > 1.5 * found.numbers["true_chance"][metric][1]


def test_validation_audits_one_cut_earlier(folder: Path, tiny_model: Path) -> None:
    config = load_config(shop_config(folder, tiny_model))
    earlier = {finding.name: finding for finding in audit(config, validation=True)}
    assert failed(earlier) == set()
    judged = holdouts(ingest(config).interactions, LAST_OUT, None, 2)[1]
    assert earlier["dates, judged cut"].numbers["labels"] == len(judged.labels)


# Dishonest runs


class Window:
    """What the last cut must not know, left open for a feature or a retriever to look at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fold: Fold | None = None
        monkeypatch.setattr(splits, "holdout", self._holdout)

    def _holdout(self, *args: object) -> Fold:
        self.fold = holdout(*args)
        return self.fold


def knows(fold: Fold, context: Context) -> np.ndarray:
    """1 where the query has the item after the cut."""
    keys = np.unique(pair_keys(fold.labels.user, fold.labels.item, context.n_items))
    own = pair_keys(context.histories.user[context.owner], context.item, context.n_items)
    return (find_keys(keys, own) >= 0).astype(np.float32)


@pytest.mark.parametrize("split", SPLITS)
def test_a_feature_that_sees_the_labels(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    window = Window(monkeypatch)
    folds: dict[int, Fold] = {}

    def prepare(state: State) -> dict:
        folds[len(folds)] = window.fold
        return {"fold": np.array(len(folds) - 1)}

    peek = Feature("peek", lambda context, prepared: knows(folds[int(prepared["fold"])], context), prepare)
    add_member(monkeypatch, FEATURES, "peek", peek)
    path = shop_config(folder, tiny_model, split, ("peek",))
    with pytest.raises(SystemExit) as stopped:
        main(["audit", str(path), "--json"])
    assert stopped.value.code == LeakageError.exit_code == 4
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["future replaced"]["status"] == FAIL
    assert list(found["future replaced"]["numbers"]["changed"]) == ["peek"]
    assert "changed peek: they use data from after the cut" in found["future replaced"]["text"]
    assert found["shuffled labels"]["status"] == FAIL
    assert found["shuffled labels"]["numbers"]["shuffled"]["recall@10"] > 0.9


def test_a_column_that_knows_the_labels_by_heart(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not change with the future it is given: its strength gives it away, and that it knows rows."""
    learnt = holdouts(ingest(load_config(shop_config(folder, tiny_model))).interactions, LAST_OUT, None, 2)[1]
    oracle = Feature("oracle", lambda context, prepared: -knows(learnt, context))
    add_member(monkeypatch, FEATURES, "oracle", oracle)
    found = audited(shop_config(folder, tiny_model, "last_out", ("oracle",)))
    assert failed(found) == {"strongest column", "row numbers"}  # rows known by heart do not follow their items
    assert found["strongest column"].numbers["column"] == "oracle"
    assert found["strongest column"].numbers["share"] == 1
    assert found["strongest column"].text.startswith("oracle alone puts a label first in 100.0% of")


def test_a_retriever_that_counts_the_future(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(monkeypatch)

    class Tomorrow(Popularity):
        def fit(self, state: State) -> FittedPopularity:
            return FittedPopularity(np.bincount(window.fold.labels.item, minlength=len(state.catalog)).astype("f4"))

    add_member(monkeypatch, RETRIEVERS, "tomorrow", Tomorrow)
    found = audited(shop_config(folder, tiny_model, tomorrow={"depth": 30}))
    assert "future replaced" in failed(found)
    assert set(found["future replaced"].numbers["changed"]) == {"the candidates", "scores.tomorrow"}


def test_a_feature_that_is_the_row_number(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Feature("row", lambda context, prepared: context.item.astype(np.float32))
    add_member(monkeypatch, FEATURES, "row", row)
    found = audited(shop_config(folder, tiny_model, "last_out", ("row",)))
    assert failed(found) == {"row numbers"}
    assert found["row numbers"].numbers["columns"]["row"] < 0.05
    assert "least in row " in found["row numbers"].text
    assert found["row numbers"].text.endswith(": row depend on the order of the catalogue")


def test_a_retriever_that_learns_from_chance_only_has_to_say_much_the_same(folder: Path, tiny_model: Path) -> None:
    found = audited(shop_config(folder, tiny_model, tower={"depth": 10, "epochs": 30, "dropout": 0.1}))
    assert failed(found) == set()
    assert found["row numbers"].status == WARN
    assert found["row numbers"].numbers["columns"]["scores.tower"] < 0.9


# Cuts


def test_cuts_stop_where_the_data_end() -> None:
    log = log_of([(0, item, item) for item in range(4)])
    assert [len(fold.known) for fold in holdouts(log, LAST_OUT, None, 9, least=2)] == [3, 2, 1]
    with pytest.raises(DataError, match="the split leaves 1 known events and 0 labels of 1 events"):
        holdouts(log_of([(0, 0, 0), (0, 1, 1)]), LAST_OUT, None, 9, least=2)


def test_a_cut_that_is_refused_is_not_the_end_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of([(0, item, item) for item in range(4)])
    first = holdout(log, LAST_OUT)

    def leaky(known, split, as_of) -> Fold:
        return first if known is log else Fold(known, first.labels, np.zeros(1, np.int64), None)

    monkeypatch.setattr(splits, "holdout", leaky)
    with pytest.raises(LeakageError, match="3 known events lie at or after the cut"):
        holdouts(log, LAST_OUT, None, 3)


@given(logs(min_size=2, last=30), st.sampled_from([LAST_OUT, TimeSplit(kind="time", horizon_days=5 / DAY)]))
def test_another_future_leaves_the_past_alone(log, split) -> None:
    as_of = None if split is LAST_OUT else int(log.time.max()) + 1
    try:
        fold = holdout(log, split, as_of)
    except DataError:
        return
    users = fold.labelled_users
    offered = np.tile(np.array([1, 4], np.int32), len(users))
    pairs = Candidates(np.arange(len(users) + 1) * 2, offered, np.zeros((len(offered), 1), np.int32))
    other = replace_future(log, fold, users, pairs, N_ITEMS, np.random.default_rng(0))
    again = holdout(other, split, as_of)
    assert rows_of(again.known) == rows_of(fold.known)
    assert sorted(again.labels.time) == sorted(fold.labels.time)
    assert set(again.labels.item[np.isin(again.labels.user, users)].tolist()) <= {1, 4}


# Dates, ties, repeats


def test_dates_of_a_cut_that_knows_later_events() -> None:
    known = log_of([(0, 0, 1), (0, 1, 9), (1, 2, 3)])
    labels = log_of([(0, 3, 5), (1, 4, 4)])
    fold = Fold(known, labels, np.array([10, 10]), None)
    found = {finding.name: finding for finding in check_dates(fold, 1, "time")}
    assert found["dates, training cut 1"].status == FAIL
    assert found["dates, training cut 1"].numbers == {"late": 1, "labels": 2}
    # of the three known events one lies after time 5, one after time 4
    assert found["statistics, training cut 1"].numbers == {"share": 1 / 3, "events": 1.0, "most": 1, "known": 3}
    assert found["statistics, training cut 1"].status == WARN


def test_a_user_without_history_before_1970_is_not_late() -> None:
    fold = Fold(log_of([(0, 0, -9)], 2), log_of([(0, 1, -4), (1, 1, -5)]), np.array([-5, -5]), -5)
    assert [(found.status, found.numbers) for found in check_dates(fold, 0, "time")] == [(OK, {"late": 0, "labels": 2})]


def test_positions_tell_nothing_of_other_users() -> None:
    fold = holdout(log_of([(0, 0, 1), (0, 1, 2), (1, 0, 5), (1, 2, 6)]), LAST_OUT)
    assert [(found.name, found.status) for found in check_dates(fold, 0, "order")] == [
        ("dates, judged cut", OK),
        ("statistics, judged cut", OK),
    ]


def test_ties_are_counted() -> None:
    """User 0: three events at one moment, the label among them; user 1: a tie that is not at the edge; user 2: none."""
    log = log_of([(0, 0, 7), (0, 1, 7), (0, 2, 7), (1, 0, 1), (1, 1, 1), (1, 2, 2), (2, 0, 1), (2, 1, 2)])
    found = check_ties(log, holdout(log, LAST_OUT))
    assert found.numbers == {"events": 5 / 8, "edge_users": 1, "edge": 1 / 3}
    assert found.status == WARN
    assert "62.5% of the events" in found.text
    calm = log_of([(0, 0, 1), (0, 1, 2), (0, 2, 3)])
    assert check_ties(calm, holdout(calm, LAST_OUT)).numbers == {"events": 0.0, "edge_users": 0, "edge": 0.0}


def test_repeats_and_twins_are_counted() -> None:
    same = [(0, 1), (1, 2), (2, 3)]
    log = log_of([(user, item, time) for user in (0, 1) for item, time in [*same, (user, 9)]]
                 + [(2, 0, 1), (2, 1, 2), (2, 3, 4), (2, 5, 9)])  # fmt: skip
    judged = holdout(log, LAST_OUT)
    assert check_repeats(judged, "keep").numbers == {"targets": 3, "repeats": 2, "seen": "keep"}
    found = check_twin_users(judged.known)
    assert (found.status, found.numbers) == (WARN, {"users": 2, "share": 2 / 3})


# Near duplicates


def test_near_duplicates_are_found_exactly() -> None:
    """Item 5 is new and reads like 0, which is known; 6 is new and like nothing; 1 and 2 are alike and both known."""
    vectors = np.eye(8, dtype=np.float32)[[0, 1, 1, 2, 3, 0, 4]]
    vectors[2, 7] = 0.3  # cosine .958 with item 1
    vectors[4, 2] = 2.5  # cosine .928 with item 3
    texts = ["soap", "tea", "teas", "x", "y", "soap", "z"]
    embeddings = Embeddings(unit_rows(vectors), catalog_of(7, title=texts))
    log = log_of([(0, item, time) for time, item in enumerate([0, 1, 2, 3, 4, 5])] + [(1, 0, 0), (1, 1, 1), (1, 6, 2)])
    judged = holdout(log, LAST_OUT)
    across, inside = check_near_duplicates(log, judged, embeddings, texts)
    assert (across.numbers["items"], across.numbers["same_text"], across.numbers["looked_at"]) == (1, 1, 2)
    assert across.numbers["first"] == [
        {"item_id": "i5", "title": "soap", "like": "i0", "like_title": "soap", "cosine": 1.0}
    ]
    assert [one["item_id"] for one in inside.numbers["first"]] == ["i0", "i1", "i2", "i5"]
    assert (inside.numbers["items"], inside.numbers["same_text"], inside.status) == (4, 2, WARN)
    assert check_undated_texts(judged, embeddings).numbers == {"labels": 2, "share": 1.0}


@pytest.mark.parametrize("n", [1, 2, 2500])
def test_the_nearest_other_is_that_of_a_dense_matrix(n: int) -> None:
    vectors = random_vectors(n)
    everything = np.arange(n)
    row, cosine = nearest_other(vectors, everything, everything)
    dense = vectors @ vectors.T
    np.fill_diagonal(dense, -1)
    np.testing.assert_allclose(cosine, dense.max(axis=1), atol=1e-5)
    np.testing.assert_array_equal(row, dense.argmax(axis=1) if n > 1 else [-1])
    assert nearest_other(vectors, everything, everything[:0])[0].tolist() == [-1] * n


# Chance


@pytest.mark.parametrize(("length", "relevant"), [(12, 2), (13, 1), (6, 3), (12, 12)])
def test_chance_is_that_of_all_orders(length: int, relevant: int) -> None:
    """The mean and the deviation of a list are those over every set of places that its labels can take."""
    values: dict[str, list[float]] = {"recall": [], "ndcg": []}
    for places in combinations(range(length), relevant):
        y = np.isin(np.arange(length), places)
        lists = Lists(np.zeros((length, 1), np.float32), np.array([length]), y)
        for metric, value in lists.metrics(-np.arange(length, dtype=np.float32)).items():
            values[metric.removesuffix(f"@{K}")].append(value)
    for metric, (low, high) in lists.chance().items():
        every = values[metric.removesuffix(f"@{K}")]
        assert (low + high) / 2 == pytest.approx(np.mean(every))
        assert (high - low) / 2 == pytest.approx(DEVIATIONS * np.std(every), abs=1e-6)


def test_a_column_alone() -> None:
    """Three lists: the first column finds two of them upwards, the second all downwards; a tie finds nothing."""
    pairs = Candidates(offsets_of(np.array([3, 2, 2, 2])), np.arange(9, dtype=np.int32), np.zeros((9, 1), np.int32))
    y = np.array([0, 1, 0, 1, 0, 0, 1, 0, 0], dtype=bool)  # the last list holds no label
    x = np.array([[1, 5, 2, 9, 3, 4, 4, 1, 9], [3, 1, 2, 0, 1, 8, 7, 1, 9]], np.float32).T
    assert count_first_alone(pairs, x, y).tolist() == [2, 3]
