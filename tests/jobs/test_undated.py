"""A log without times: what is said of the order of its rows, and a holdout that does not look at it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from shops import ROOT, write_tiny_config

from recsys import evaluate
from recsys.audit.audit import check_dates
from recsys.cli.views import evaluation
from recsys.config import Config, load_config
from recsys.jobs.check import check_run
from recsys.jobs.ingest import ingest
from recsys.tables.split import holdout

ITEMS = pl.read_csv(ROOT / "data" / "shop" / "items.csv").head(60)


def undated(folder: Path, model: Path, **split: object) -> Config:
    """Each user's items in the order of their ids, as an export sorted by user and item has them."""
    rng = np.random.default_rng(1)
    taken = [np.sort(rng.choice(len(ITEMS), 6, replace=False)) for _ in range(80)]
    ids = ITEMS["item_id"].sort()
    events = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{row:03d}" for row in range(80)], 6),
            "item_id": ids[np.concatenate(taken)],
            "timestamp": np.arange(480),
        }
    )
    return load_config(write_tiny_config(folder, model, ITEMS, events, split=split))


def test_evaluate_says_what_hangs_on_the_order_of_rows(tmp_path: Path, tiny_model: Path) -> None:
    as_it_stands = evaluate(undated(tmp_path / "a", tiny_model, kind="leave_last_out"))
    order = as_it_stands["row_order"]
    assert (order["clock"], order["users"]) == ("order", 80)
    assert order["as_it_stands"] > order["shuffled"]
    said = " ".join(part for part in evaluation(as_it_stands) if isinstance(part, str))
    assert "the order of its rows decides which event of a user is held out" in said
    drawn = evaluate(undated(tmp_path / "b", tiny_model, kind="random"))
    assert "row_order" not in drawn
    assert drawn["users"] == 80


def test_a_random_holdout_is_drawn_by_its_seed(tmp_path: Path, tiny_model: Path) -> None:
    def labels(name: str, **split: object) -> list[int]:
        config = undated(tmp_path / name, tiny_model, kind="random", **split)
        fold = holdout(ingest(config).interactions, config.split)
        assert all(found.status == "OK" for found in check_dates(fold, 0, "order"))
        return [int(item) for item in fold.labels.item]

    first = labels("a")
    assert first == labels("b", seed=0)
    assert first != labels("c", seed=1)
    ordered = undated(tmp_path / "d", tiny_model, kind="leave_last_out")
    last = holdout(ingest(ordered).interactions, ordered.split)
    assert np.mean(first) < np.mean(last.labels.item) - 10  # any of six ids against the greatest
    findings = check_run(undated(tmp_path / "e", tiny_model, kind="random"))
    assert any("80 labels of 80 users" in found.text for found in findings)


@pytest.mark.parametrize("kind", ["leave_last_out", "random"])
def test_the_log_itself_is_the_same(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    log = ingest(undated(tmp_path, tiny_model, kind=kind)).interactions
    assert (log.time == np.sort(log.time)).all()
    assert (np.bincount(log.user) == 6).all()
