"""Tuning: never worse on validation, blind to the test events, repeatable by its seed, honest about its budget."""

from __future__ import annotations

import itertools
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
import pytest
import yaml
from members import add_member, drop_member
from shops import write_tiny_config
from worlds import shop_state

from recsys import Recommender, evaluate, tune
from recsys.cli import main, views
from recsys.cli.console import show
from recsys.config import Choice, Config, Range, load_config
from recsys.engine.embeddings import embed
from recsys.engine.training import fit_anew
from recsys.errors import ConfigError
from recsys.jobs import ingest as ingest_job
from recsys.jobs import tune as tuning
from recsys.jobs.search_space import Setting, Space, settings_of
from recsys.jobs.tune import Bench, FitCache, changed
from recsys.ranking.scorers.logistic import Logistic
from recsys.ranking.scorers.registry import SCORERS
from recsys.retrieval.covisitation import Covisitation
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.semantic import Semantic
from recsys.tables.split import holdout

USERS, ITEMS, STEPS = 60, 20, 8
METRIC = "ndcg@10"
AMPLE = 1e6  # seconds: trials are what ends a search here, however busy the machine is


def walks(other_last: bool = False) -> pl.DataFrame:
    """Users walk a ring of items, one step or two at a time; with `other_last` each one's last item is another."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(USERS):
        place = int(rng.integers(ITEMS))
        for step in range(STEPS):
            rows.append((f"u{user:02d}", f"i{place % ITEMS:02d}", step))
            place += int(rng.integers(1, 3))
        if other_last:
            rows[-1] = (f"u{user:02d}", f"i{(place + 9) % ITEMS:02d}", STEPS - 1)
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def write_ring(folder: Path, model: Path, **changes: object) -> Path:
    """A config of the ring that starts badly: its co-visitation looks far, backwards, and at one item's past alone."""
    items = pl.DataFrame(
        {
            "item_id": [f"i{n:02d}" for n in range(ITEMS)],
            "title": [f"soap {n}" for n in range(ITEMS)],
            "category": [f"c{n % 3}" for n in range(ITEMS)],
        }
    )
    other_last = bool(changes.pop("other_last", False))
    retrievers = {"covisitation": {"depth": 12, "window": 7, "backward": 1.0, "decay": 1.0}, "popularity": {"depth": 6}}
    features = ["scores", "log_popularity", "category_share"]
    changes = {"retrievers": retrievers, "features": features} | changes
    return write_tiny_config(folder, model, items, walks(other_last), **changes)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return write_ring(tmp_path_factory.mktemp("ring"), tiny_model)


@pytest.fixture(scope="module")
def tuned(ring: Path) -> tuning.Tuned:
    return tune(load_config(ring), AMPLE, trials=12)


def trials_of(found: tuning.Tuned) -> list[tuple[dict[str, Any], float | None]]:
    return [(trial.changes, trial.ndcg) for trial in found.trials]


# The choice


def test_the_first_trial_is_the_config_and_the_choice_is_the_best(tuned: tuning.Tuned) -> None:
    assert tuned.trials[0].changes == {}
    assert all(trial.changes for trial in tuned.trials[1:])
    values = [trial.ndcg for trial in tuned.trials]
    assert values[tuned.chosen] == max(values) > values[0]
    assert tuned.difference["mean"] == pytest.approx(max(values) - values[0])
    assert tuned.difference["low"] <= tuned.difference["mean"] <= tuned.difference["high"]
    assert tuned.users == USERS


def test_each_trial_is_what_evaluate_says_on_validation(ring: Path, tuned: tuning.Tuned) -> None:
    start, best = tuned.trials[0], tuned.trials[tuned.chosen]
    for config, trial in ((load_config(ring), start), (tuned.config, best)):
        assert evaluate(config, validation=True)["metrics"]["engine"][METRIC] == pytest.approx(trial.ndcg, abs=1e-6)


