"""A run that names people in every way, and a second, simpler scan for them."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from recsys import Recommender, forget
from recsys.artifacts import bundle
from recsys.config import Config, load_config
from recsys.privacy.forget import Forgotten

GONE, ALIKE = "u383", "u38"


@dataclass(frozen=True)
class Run:
    """A run's config and where it publishes."""

    config: Config
    path: Path

    @property
    def root(self) -> Path:
        return self.config.folder

    @property
    def vectors(self) -> Path:
        return self.root.parent / "vectors"

    def forget(self, *users: object, **rest: object) -> Forgotten:
        return forget(self.root, users, **rest)  # type: ignore[arg-type]

    def moved(self, folder: Path) -> Run:
        """Copy everything that the run wrote to another folder."""
        shutil.copytree(self.root.parent, folder / "artifacts")
        raw = yaml.safe_load(self.path.read_text(encoding="utf-8")) | {"output": str(folder / "artifacts")}
        path = folder / "shop.yaml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return Run(load_config(path), path)


def republished(root: Path, loaded: bundle.Bundle, users: pl.DataFrame | None = None) -> Path:
    """Publish a version again as a new one, or with other users in the rows."""
    about = {key: loaded.manifest[key] for key in ("name", "config", "encoder", "data_window", "counts", "seconds")}
    tables = dict(loaded.tables) if users is None else dict(loaded.tables) | {"users": users}
    return bundle.publish(root, loaded.arrays, tables, about)


def naming(folder: Path, user: str) -> list[Path]:
    """Files in which a user's id stands alone: Parquet cell by cell, everything else byte by byte."""
    alone = re.compile(rb"(?<![A-Za-z0-9])" + re.escape(user.encode()) + rb"(?![A-Za-z0-9])")
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            if any(user in column.cast(pl.String).to_list() for column in frame):
                found.append(path)
        elif alone.search(path.read_bytes()):
            found.append(path)
    return found


LOCKS = (".lock", ".lock-holder", ".turn")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in LOCKS}  # fmt: skip


def answers(recommender: Recommender, users: list[object]) -> list[object]:
    found = [recommender.recommend(user, k=20).to_dict() for user in users]
    return [{key: value for key, value in answer.items() if key not in ("model_version", "request_id")}
            for answer in found]  # fmt: skip


def store_keys(folder: Path) -> set[bytes]:
    shards = [np.load(path) for path in folder.glob("*/*.npy")]
    return {bytes(key) for shard in shards for key in shard["key"]}


def texts_of(recommender: Recommender, user: str, newest: int) -> set[bytes]:
    """Keys of the behaviour text after every event of a user, written down anew."""
    titles = recommender.history(user)["title"].to_list()[::-1]
    beginnings = (titles[:n] for n in range(1, len(titles) + 1))
    texts = {" ; ".join(list(dict.fromkeys(past[::-1]))[:newest]) for past in beginnings}
    return {hashlib.sha256(text.encode()).digest().rstrip(b"\0") for text in texts}
