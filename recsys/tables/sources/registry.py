"""The sources that a config can name. Each registers itself in its own module."""

from __future__ import annotations

from recsys.config import CatalogConfig, InteractionsConfig, nearest
from recsys.errors import ConfigError
from recsys.registry import Family
from recsys.tables.sources import scanning as scan
from recsys.tables.sources.base import Reader, Source, Table

SOURCES: Family[Reader] = Family("source", "recsys.tables.sources", group="recsys.sources")


def read(settings: CatalogConfig | InteractionsConfig, table: Table) -> Source:
    """Open the table that the settings name.

    Raises `ConfigError` for a source that does not exist, `DataError` for a file or package that is missing
    or cannot be read.
    """
    if settings.source not in SOURCES:
        raise ConfigError(
            f"data.{table}.source: unknown source {settings.source!r}{nearest(settings.source, list(SOURCES))}; "
            f"known: {', '.join(SOURCES)}"
        )
    paths = [settings.path] if isinstance(settings.path, str) else settings.path
    with scan.reading(paths):
        return SOURCES[settings.source]([path for path in paths if path], table)
