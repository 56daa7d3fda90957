"""A table or a query of a database, read in batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from urllib.parse import unquote

import polars as pl

from recsys.connections import Connection, ConnectionName
from recsys.errors import ConfigError, DataError
from recsys.extras import require
from recsys.registry import nearest
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW

BATCH_ROWS = 65_536
BATCH_BYTES = 16 << 20


@SOURCES.register
@dataclass(frozen=True)
class Database:
    """A table or a query of PostgreSQL, MySQL, SQLite, DuckDB, Snowflake, BigQuery or a Flight SQL server.

    Rows are streamed: memory holds a batch, whatever the table holds. Only the columns that are needed are asked for.
    Rows are numbered in the order in which the database gives them.

    Attributes:
        connection: `env:NAME`: the environment variable that holds the connection string, such as
            `postgresql://USER:PASSWORD@HOST/DATABASE`. A URL without a password may stand here, as `sqlite:shop.db`.
        table: The name of a table or view, `SCHEMA.NAME` outside the default schema.
        query: One `SELECT` of that database instead of a table.
    """

    name: ClassVar[str] = "database"

    connection: ConnectionName
    table: str | None = None
    query: str | None = None

    def read(self, paths: list[str], table: Table) -> RawTable:
        where = f"data.{table}"
        if paths:
            raise ConfigError(f"{where}.path: a database has no path: leave it out, `connection` says where it is")
        if (self.table is None) == (self.query is None):
            raise ConfigError(f"{where}: give `table` or `query`, one of them")
        if self.query is not None and not re.match(r"(?is)\s*(select|with)\b", self.query):
            raise ConfigError(f"{where}.query: it must be one SELECT")
        connection = Connection.resolve(self.connection)
        engine = _engine(connection)
        source = self.query.strip().rstrip(";") if self.query else ""
        rows = _Rows(connection, engine, self.table or "the query",
                     f"({source}) AS asked" if source else engine.quoted(self.table or ""))  # fmt: skip
        schema, numbers, unread = rows.describe(self.table)
        label = f"{self.table or 'query'} of {self.connection}"
        blank = pl.lit(None, pl.String)
        frame = _scan(rows, schema).with_columns(
            pl.lit(label, pl.Enum([label])).alias(FILE), blank.alias(REFUSED), blank.alias(DROPPED)
        )
        notes = [f"{label}: no types for {', '.join(unread)}: left out; cast them in a query"] if unread else []
        return RawTable(frame, [label], numbers, notes, {label: frame})


class Engine(NamedTuple):
    """How one kind of database is opened.

    Attributes:
        module: The module of its driver.
        quote: What surrounds a name.
        open: Opens a stream of record batches: of a connection string and a statement.
        tables: The statement that lists the tables; empty where a list may be too long.
    """

    module: str
    quote: str
    open: Callable[[str, str], AbstractContextManager[Any]]
    tables: str = ""

    def quoted(self, name: str) -> str:
        """A table's or a column's name as SQL."""
        parts = name.split(".")
        return ".".join(self.quote + part.replace(self.quote, 2 * self.quote) + self.quote for part in parts)

    def column(self, name: str) -> str:
        """A column's name as SQL."""
        return self.quote + name.replace(self.quote, 2 * self.quote) + self.quote


def _adbc(
    module: str, uri: Callable[[str], str] = str, options: Mapping[str, str] | None = None
) -> Callable[[str, str], Any]:
    @contextmanager
    def opened(url: str, sql: str) -> Iterator[Any]:
        import importlib

        driver = importlib.import_module(f"{module}.dbapi")
        with closing(driver.connect(uri(url))) as session, closing(session.cursor()) as cursor:
            cursor.adbc_statement.set_options(**(options or {}))
            cursor.execute(sql)
            yield cursor.fetch_record_batch()

    return opened


@contextmanager
def _duckdb(url: str, sql: str) -> Iterator[Any]:
    import duckdb

    path = _path_of(url)
    with closing(duckdb.connect(path, read_only=path != ":memory:")) as session:
        yield session.sql(sql).to_arrow_reader(BATCH_ROWS)


@contextmanager
def _connectorx(url: str, sql: str) -> Iterator[Any]:
    import connectorx

    yield connectorx.read_sql(url, sql, return_type="arrow_stream", batch_size=BATCH_ROWS)


def _path_of(url: str) -> str:
    """The file of `sqlite:shop.db`, `sqlite:///shop.db` (relative) or `sqlite:////data/shop.db`."""
    rest = unquote(url.partition(":")[2])
    return rest.removeprefix("///") if rest.startswith("///") else rest.removeprefix("//")


_NAMES = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN " \
         "('pg_catalog', 'information_schema', 'mysql', 'performance_schema', 'sys')"  # fmt: skip
