"""What is asked of users that the bundle hardly knows: short histories in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from conftest import write_tiny_config
from worlds import DAY, catalog_of, log_of, random_vectors

from recsys.config import load_config
from recsys.engine.embeddings import Embeddings
from recsys.engine.training import SHORTENED, scorer_lists


# Short histories in training


def lists_with(share: float, tmp_path: Path, tiny_model: Path) -> tuple[np.ndarray, ...]:
    items = pl.DataFrame({"item_id": ["i0"]})
    path = write_tiny_config(tmp_path / str(share), tiny_model, items, items, features=["history_length", "scores"],
                             split={"kind": "leave_last_out"}, rules={"seen": "keep"}, cold_share=share)  # fmt: skip
    rows = [(user, (user + step) % 12, step * DAY) for user in range(80) for step in range(9)]
    return scorer_lists(load_config(path), log_of(rows), Embeddings(random_vectors(12), catalog_of(12)), 0)


def test_a_share_of_users_is_asked_again_as_if_new(tmp_path: Path, tiny_model: Path) -> None:
    x, offsets, y = lists_with(0.5, tmp_path, tiny_model)
    plain, starts, labels = lists_with(0.0, tmp_path, tiny_model)
    events = np.rint(np.expm1(x[offsets[:-1], 0])).astype(int)
    assert np.array_equal(x[: starts[-1]], plain)
    assert np.array_equal(y[: starts[-1]], labels)
    assert set(events[: len(starts) - 1]) == {8}
    short = events[len(starts) - 1 :]
    assert set(short) <= set(SHORTENED)
    assert {1, 2, 5} <= set(short)
    assert all(0 < (short == n).sum() <= 80 * 0.5 / len(SHORTENED) for n in (1, 2, 5))
