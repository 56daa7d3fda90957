"""A folder of Parquet shards with a marker that is written last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from recsys.errors import ArtifactError
from recsys.storage import atomic

SUCCESS = "_SUCCESS"
PLAN = "_PLAN.json"


class Counts(NamedTuple):
    """What a shard holds: its rows, and the users whose list has all `k` items."""

    rows: int
    full: int

    @classmethod
    def of(cls, shard: pl.LazyFrame, k: int) -> Counts:
        """Count the rows of a shard."""
        items = pl.col("items")
        lists = shard.group_by("user_id").agg(items=pl.len())
        rows, full = lists.select(rows=items.sum(), full=(items >= k).sum()).collect(engine="streaming").row(0)
        return cls(int(rows), int(full))


class Folder:
    """Shards `part-00000.parquet`, …, in a folder; `_SUCCESS` says that all of them are there.

    Args:
        folder: The folder; created where it is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder, self._k = Path(folder), 0

    @property
    def label(self) -> str:
        return str(self._folder)

    @contextmanager
    def open(self, plan: Mapping[str, Any]) -> Iterator[Folder]:
        """Begin the generation of a plan; see `recsys.sinks.base.Sink`."""
        self._k = int(plan["k"])
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / PLAN
            if path.exists():
                check_plan(path.read_text(encoding="utf-8"), plan, str(path), str(self._folder))
            elif any(self._folder.glob("*.parquet")):
                raise ArtifactError(
                    f"{self._folder} holds Parquet files that this job did not write; choose an empty folder"
                )
            else:
                atomic.write(path, json.dumps(plan))
        yield self

    def written(self) -> dict[int, Counts]:
        """Count what is in the shards that are there; see `recsys.sinks.base.Generation`."""
        return {int(path.stem[5:]): self._count(path) for path in sorted(self._folder.glob("part-*.parquet"))}

    def write(self, number: int, shard: pl.DataFrame, _: Counts) -> None:
        """Write one shard; see `recsys.sinks.base.Generation`."""
        with self._writing():
            (self._folder / SUCCESS).unlink(missing_ok=True)
            with atomic.whole(self._folder / file_of(number)) as aside:
                shard.write_parquet(aside)

    def publish(self, summary: Mapping[str, Any]) -> None:
        """Write the marker; see `recsys.sinks.base.Generation`."""
        with self._writing():
            atomic.write(self._folder / SUCCESS, json.dumps(summary))

    def _count(self, path: Path) -> Counts:
        try:
            return Counts.of(pl.scan_parquet(path), self._k)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); delete it and run again") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pl.exceptions.PolarsError) as error:
            why = atomic.why_not_written(error, self._folder)
            raise ArtifactError(
                f"could not write candidates to {self._folder}: {why}; finished files are kept"
            ) from error


def file_of(number: int) -> str:
    """The name of a shard's file."""
    return f"part-{number:05d}.parquet"


def check_plan(text: str, plan: Mapping[str, Any], path: str, out: str) -> None:
    """Refuse a place that another model or other settings began: its shards would not fit these.

    Raises:
        ArtifactError: the plan there is another one, or damaged.
    """
    try:
        earlier = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); choose an empty folder") from error
    changed = [
        f"{key} was {earlier.get(key)!r} and is {plan.get(key)!r}"
        for key in {**plan, **earlier}
        if earlier.get(key) != plan.get(key)
    ]
    if changed:
        raise ArtifactError(f"{out} holds candidates of another run: {'; '.join(changed)}; choose an empty folder")