_POSTGRESQL = Engine(
    "adbc_driver_postgresql", '"',
    _adbc("adbc_driver_postgresql", options={"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)}), _NAMES,
)  # fmt: skip
_SQLITE = Engine(
    "adbc_driver_sqlite", '"', _adbc("adbc_driver_sqlite", lambda url: f"file:{_path_of(url)}?mode=ro",
                                     {"adbc.sqlite.query.batch_rows": str(BATCH_ROWS)}),
    "SELECT 'main', name FROM sqlite_master WHERE type IN ('table', 'view')",
)  # fmt: skip
_FLIGHT = Engine("adbc_driver_flightsql", '"', _adbc("adbc_driver_flightsql"))
ENGINES = {
    "postgresql": _POSTGRESQL,
    "postgres": _POSTGRESQL,
    "mysql": Engine("connectorx", "`", _connectorx, _NAMES),
    "sqlite": _SQLITE,
    "duckdb": Engine("duckdb", '"', _duckdb, _NAMES),
    "snowflake": Engine(
        "adbc_driver_snowflake", '"', _adbc("adbc_driver_snowflake", lambda url: url.partition("://")[2])
    ),
    "bigquery": Engine("adbc_driver_bigquery", "`", _adbc("adbc_driver_bigquery")),
    "grpc": _FLIGHT,
    "grpc+tls": _FLIGHT,
}


def _engine(connection: Connection) -> Engine:
    engine = ENGINES.get(connection.scheme)
    if engine is None:
        raise ConfigError(
            f"{connection.name}: no driver is known for such a connection string; it should begin with one of "
            f"{', '.join(f'{scheme}:' for scheme in ENGINES)}"
        )
    require("databases", f"reading {connection.scheme} tables", engine.module, "pyarrow")
    return engine


@dataclass(frozen=True)
class _Rows:
    """The rows of one table or query: `origin` stands after FROM, `called` in errors."""

    connection: Connection
    engine: Engine
    called: str
    origin: str

    def batches(self, columns: Sequence[str] | None, limit: int | None = None) -> Iterator[Any]:
        """Stream record batches of some columns, of all for None; the first is empty and has their types."""
        names = "*" if columns is None else ", ".join(map(self.engine.column, columns)) or "1 AS nothing"
        sql = f"SELECT {names} FROM {self.origin}" + (f" LIMIT {limit}" if limit is not None else "")
        with (
            self.connection.errors(DataError, f"{self.called} cannot be read"),
            self.engine.open(self.connection.url, sql) as reader,
        ):
            yield reader.schema.empty_table()
            yield from reader

    def describe(self, table: str | None) -> tuple[pl.Schema, dict[str, pl.DataType], list[str]]:
        """Find the columns as they will be read, which of them come as text but are numbers, and those left out."""
        try:
            # SQLite has no types of columns: the first batch decides.
            parts = list(self.batches(None, BATCH_ROWS if self.engine is _SQLITE else 1))
        except DataError as error:
            raise self._with_nearest(error, table) from None
        schema: dict[str, pl.DataType] = {}
        unread: list[str] = []
        for name in parts[0].schema.names:
            try:
                schema |= _plain(parts[0].select([name])).schema
            except pl.exceptions.PolarsError:  # an interval
                unread.append(name)
        unread += [name for name, dtype in schema.items() if dtype == pl.Binary]
        kept = {name: dtype for name, dtype in schema.items() if dtype != pl.Binary}
        numbers: dict[str, pl.DataType] = {
            field.name: pl.Float64() for field in parts[0].schema if _type_name(field) == "numeric"
        }
        return pl.Schema(kept), numbers, unread

    def _with_nearest(self, error: DataError, table: str | None) -> DataError:
        """Add the nearest name of a table to the error, where the table does not exist."""
        if table is None or not self.engine.tables:
            return error
        try:
            with self.engine.open(self.connection.url, self.engine.tables) as reader:
                known = [name for batch in reader for name in _plain(batch).iter_rows()]
        except Exception:  # the first error is the one to tell: the server may be down
            return error
        names = [*(name for _, name in known), *(".".join(name) for name in known)]
        if table in names:
            return error
        hint = nearest(table, names) or f"; its tables: {', '.join(sorted(name for _, name in known)[:20]) or 'none'}"
        return DataError(f"{self.connection.name}: there is no table {table!r}{hint}")


def _scan(rows: _Rows, schema: pl.Schema) -> pl.LazyFrame:
    """A lazy frame that asks the database each time it is collected, with ROW."""
    from polars.io.plugins import register_io_source

    whole = pl.Schema({ROW: pl.get_index_type(), **schema})

    def generate(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = list(whole) if columns is None else columns
        first = 1
        for batch in rows.batches([name for name in wanted if name != ROW], limit):
            frame = _plain(batch)
            frame = frame.with_row_index(ROW, first)
            first += frame.height
            with rows.connection.errors(DataError, f"{rows.called} cannot be read"):
                frame = frame.select(pl.col(name).cast(whole[name]) for name in wanted)
            yield frame if predicate is None else frame.filter(predicate)

    return register_io_source(generate, schema=whole)


def _plain(batch: Any) -> pl.DataFrame:
    """A record batch as a frame of types that every reader knows: exact decimals become floats, UUIDs text."""
    import pyarrow as pa

    columns = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if isinstance(column.type, pa.BaseExtensionType):
            column = column.cast(column.type.storage_type) if not hasattr(column, "storage") else column.storage
        values = pl.Series(field.name, pl.from_arrow(column))
        if isinstance(values.dtype, pl.Decimal):
            values = values.cast(pl.Float64 if values.dtype.scale else pl.Int64)
        elif getattr(field.type, "extension_name", "") == "arrow.uuid":
            values = values.bin.encode("hex").str.replace(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$", "$1-$2-$3-$4-$5")
        columns[field.name] = values
    return pl.DataFrame(columns)


def _type_name(field: Any) -> str:
    """What the database calls a type that Arrow has not, such as `numeric`; empty for the others."""
    return str(getattr(field.type, "type_name", "") or "").lower()
