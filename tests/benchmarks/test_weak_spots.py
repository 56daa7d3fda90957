"""Weak spots: what the benchmark hides stays hidden, and text finds what it can be proved to find."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from shops import write_shop_config
from worlds import adding_model, catalog_of, log_of, random_vectors

from benchmarks.quality import report, weak_spots
from benchmarks.quality.tasks import TASKS, Recipe
from recsys.arrays import unit_rows
from recsys.config import parse_config
from recsys.engine.embeddings import Embeddings
from recsys.errors import DataError
from recsys.jobs.evaluate import judge
from recsys.progress import quiet
from recsys.tables.split import holdout
from recsys.types import State

CONFIG = parse_config({
    "name": "cold",
    "data": {"catalog": {}, "interactions": {}, "clock": "order"},
    "split": {"kind": "leave_last_out"},
    "retrievers": {"semantic": {"depth": 10}},
    "features": ["scores"],
    "scorer": {"kind": "logistic"},
    "evaluation": {"k": [weak_spots.K], "baselines": weak_spots.AGAINST},
})  # fmt: skip
RIGHT, WRONG = ({f"recall@{weak_spots.K}": value, f"ndcg@{weak_spots.K}": value} for value in (1, 0))


def twins(n_items):
    """Items 2 n and 2 n + 1 are nearly alike in text, and no others are."""
    noise = np.random.default_rng(0).normal(size=(n_items, 64)) / 100
    return Embeddings(unit_rows(np.float32(random_vectors(n_items, 64)[np.arange(n_items) // 2] + noise)),
                      catalog_of(n_items))  # fmt: skip


def model_at(fold, embeddings):
    return adding_model(CONFIG, State(embeddings.catalog, fold.known, embeddings.items, fold.as_of))


HEAD, STAR = 12, 12  # items 0 to 11: everyone had them; item 12: most of the others did


def test_users_are_known_by_their_newest_events_and_what_they_had_stays_blocked():
    rows = [(user, item, item) for user in range(20) for item in range(HEAD)]
    rows += [(user, STAR, HEAD) for user in range(2, 20)]
    rows += [(user, 14 + 2 * user, 20 + time) for user in range(20) for time in range(5)]
    rows += [(user, STAR if user < 2 else 15 + 2 * user, 30) for user in range(20)]  # the star, or the newest's twin
    rows += [(20, 0, 0), (20, 55, 1)]  # too few events to be measured
    fold, embeddings = holdout(log_of(rows), CONFIG.split), twins(56)
    model = model_at(fold, embeddings)
    measured = weak_spots.cold_users(CONFIG, fold, embeddings, model, quiet)
    assert list(measured) == ["0 events", "1 event", "2 events", "5 events"]
    assert set(measured["0 events"]) == {"engine", *weak_spots.AGAINST}
    found = {"recall@10": pytest.approx(0.1), "ndcg@10": pytest.approx(0.1)}
    for model_name in measured["0 events"]:
        assert measured["0 events"][model_name] == found, (
            "the head is blocked, the star leads; it is the target of two of twenty"
        )
    for events in ("1 event", "2 events", "5 events"):
        assert measured[events]["popularity"] == found
        assert measured[events]["text"] == measured[events]["engine"]
        assert measured[events]["text"]["ndcg@10"] >= 0.9


N_NEW, OTHERS = 12, 120


def new_world():
    """The first buyers of each item want something else next; later ones come from its twin to it."""
    rows = [(item, item, 0) for item in range(OTHERS)] + [(item, (item + 7) % OTHERS, 1) for item in range(OTHERS)]
    rows += [(OTHERS + item, item ^ 1, 0) for item in range(OTHERS)]
    rows += [(OTHERS + item, item, 1) for item in range(OTHERS)]
    return holdout(log_of(rows), CONFIG.split), twins(OTHERS)


def test_new_items_are_hidden_from_everything_and_are_the_only_targets():
    fold, _ = new_world()
    hidden, new = weak_spots.hide(fold, OTHERS, seed=1)
    assert new.sum() == N_NEW == round(weak_spots.HIDDEN * OTHERS)
    assert len(hidden.known) == (~new[fold.known.item]).sum()
    assert not new[hidden.known.item].any()
    assert len(hidden.labels) == new[fold.labels.item].sum() > 0
    assert new[hidden.labels.item].all()
    rows = [(0, 1, 0), (0, 2, 1), (1, 1, 0), (1, 2, 1), (0, 1, 2), (1, 0, 2), (2, 0, 0), (2, 1, 1)]
    again = holdout(log_of(rows), CONFIG.split)  # user 0 has item 1 again, user 2 for the first time
    for seed in range(5):
        hidden, new = weak_spots.hide(again, 3, seed)
        assert hidden.labels.user.tolist() == ([2] if new[1] else [1] if new[0] else [])


def test_text_finds_new_items_where_popularity_cannot():
    fold, embeddings = new_world()
    hidden, new = weak_spots.hide(fold, OTHERS, seed=1)
    from_twin = (hidden.labels.user >= OTHERS) & ~new[hidden.labels.item ^ 1]
    hidden = replace(hidden, labels=hidden.labels.take(from_twin))
    assert len(hidden.labels) >= 8
    model = model_at(hidden, embeddings)
    everywhere = weak_spots.figures(judge(CONFIG.evaluation, CONFIG.data.clock, hidden, embeddings, model))
    assert everywhere == {"engine": RIGHT, "popularity": WRONG, "text": RIGHT}
    among = weak_spots.figures(weak_spots.among_new(CONFIG, hidden, embeddings, model, new))
    chance = among.pop("random")
    assert among == everywhere, "nobody had any of them: to popularity all are equal, and a tie is no merit"
    assert 0.1 < chance["ndcg@10"] < 0.8


def test_the_command(tmp_path, tiny_model, monkeypatch, capsys):
    (tmp_path / "configs").mkdir()
    write_shop_config(tmp_path / "configs", tiny_model, retrievers={"semantic": {"depth": 60}, "repeat": {"depth": 30}})
    monkeypatch.setitem(TASKS, "shop", Recipe("shop", "The made-up shop", "keep"))
    monkeypatch.setattr(weak_spots, "DATA_SETS", ["beauty", "shop"])
    monkeypatch.setattr("sys.argv", ["weak_spots", "--data", str(tmp_path), "--validation"])
    monkeypatch.chdir(tmp_path)
    weak_spots.main()
    out, err = capsys.readouterr()
    assert f"beauty: left out, the folder {tmp_path / 'beauty'} is not there" in err
    file = tmp_path / "artifacts" / "quality" / "weak_spots_validation.json"
    results = json.loads(file.read_text())
    assert list(results) == ["shop"]
    shop = results["shop"]
    assert list(shop["users"]) == ["0 events", "1 event", "2 events", "5 events"]
    assert list(shop["items"]) == ["among all items", "among new items only"]
    assert shop["counts"]["new items"] == 32
    assert 0 < shop["counts"]["users asked with fewer events"] <= 600
    assert sum(loss["share"] for loss in shop["losses"].values()) == pytest.approx(1)
    assert shop["losses"]["removed by a rule"]["share"] == 0, "seen items are kept"
    candidates = shop["losses"]["ranked below 10"]["share"] + shop["losses"]["in the list"]["share"]
    assert shop["candidate_recall"] == pytest.approx(candidates)
    assert report.weak_spots(results) in out

    shop["candidate_recall"] = 0.125
    file.write_text(json.dumps(results))
    monkeypatch.setattr(weak_spots, "measure", refuse)
    weak_spots.main()
    assert "| targets among the candidates | 12.5% |" in capsys.readouterr().out, "what is measured is shown as it was"
    monkeypatch.setattr("sys.argv", [*sys.argv, "--tasks", "shop", "--again"])
    with pytest.raises(DataError, match="asked to measure shop"):
        weak_spots.main()


def refuse(config, *_):
    raise DataError(f"asked to measure {config.name}")


def test_the_page_has_a_column_a_data_set_and_a_column_a_model(tmp_path):
    loss = {"share": 0.25, "low": 0.2, "high": 0.3}
    figures = {"engine": {"recall@10": 0.5, "ndcg@10": 0.25}, "text": {"recall@10": 0.125, "ndcg@10": 0}}
    among_new = figures | {"random": {"recall@10": 0.01, "ndcg@10": 0.005}}
    one = {
        "counts": {"items": 1200, "new items": 120},
        "losses": {"cut by depth": loss},
        "candidate_recall": 0.75,
        "users": {"0 events": figures},
        "items": {"among all items": figures, "among new items only": among_new},
    }
    report.write(tmp_path / "page.md", [], "", {"beauty": one, "shop": one | {"candidate_recall": 0.5}})
    page = (tmp_path / "page.md").read_text()
    for line in (
        "| stage | beauty | shop |",
        "| cut by depth | 25.0% (20.0% to 30.0%) | 25.0% (20.0% to 30.0%) |",
        "| targets among the candidates | 75.0% | 50.0% |",
        "### Cold start: shop",
        "1,200 items, 120 new items.",
        "| what is known of users | engine | text |",
        "| 0 events | 0.5000 / 0.2500 | 0.1250 / 0.0000 |",
        "| new items | engine | text | random |",
        "| among all items | 0.5000 / 0.2500 | 0.1250 / 0.0000 |  |",
        "| among new items only | 0.5000 / 0.2500 | 0.1250 / 0.0000 | 0.0100 / 0.0050 |",
    ):
        assert f"\n{line}\n" in page
    report.write(tmp_path / "other.md", [], "", {})
    assert "Cold start" not in (tmp_path / "other.md").read_text()
