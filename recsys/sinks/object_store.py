"""Parquet shards in an object store: S3, Google Cloud Storage, Azure."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from recsys.connections import Connection
from recsys.errors import ArtifactError
from recsys.extras import require
from recsys.sinks.base import SINKS, Plan
from recsys.sinks.folder import PLAN, SUCCESS, Counts, check_plan, file_of


@SINKS.register
@dataclass(frozen=True)
class ObjectStore:
    """As a folder: `part-00000.parquet`, …, and `_SUCCESS` last. The store's own variables hold its keys.

    A name of its own makes a folder below the URL.
    """

    name: ClassVar[str] = "object_store"
    schemes: ClassVar[tuple[str, ...]] = ("s3", "gs", "az", "abfs", "abfss")

    connection: Connection

    @classmethod
    def connect(cls, connection: Connection, name: str) -> ObjectStore:
        require("cloud", f"writing to {connection.scheme}:")
        return cls(connection)

    @property
    def label(self) -> str:
        return self.connection.name

    @contextmanager
    def open(self, plan: Plan) -> Iterator[_Generation]:
        from obstore.store import from_url

        with self.connection.errors(ArtifactError, "cannot be written"):
            begun = _Generation(from_url(self.connection.url), self.connection, int(plan["k"]))
            begun.begin(plan)
        yield begun


class _Generation:
    def __init__(self, store: Any, connection: Connection, k: int) -> None:
        self._store, self._connection, self._k = store, connection, k

    def begin(self, plan: Plan) -> None:
        label = self._connection.name
        try:
            there = bytes(self._store.get(PLAN).bytes())
        except FileNotFoundError:
            if any(path.endswith(".parquet") for path in self._sizes()):
                raise ArtifactError(
                    f"{label} holds Parquet files that this job did not write; choose an empty folder"
                ) from None
            self._store.put(PLAN, json.dumps(dict(plan)).encode())
        else:
            check_plan(there.decode(errors="replace"), plan, f"{label}/{PLAN}", label)

    def written(self) -> dict[int, Counts]:
        with self._connection.errors(ArtifactError, "cannot be read"):
            parts = sorted(path for path in self._sizes() if path.startswith("part-"))
            return {int(path[5:-8]): self._count(path) for path in parts}

    def write(self, number: int, shard: pl.DataFrame, _: Counts) -> None:
        buffer = io.BytesIO()
        shard.write_parquet(buffer)
        with self._connection.errors(ArtifactError, f"{file_of(number)} cannot be written"):
            if SUCCESS in self._sizes():
                self._store.delete(SUCCESS)
            self._store.put(file_of(number), buffer.getvalue())

    def publish(self, summary: Mapping[str, Any]) -> None:
        with self._connection.errors(ArtifactError, f"{SUCCESS} cannot be written"):
            self._store.put(SUCCESS, json.dumps(dict(summary)).encode())

    def _sizes(self) -> dict[str, int]:
        """The objects of the folder and their sizes in bytes."""
        return {each["path"]: each["size"] for page in self._store.list() for each in page}

    def _count(self, path: str) -> Counts:
        content = bytes(self._store.get(path).bytes())
        try:
            return Counts.of(pl.scan_parquet(io.BytesIO(content)), self._k)
        except pl.exceptions.PolarsError as error:
            raise ArtifactError(
                f"{self._connection.name}/{path} is damaged ({error}); delete it and run again"
            ) from None
