"""Delta Lake tables, at one version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from recsys.errors import ConfigError, DataError
from recsys.extras import require
from recsys.tables.sources.base import RawTable, Table
from recsys.tables.sources.registry import SOURCES
from recsys.tables.sources.scanning import MOST_SAID, ROW, gather


@SOURCES.register
@dataclass(frozen=True)
class Delta:
    """A Delta Lake table in a folder or at `s3://…`; the version that was read stands in the manifest.

    Attributes:
        version: The version to read; the newest by default.
    """

    name: ClassVar[str] = "delta"
    version: int | None = None

    def read(self, paths: list[str], table: Table) -> RawTable:
        require("lakes", "reading Delta Lake tables", "deltalake", "pyarrow")
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if len(paths) != 1:
            raise ConfigError(f"data.{table}.path: give the folder of one Delta Lake table, not {len(paths)} paths")
        (path,) = paths
        try:
            opened = DeltaTable(path, version=self.version)
        except TableNotFoundError as error:
            raise DataError(f"{path} holds no Delta Lake table") from error
        except (DeltaError, OSError) as error:
            raise DataError(f"{path}: version {self.version} cannot be read: {str(error)[:MOST_SAID]}") from error
        version = opened.version()

        def rows(_: str) -> pl.LazyFrame:
            return pl.scan_delta(opened).with_row_index(ROW, 1)

        return RawTable.of_parts(gather([path], rows), version=version)
