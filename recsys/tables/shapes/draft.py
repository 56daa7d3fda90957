"""A table as a config would read it, and what it looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from recsys.config import CatalogConfig
from recsys.tables.profile import SAMPLE_ROWS, TableProfile
from recsys.tables.sources.registry import build_source
from recsys.tables.sources.scanning import DROPPED, REFUSED, own_columns, reading


@dataclass(frozen=True, eq=False)
class Draft:
    """One table of a config to be.

    Attributes:
        name: As notes call it, unlike any other.
        settings: `source`, `path` and the settings of the source; without `columns`.
        given: Its rows, where they are not simply what the settings read.
        key_is_blank: Whether the column that names an entity in `fill_down` is itself blank in later rows.
    """

    name: str
    settings: Mapping[str, Any]
    given: pl.LazyFrame | None = field(default=None, repr=False)
    key_is_blank: bool = False

    @cached_property
    def frame(self) -> pl.LazyFrame:
        """All rows that can be used, lazily, with the files' own columns."""
        if self.given is not None:
            return self.given
        table = CatalogConfig(columns={}, **self.settings)
        paths = [table.path] if isinstance(table.path, str) else table.path
        with reading(paths):
            rows = build_source(table, "catalog").read(paths, "catalog").frame
        return rows.filter(pl.col(REFUSED).is_null() & pl.col(DROPPED).is_null()).select(own_columns(rows))

    @cached_property
    def profile(self) -> TableProfile:
        """What the first rows look like."""
        return TableProfile.of(self.name, self.frame.head(SAMPLE_ROWS).collect(engine="streaming"))

    @property
    def files(self) -> set[str]:
        """The files that it reads."""
        path = self.settings["path"]
        return {path} if isinstance(path, str) else {*path}

    def with_settings(self, **further: Any) -> Draft:
        """The same, read anew with further settings of its source."""
        return Draft(self.name, {**self.settings, **further}, key_is_blank=self.key_is_blank)

    def section(self, columns: Mapping[str, str]) -> dict[str, Any]:
        """The table's section of a config in which these columns (ours: theirs) are used."""
        settings = dict(self.settings)
        if "fill_down" in settings:
            used = {*columns.values()}
            kept = {key: [name for name in names if name in used] for key, names in settings.pop("fill_down").items()}
            kept = {key: names for key, names in kept.items() if names or (self.key_is_blank and key in used)}
            settings |= {"fill_down": kept} if kept else {}
        mapped = {ours: theirs for ours, theirs in columns.items() if ours != theirs}
        return settings | ({"columns": mapped} if mapped else {})
