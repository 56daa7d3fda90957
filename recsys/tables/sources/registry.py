"""The sources that a config can name."""

from __future__ import annotations

from recsys.config import CatalogConfig, InteractionsConfig, nearest
from recsys.errors import ConfigError
from recsys.tables.sources import scanning as scan
from recsys.tables.sources.amazon import amazon_meta, amazon_reviews
from recsys.tables.sources.base import Reader, Source, Table
from recsys.tables.sources.completejourney import completejourney
from recsys.tables.sources.files import csv, jsonl, parquet
from recsys.tables.sources.online_retail import online_retail


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


SOURCES: dict[str, Reader] = {
    "parquet": parquet,
    "csv": csv,
    "jsonl": jsonl,
    "amazon_reviews": amazon_reviews,
    "amazon_meta": amazon_meta,
    "online_retail": online_retail,
    "completejourney": completejourney,
}
