"""Publishes a small bundle into `published/NAME`, with the answers that the code which published it gives.

    python tests/artifacts/publish_fixture.py NAME

reads `published/NAME/config.yaml`, trains by the command line on a made-up shop with a tiny encoder, and writes
`published/NAME/bundle` and `published/NAME/expected.json` beside it. Nothing but the public API and the command line
is used, so that the script also runs with an older recsys: set `PYTHONPATH` to a checkout of that commit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "helpers"))

from tiny_bert import build_tiny_bert  # noqa: E402

from recsys import Recommender  # noqa: E402

PUBLISHED = HERE / "published"
N_ITEMS, N_USERS, K = 40, 60, 12
LOCKS = (".lock", ".turn")
START = datetime(2025, 1, 1, tzinfo=UTC)
COLOURS, KINDS = ("red", "green", "hair", "face", "nail"), ("soap", "cream", "lipstick", "shampoo")


def write_tables(folder: Path) -> None:
    """Write the shop twice: CSV with text ids and times, Parquet with integer ids and places in an order."""
    rng = np.random.default_rng(14)
    number = np.arange(N_ITEMS)
    kind, colour = number % len(KINDS), number // len(KINDS) % len(COLOURS)
    items = pl.DataFrame(
        {
            "item_id": number,
            "title": [f"{COLOURS[c]} {KINDS[k]} {n:02d}" for c, k, n in zip(colour, kind, number, strict=True)],
            "description": [f"the {KINDS[k]} for {COLOURS[c]}" for c, k in zip(colour, kind, strict=True)],
            "category": [f"Beauty > {KINDS[k]}" for k in kind],
            "brand": [None if n % 13 == 5 else "ABC"[n % 3] for n in number],
            "price": [None if n % 11 == 7 else 5.0 + n for n in number],
        }
    )
    popularity = 1 / (1 + rng.permutation(N_ITEMS))
    popularity[-2:] = 0  # nobody ever had the last two
    rows: list[tuple[int, int, float, str]] = []
    for user in range(N_USERS):
        taste = rng.integers(len(KINDS))
        own: list[int] = []
        day = rng.uniform(0, 60)
        while day < 120 and len(own) < 24:
            if own and rng.random() < 0.25:
                item = int(rng.choice(own))
            else:
                weight = popularity * np.where(kind == taste, 8, 1)
                item = int(rng.choice(N_ITEMS, p=weight / weight.sum()))
            rows.append((user, item, day, "view" if rng.random() < 0.2 else "purchase"))
            own.append(item)
            day += 0.2 + rng.exponential(8)
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "day", "event"], orient="row").sort("day")
    times = [(START + timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%SZ") for day in events["day"]]
    items.with_columns(pl.format("i{}", pl.col("item_id"))).write_csv(folder / "items.csv")
    events.select(
        pl.format("u{}", pl.col("user_id")), pl.format("i{}", pl.col("item_id")), pl.Series("timestamp", times), "event"
    ).write_csv(folder / "events.csv")
    items.write_parquet(folder / "items.parquet")
    events.select("user_id", "item_id", pl.int_range(pl.len()).alias("timestamp"), "event").write_parquet(
        folder / "events.parquet"
    )


def answers(recommender: Recommender) -> dict[str, Any]:
    """Ask a recommender for all that `expected.json` holds."""
    numbered = recommender.user_ids.dtype.is_integer()
    known = [recommender.user_ids[row] for row in (0, 7, 23, len(recommender.user_ids) - 1)]
    cold = 999_999 if numbered else "nobody"
    items = recommender.catalog.ids
    pairs = [items[row] for row in (0, 3, 17, N_ITEMS - 1)]
    return {
        "recommend": [_recommended(recommender, user) for user in (*known, cold)],
        "score": [{"user_id": user, "items": _rows(recommender.score(user, pairs))} for user in (known[0], cold)],
        "similar_items": {"item_id": pairs[1], "items": _rows(recommender.similar_items(pairs[1], 5).drop("title"))},
    }


def _recommended(recommender: Recommender, user: Any) -> dict[str, Any]:
    answer = recommender.recommend(user, K)
    rows = [(item.item_id, _plain(item.score), _plain(getattr(item, "probability", None))) for item in answer.items]
    return {"user_id": user, "fallback": answer.fallback, "items": [row[: _width(rows)] for row in rows]}


def _rows(frame: pl.DataFrame) -> list[list[Any]]:
    rows = [[row[0], *map(_plain, row[1:])] for row in frame.iter_rows()]
    return [row[: _width(rows)] for row in rows]


def _width(rows: list[Any]) -> int:
    """Leave out probabilities where there are none at all."""
    return 2 if all(len(row) > 2 and row[2] is None for row in rows) else 3


def _plain(number: float | None) -> float | None:
    return None if number is None else round(float(number), 7)


def publish(folder: Path) -> None:
    """Train what `folder/config.yaml` says, and put bundle and answers beside it."""
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        write_tables(work)
        build_tiny_bert(work / "tiny")
        shutil.copy(folder / "config.yaml", work)
        command = [sys.executable, "-c", "from recsys.cli import main; main()", "train", "config.yaml"]
        version = subprocess.run(command, cwd=work, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        root = (work / version).parent.parent
        shutil.rmtree(folder / "bundle", ignore_errors=True)
        (folder / "bundle").mkdir()
        shutil.copy(root / "CURRENT", folder / "bundle")
        shutil.copytree(root / "versions", folder / "bundle" / "versions")
        told = json.dumps(answers(Recommender.load(root)), ensure_ascii=False)
    lines = told.replace('"score": [{"user', '\n"score": [{"user').replace('"similar', '\n"similar')
    (folder / "expected.json").write_text(lines.replace('{"user_id"', '\n {"user_id"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    publish(PUBLISHED / sys.argv[1])
