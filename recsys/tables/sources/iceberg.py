"""Iceberg tables of a catalogue, at one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from recsys.connections import Connection, ConnectionName
from recsys.errors import ConfigError, DataError
from recsys.extras import require
from recsys.registry import nearest
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import ROW, gather


@SOURCES.register
@dataclass(frozen=True)
class Iceberg:
    """An Iceberg table of a SQL or REST catalogue; the snapshot that was read stands in the manifest.

    Attributes:
        connection: The catalogue: `env:NAME`, or a URL without a password, as `sqlite:///lake/catalog.db` or
            `https://…` of a REST catalogue.
        table: `NAMESPACE.NAME`.
        snapshot: The snapshot to read; the current one by default.
    """

    name: ClassVar[str] = "iceberg"

    connection: ConnectionName
    table: str
    snapshot: int | None = None

    def read(self, paths: list[str], table: Table) -> RawTable:
        require("lakes", "reading Iceberg tables", "pyiceberg", "pyarrow")
        from pyiceberg.exceptions import NoSuchTableError

        if paths:
            raise ConfigError(f"data.{table}.path: an Iceberg catalogue has no path: leave it out")
        connection = Connection.resolve(self.connection)
        with connection.errors(DataError, f"the catalogue with {self.table} cannot be read"):
            catalog = _catalog(connection)
            try:
                opened = catalog.load_table(self.table)
            except NoSuchTableError:
                raise self._missing(catalog, connection) from None
            current = opened.current_snapshot()
            found = current if self.snapshot is None else opened.snapshot_by_id(self.snapshot)
        if found is None:
            known = ", ".join(str(one.snapshot_id) for one in opened.snapshots()[-5:]) or "none"
            raise DataError(f"{self.table} of {self.connection} has no snapshot {self.snapshot}; its newest: {known}")
        label, snapshot = f"{self.table} of {self.connection}", found.snapshot_id

        def rows(_: str) -> pl.LazyFrame:
            return pl.scan_iceberg(opened, snapshot_id=snapshot).with_row_index(ROW, 1)

        return RawTable.of_parts(gather([label], rows), version=snapshot)

    def _missing(self, catalog: Any, connection: Connection) -> DataError:
        known = [".".join(name) for space in catalog.list_namespaces() for name in catalog.list_tables(space)]
        hint = nearest(self.table, known) or f"; its tables: {', '.join(known[:20]) or 'none'}"
        return DataError(f"{connection.name}: there is no table {self.table!r}{hint}")


def _catalog(connection: Connection) -> Any:
    from pyiceberg.catalog import load_catalog

    kind = "rest" if connection.scheme in ("http", "https") else "sql"
    return load_catalog("recsys", type=kind, uri=connection.url)
