"""Redis: a key a user, under the name of a generation that a pointer names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from recsys.connections import Connection
from recsys.errors import ArtifactError
from recsys.extras import require
from recsys.sinks.base import SINKS, Plan, generation_of
from recsys.sinks.folder import Counts

GRACE_S = 600  # how long a generation stays after another took its place: a reader may have looked up its name
PIPELINE = 5_000  # keys a round trip


@SINKS.register
@dataclass(frozen=True)
class Redis:
    """The list of a user as JSON in the key `NAME:GENERATION:USER_ID`; `NAME:current` holds the generation.

    `NAME:shards:GENERATION` says which shards are written and how many rows each has, `NAME:about` what is current.
    """

    name: ClassVar[str] = "redis"
    schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss")

    connection: Connection
    prefix: str

    @classmethod
    def connect(cls, connection: Connection, name: str) -> Redis:
        require("redis", "writing to Redis")
        return cls(connection, name)

    @property
    def label(self) -> str:
        return f"{self.prefix}:* of {self.connection.name}"

    @contextmanager
    def open(self, plan: Plan) -> Iterator[_Generation]:
        import redis

        with self.connection.errors(ArtifactError, "cannot be reached"):
            server = redis.Redis.from_url(self.connection.url)
            server.ping()
        with server:
            yield _Generation(server, self.connection, self.prefix, generation_of(plan))


class _Generation:
    def __init__(self, server: Any, connection: Connection, prefix: str, generation: str) -> None:
        self._server, self._connection, self._prefix, self._generation = server, connection, prefix, generation
        self._shards = f"{prefix}:shards:{generation}"

    def written(self) -> dict[int, Counts]:
        with self._connection.errors(ArtifactError, f"{self._shards} cannot be read"):
            # Keys of a generation that was superseded are about to expire: it is written anew.
            if self._server.ttl(self._shards) >= 0:
                self._server.delete(self._shards)
            found = self._server.hgetall(self._shards)
            return {int(number): Counts(*map(int, counts.split())) for number, counts in found.items()}

    def write(self, number: int, shard: pl.DataFrame, counts: Counts) -> None:
        lists = _as_json(shard)
        with self._connection.errors(ArtifactError, f"shard {number} cannot be written"):
            for part in lists.iter_slices(PIPELINE):
                keys = (f"{self._prefix}:{self._generation}:{user}" for user in part["user_id"])
                self._server.mset(dict(zip(keys, part["list"], strict=True)))
            self._server.hset(self._shards, str(number), f"{counts.rows} {counts.full}")

    def publish(self, summary: Mapping[str, Any]) -> None:
        with self._connection.errors(ArtifactError, f"{self._prefix}:current cannot be written"):
            with self._server.pipeline(transaction=True) as both:
                both.set(f"{self._prefix}:current", self._generation)
                both.set(f"{self._prefix}:about", json.dumps(dict(summary)))
                both.execute()
            for key in self._server.scan_iter(f"{self._prefix}:shards:*"):
                older = key.decode().removeprefix(f"{self._prefix}:shards:")
                if older != self._generation and self._server.ttl(key) < 0:
                    self._expire(older, key)

    def _expire(self, generation: str, shards: bytes) -> None:
        """Let the keys of another generation go. The one that lists it goes last, so that a kill leaves none behind."""
        batch: list[bytes] = []
        for key in self._server.scan_iter(f"{self._prefix}:{generation}:*", count=PIPELINE):
            batch.append(key)
            if len(batch) == PIPELINE:
                self._expire_keys(batch)
                batch = []
        self._expire_keys([*batch, shards])

    def _expire_keys(self, keys: list[bytes]) -> None:
        with self._server.pipeline(transaction=False) as together:
            for key in keys:
                together.expire(key, GRACE_S)
            together.execute()


def _as_json(shard: pl.DataFrame) -> pl.DataFrame:
    """One row a user: its list as a JSON object."""
    fields = ("item_id", "score", "probability", "source")
    lists = shard.group_by("user_id", maintain_order=True).agg(
        pl.first("model_version"), pl.first("generated_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        items=pl.struct(*fields),
    )  # fmt: skip
    return lists.select(
        pl.col("user_id").cast(pl.String),
        list=pl.struct("items", "model_version", "generated_at").struct.json_encode(),
    )