def test_the_written_config_loads_and_keeps_what_was_not_tuned(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = write_ring(tmp_path, tiny_model)
    text = original.read_text(encoding="utf-8").replace(str(tmp_path), "${RING}")
    original.write_text(f"# a comment\n{text}", encoding="utf-8")
    monkeypatch.setenv("RING", str(tmp_path))
    found = tune(load_config(original), AMPLE, trials=4)
    out = tmp_path / "new" / "chosen.yaml"
    found.write(original, out)
    assert load_config(out) == found.config
    written = out.read_text(encoding="utf-8")
    assert str(tmp_path) not in written
    assert written.count("${RING}") == text.count("${RING}")
    start, best = found.trials[0].ndcg, found.trials[found.chosen].ndcg
    head = " ".join(line for line in written.splitlines() if line.startswith("#"))
    assert f"Validation {METRIC}, {USERS} users: {start:.4f} before, {best:.4f} after" in head
    assert re.search(r"# shop\.yaml, tuned on \d{4}-\d\d-\d\d by 4 trials in \d+ seconds \(budget 1000000\)\.", head)
    assert original.read_text(encoding="utf-8") == f"# a comment\n{text}"


def test_the_test_events_never_matter(tmp_path: Path, tiny_model: Path, tuned: tuning.Tuned) -> None:
    other = load_config(write_ring(tmp_path, tiny_model, other_last=True))
    blind = tune(other, AMPLE, trials=12)
    assert trials_of(blind) == trials_of(tuned)
    here, there = (evaluate(found.config)["metrics"]["engine"][METRIC] for found in (tuned, blind))
    assert here > 2 * there


def test_the_seed_decides_the_trials(ring: Path, tuned: tuning.Tuned) -> None:
    config = load_config(ring)
    again = tune(config, AMPLE, trials=5)
    assert trials_of(again) == trials_of(tuned)[:5]
    other = tune(config.model_copy(update={"seed": 8}), AMPLE, trials=5)
    assert [trial.changes for trial in other.trials[1:]] != [trial.changes for trial in again.trials[1:]]


def test_at_most_one_feature_is_left_out(ring: Path, tuned: tuning.Tuned) -> None:
    names = load_config(ring).features
    drawn = [trial.changes["features"] for trial in tuned.trials if "features" in trial.changes]
    assert drawn
    assert all(len(some) == len(names) - 1 and set(some) < set(names) for some in drawn)


def test_all_trials_are_on_disk(ring: Path) -> None:
    found = tune(load_config(ring), AMPLE, trials=3)
    stored = json.loads((load_config(ring).folder / "tuning.json").read_text(encoding="utf-8"))
    assert stored == found.to_dict()
    assert [(t["trial"], t["changes"], t[METRIC]) for t in stored["trials"]] == [
        (number, *trial) for number, trial in enumerate(trials_of(found))
    ]
    assert stored["before"].keys() == {path for trial in found.trials for path in trial.changes}


def test_a_sample_of_users_judges_the_same_ones_each_time(ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "JUDGED_USERS", 20)
    first, second = (tune(load_config(ring), AMPLE, trials=2) for _ in range(2))
    assert first.users == 20
    assert trials_of(first) == trials_of(second)


# The budget


@pytest.mark.parametrize(("budget", "most", "expected"), [(10, None, 3), (9, None, 3), (8.9, None, 2), (90, 4, 4)])
def test_no_trial_begins_that_would_overrun(
    ring: Path, monkeypatch: pytest.MonkeyPatch, budget: float, most: int | None, expected: int
) -> None:
    """A clock that each look moves by a second: a trial looks three times."""
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    shown: list[tuple[str, int, int]] = []
    found = tune(load_config(ring), budget, lambda *step: shown.append(step), trials=most)
    assert len(found.trials) == expected
    assert (found.seconds, found.budget_seconds) == (3 * expected, budget)
    assert shown[-1] == ("tuning, seconds", 3 * expected, round(budget))


def test_a_budget_for_one_trial_chooses_the_config_as_it_stands(ring: Path) -> None:
    found = tune(load_config(ring), 1e-6)
    assert (len(found.trials), found.chosen, found.config) == (1, 0, load_config(ring))
    assert found.difference == {"mean": 0, "low": 0, "high": 0}


# The cache


def bench_of(config: Config) -> Bench:
    tables = ingest_job.ingest(config)
    return Bench.of(
        config,
        holdout(tables.interactions, config.split),
        embed(config.embedding, tables.catalog, config.vector_folder),
    )


def test_the_cache_changes_nothing(ring: Path, tuned: tuning.Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(ring)
    cached = bench_of(config)
    anew = replace(cached, fitter=fit_anew)
    expected = [anew.attempt(config, trial.changes)[1] for trial in tuned.trials]
    for number, trial in enumerate(tuned.trials):
        np.testing.assert_array_equal(cached.attempt(config, trial.changes)[1], expected[number])
    monkeypatch.setattr(tuning, "CACHE_BYTES", 0)
    np.testing.assert_array_equal(replace(cached, fitter=FitCache()).attempt(config, {})[1], expected[0])


def test_only_what_is_learnt_is_fitted_again(ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, fits, matrix = load_config(ring).model_copy(update={"new_share": 0}), [], Covisitation.matrix

    def counted(self: Covisitation, state: Any) -> Any:
        fits.append(len(state.interactions))
        return matrix(self, state)

    monkeypatch.setattr(Covisitation, "matrix", counted)
    bench = bench_of(config)
    bench.attempt(config, {})
    cuts = [USERS * (STEPS - 3), USERS * (STEPS - 2)]  # the scorer's cut, and all known at the validation cut
    assert fits == cuts
    bench.attempt(config, {"scorer.c": 10.0, "retrievers.covisitation.decay": 0.5})
    bench.attempt(config, {"retrievers.covisitation.depth": 9, "features": ["scores"], "history": 100})
    assert fits == cuts
    bench.attempt(config, {"retrievers.covisitation.window": 1})
    assert fits == 2 * cuts


def test_a_full_cache_forgets_what_was_not_asked_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    state, fits, fit = shop_state(), [], Popularity.fit

    def counted(self: Popularity, state: Any) -> Any:
        fits.append(self.half_life_days)
        return fit(self, state)

    monkeypatch.setattr(Popularity, "fit", counted)
    monkeypatch.setattr(tuning, "CACHE_BYTES", 2 * 4 * len(state.catalog))  # two counts in float32
    cache = FitCache()
    for days in (7.0, 14.0, 7.0, 28.0, 7.0, 14.0):
        cache(Popularity(half_life_days=days), state)
    assert fits == [7, 14, 28, 14]


@pytest.mark.parametrize("kind", RETRIEVERS)
def test_what_has_a_range_takes_no_other_fit(kind: str) -> None:
    """The contract of `Range` in a retriever: one fit serves every value."""
    state = shop_state()
    retriever = RETRIEVERS[kind]()
    for setting in settings_of("", retriever):
        for value in (setting.span.low, setting.span.high) if isinstance(setting.span, Range) else ():
            other = replace(retriever, **{setting.path: type(setting.start)(value)})
            own, theirs = retriever.fit(state).arrays(), other.fit(state).arrays()
            assert own.keys() == theirs.keys()
            for name, array in own.items():
                np.testing.assert_array_equal(array, theirs[name], err_msg=f"{setting.path} {value}")


# The space


def test_what_was_set_on_purpose_is_left_alone() -> None:
    paths = {setting.path for setting in settings_of("", Covisitation(depth=0, decay=0, newest=1))}
    assert paths == {"window", "backward"}
    assert settings_of("", Popularity(depth=0)) == []
    assert {setting.path for setting in settings_of("", Semantic())} == {"depth", "decay", "newest"}


def test_bounds_and_choices_stand_beside_the_settings() -> None:
    found = {setting.path: setting for setting in settings_of("retrievers.own", Covisitation(depth=100, window=7))}
    assert found["retrievers.own.depth"].span == Range(50, 200, log=True)
    assert found["retrievers.own.decay"].span == Range(0.3, 1)
    assert found["retrievers.own.window"] == Setting("retrievers.own.window", 7, Choice((7, 1, 2, 5, 10, 20)))


def test_a_single_feature_is_never_left_out(ring: Path) -> None:
    config = load_config(ring).model_copy(update={"features": ["scores"]})
    assert "features" not in Space.of(config).before


def test_changes_leave_the_original_and_its_shared_sections_alone() -> None:
    raw = yaml.safe_load("retrievers: {one: &same {depth: 5}, two: *same}\nfeatures: [scores]")
    new = changed(raw, {"retrievers.one.depth": 9, "history": 50})
    assert new == {"retrievers": {"one": {"depth": 9}, "two": {"depth": 5}}, "features": ["scores"], "history": 50}
    assert raw["retrievers"]["one"]["depth"] == 5


# Trouble


@dataclass(frozen=True)
class Unready:
    """A scorer whose package is not installed."""

    name: ClassVar[str] = "unready"
    needs: ClassVar[dict[str, str]] = {}

    strength: Annotated[float, Range(0.1, 10)] = 1.0
    negatives: int = 0

    def fit(self, *args: Any) -> Any:
        raise ConfigError("scorer 'unready' needs a package that is not installed")


@dataclass(frozen=True)
class Fixed(Logistic):
    """A scorer without anything to tune."""

    c: float = 1.0
    knots: tuple[float, ...] = ()


def test_a_trial_that_fails_is_told_and_the_rest_go_on(ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, member in (("unready", Unready), ("fixed", Fixed)):
        add_member(monkeypatch, SCORERS, name, member)
    for name in ("mlp", "gbdt"):
        drop_member(monkeypatch, SCORERS, name)
    found = tune(load_config(ring), AMPLE, trials=16)
    failed = [trial for trial in found.trials if trial.error]
    assert 0 < len(failed) < 16
    for trial in found.trials:
        unready = trial.changes.get("scorer", {}).get("kind") == "unready"
        assert trial.error == ("scorer 'unready' needs a package that is not installed" if unready else "")
        assert (trial.ndcg is None) == unready
        assert trial.changes.get("scorer", {}).get("kind") != "fixed"
    assert found.config.scorer["kind"] == "logistic"
    with pytest.raises(ConfigError, match="scorer 'unready' needs a package that is not installed"):
        tune(load_config(ring).model_copy(update={"scorer": {"kind": "unready"}}), AMPLE, trials=8)


@pytest.mark.parametrize("budget", [0, -5, float("nan")])
def test_a_budget_must_be_positive(ring: Path, budget: float) -> None:
    with pytest.raises(ConfigError, match=f"must be more than 0 seconds, and is {budget:g}: try 600"):
        tune(load_config(ring), budget)


def test_at_least_one_trial(ring: Path) -> None:
    with pytest.raises(ConfigError, match="tuning needs at least 1 trial, and is allowed 0: the first is the config"):
        tune(load_config(ring), AMPLE, trials=0)


def test_without_optuna_it_says_what_to_install(ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ConfigError, match=re.escape("tuning needs optuna, which is not installed: pip install 'recsys[tune]'")
    ):
        tune(load_config(ring), AMPLE)


# The command line


def recsys(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())


def test_train_tune_publishes_the_choice(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_ring(tmp_path, tiny_model)
    code, out, err = recsys(capsys, "train", path, "--tune", "--budget", "999h", "--trials", 3, "--json")
    assert code == 0, err
    answer = json.loads(out)
    chosen = load_config(answer["tuning"]["config"])
    assert answer["tuning"]["config"] == str(chosen.folder / "tuned.yaml")
    assert answer["tuning"]["budget_seconds"] == 999 * 3600
    assert len(answer["tuning"]["trials"]) == 3
    assert Recommender.load(answer["bundle"]).config == chosen


def test_train_tune_shows_trials_and_gain(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, chosen = write_ring(tmp_path, tiny_model), tmp_path / "chosen.yaml"
    code, out, err = recsys(capsys, "train", path, "--tune", "--trials", 4, "--out", chosen)
    assert code == 0, err
    lines = out.splitlines()
    assert re.match(r"shop: 4 trials in \d+ of 600 seconds, validation only; chosen in bold", lines[0])
    assert re.match(r" +0 +0\.\d{4} +\d+\.\d +nothing", lines[2])
    stored = json.loads((load_config(path).folder / "tuning.json").read_text(encoding="utf-8"))
    start, best = stored["start"][METRIC], stored["chosen"][METRIC]
    assert f"{METRIC} for {USERS} users: {start:.4f} before, {best:.4f} after, difference " in " ".join(out.split())
    assert Path(lines[-1]).parent == load_config(path).folder / "versions"
    assert load_config(chosen).folder == load_config(path).folder


def shown(found: tuning.Tuned, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    show(*views.tuning(found.to_dict() | {"config": "chosen.yaml"}))
    return " ".join(capsys.readouterr().out.split())


def test_a_person_sees_what_each_trial_changed(tuned: tuning.Tuned, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(tuned, capsys)
    dropped = [{"scores", "log_popularity", "category_share"}.difference(t.changes["features"])
               for t in tuned.trials if "features" in t.changes]  # fmt: skip
    assert dropped
    assert all(f"features without {name}" in out for (name,) in dropped)
    plain = {
        path: value for path, value in tuned.trials[tuned.chosen].changes.items() if isinstance(value, int | float)
    }
    assert plain
    assert all(f"{path} {tuned.before[path]} {value}" in out for path, value in plain.items())
    kept = shown(replace(tuned, chosen=0), capsys)
    assert "No trial did better than the config as it stands: so is chosen.yaml." in kept
    failed = shown(replace(tuned, trials=[*tuned.trials, tuning.Trial({}, 1.0, error="no [items]")]), capsys)
    assert "12 failed 1.0 no [items]" in failed


@pytest.mark.parametrize("text", ["10x", "0m", "-5m", "m", "ten", "10"])
def test_a_time_is_a_number_and_a_unit(ring: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    code, out, err = recsys(capsys, "train", ring, "--tune", f"--budget={text}")
    assert (code, out) == (2, "")
    assert f"'{text}' is not a time: write a number above 0 and s, m or h, such as 90s or 10m" in err


def test_how_to_tune_needs_tune(ring: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (("--budget", "10m"), ("--trials", 3), ("--out", "chosen.yaml")):
        code, out, err = recsys(capsys, "train", ring, *option)
        assert (code, out) == (2, "")
        assert "--budget, --trials and --out say how to tune: add --tune" in err
