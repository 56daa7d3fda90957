"""PostgreSQL: a table a generation, behind a view that readers ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from recsys.connections import Connection
from recsys.errors import ArtifactError
from recsys.extras import require
from recsys.sinks.base import SINKS, Plan, generation_of
from recsys.sinks.folder import Counts

# How long publishing and clearing wait for transactions of readers, while new readers wait behind them. A run that gave
# up publishes when it is run again; an old generation that could not be dropped goes with the next run.
LOCK_MS = 10_000


@SINKS.register
@dataclass(frozen=True)
class PostgreSQL:
    """The lists as rows of the view `name`.

    `NAME_GENERATION` are the tables behind it; `NAME_shards` says which shards of them are written. The view is
    replaced in one transaction, and the tables before it are dropped after that.
    """

    name: ClassVar[str] = "postgresql"
    schemes: ClassVar[tuple[str, ...]] = ("postgresql", "postgres")

    connection: Connection
    view: str

    @classmethod
    def connect(cls, connection: Connection, name: str) -> PostgreSQL:
        require("databases", "writing to PostgreSQL", "adbc_driver_postgresql", "pyarrow")
        return cls(connection, name)

    @property
    def label(self) -> str:
        return f"{self.view} of {self.connection.name}"

    @contextmanager
    def open(self, plan: Plan) -> Iterator[_Generation]:
        from adbc_driver_postgresql import dbapi

        with self.connection.errors(ArtifactError, "cannot be reached"):
            session = dbapi.connect(self.connection.url)
        with closing(session):
            begun = _Generation(session, self.connection, self.view, generation_of(plan))
            begun.begin(plan)
            yield begun


class _Generation:
    def __init__(self, session: Any, connection: Connection, view: str, generation: str) -> None:
        self._session, self._connection, self._view = session, connection, view
        self._generation, self._table, self._shards = generation, f"{view}_{generation}", f"{view}_shards"

    def begin(self, plan: Plan) -> None:
        with self._transaction(f"{self._view} cannot be written"):
            if not self._ask(f"SELECT pg_try_advisory_lock(hashtext('recsys {self._view}'))")[0][0]:
                raise ArtifactError(
                    f"{self._connection.name}: another process is writing {self._view}: wait until it is done, or stop "
                    "it, and run again"
                )
            columns = "generation text, shard int, rows bigint, full_lists bigint, PRIMARY KEY (generation, shard)"
            self._do(f"CREATE TABLE IF NOT EXISTS {self._shards} ({columns})")
            if not self._tables(self._table):  # somebody dropped it
                self._do(f"DELETE FROM {self._shards} WHERE generation = '{self._generation}'")

    def written(self) -> dict[int, Counts]:
        with self._transaction(f"{self._shards} cannot be read"):
            return self._written()

    def write(self, number: int, shard: pl.DataFrame, counts: Counts) -> None:
        with self._transaction(f"shard {number} cannot be written"), self._session.cursor() as cursor:
            rows = shard.to_arrow(compat_level=pl.CompatLevel.oldest())
            cursor.adbc_ingest(self._table, rows, mode="create_append")
            cursor.execute(
                f"INSERT INTO {self._shards} VALUES ('{self._generation}', {number}, {counts.rows}, {counts.full})"
            )

    def publish(self, summary: Mapping[str, Any]) -> None:
        about = json.dumps(dict(summary)).replace("'", "''")
        with self._transaction(f"the index of {self._table} cannot be made"):
            self._do(f"CREATE UNIQUE INDEX IF NOT EXISTS {self._table}_key ON {self._table} (user_id, rank)")
        with self._transaction(f"the view {self._view} cannot be replaced"):
            self._do(f"SET LOCAL lock_timeout = {LOCK_MS}")
            self._do(f"CREATE OR REPLACE VIEW {self._view} AS SELECT * FROM {self._table}")
            self._do(f"COMMENT ON VIEW {self._view} IS '{about}'")
        with self._transaction("what it holds cannot be listed"):
            old = [name for name in self._tables(f"{self._view}_%") if self._is_older(name)]
        for name in old:
            with suppress(ArtifactError), self._transaction(f"{name} cannot be dropped"):
                self._do(f"SET LOCAL lock_timeout = {LOCK_MS}")
                self._do(f"DROP TABLE {name}")
                self._do(f"DELETE FROM {self._shards} WHERE generation = '{name.removeprefix(self._view + '_')}'")

    def _is_older(self, table: str) -> bool:
        generation = table.removeprefix(f"{self._view}_")
        return table != self._table and len(generation) == 12 and set(generation) <= set("0123456789abcdef")

    def _written(self) -> dict[int, Counts]:
        rows = self._ask(f"SELECT shard, rows, full_lists FROM {self._shards} WHERE generation = '{self._generation}'")
        return {int(number): Counts(int(count), int(full)) for number, count, full in rows}

    def _tables(self, like: str) -> list[str]:
        pattern = like.replace("_", r"\_")
        return [name for (name,) in self._ask(
            "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid) "
            f"AND relname LIKE '{pattern}'"
        )]  # fmt: skip

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self._session.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def _do(self, sql: str) -> None:
        with self._session.cursor() as cursor:
            cursor.execute(sql)

    @contextmanager
    def _transaction(self, what: str) -> Iterator[None]:
        with self._connection.errors(ArtifactError, what):
            try:
                yield
                self._session.commit()
            except BaseException:
                with suppress(Exception):  # the server may be gone
                    self._session.rollback()
                raise
