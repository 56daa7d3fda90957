"""The sources that a config can name. Each registers itself in its own module."""

from __future__ import annotations

import logging

from recsys.config import CatalogConfig, InteractionsConfig, ReviewTableConfig, construct, nearest
from recsys.errors import ConfigError
from recsys.registry import Family
from recsys.tables.sources.base import RawTable, Source, Table
from recsys.tables.sources.scanning import reading

log = logging.getLogger(__name__)

SOURCES: Family[type[Source]] = Family("source", "recsys.tables.sources", group="recsys.sources")


def build_source(settings: CatalogConfig | InteractionsConfig | ReviewTableConfig, table: Table) -> Source:
    """Build the source that a table's settings name, with the settings of its own.

    Raises:
        ConfigError: no source has that name, or it has no such setting.
    """
    if settings.source not in SOURCES:
        raise ConfigError(
            f"data.{table}.source: unknown source {settings.source!r}{nearest(settings.source, list(SOURCES))}; "
            f"known: {', '.join(SOURCES)}"
        )
    return construct(SOURCES, settings.source, settings.options, f"data.{table}")


def read(settings: CatalogConfig | InteractionsConfig | ReviewTableConfig, table: Table) -> RawTable:
    """Open the table that the settings name.

    Raises:
        ConfigError: as `build_source`.
        DataError: a file or package is missing or cannot be read.
    """
    source = build_source(settings, table)
    paths = [settings.path] if isinstance(settings.path, str) else settings.path
    with reading(paths):
        raw = source.read([path for path in paths if path], table)
    for note in raw.notes:
        log.info("%s: %s", table, note)
    return raw
