"""Long tables that say one property of an item a row: item, property, value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys.tables.names import names_time, strength, words_of
from recsys.tables.profile import TableProfile, overlap
from recsys.tables.roles import is_moment
from recsys.tables.shapes.draft import Draft
from recsys.tables.shapes.joined import alias_of, quoted

PROPERTY, VALUE = {"property", "attribute", "key", "field", "feature"}, {"value", "val", "content"}
TOLD = ("title", "category", "brand", "price", "description")  # what the name of a property may say of an item
LEAST_HELD = 0.3  # share of a log's items of which the table must know something


@dataclass(frozen=True, eq=False)
class Properties(Draft):
    """A table with a row an item and a column a property, made of one with a row a property.

    Where rows are dated, the earliest value of a property counts: a later one would tell the future of an event.

    Attributes:
        item: The column of items.
        property: The column that names the property.
        value: The column of its values; the greatest counts where an item has several at once.
        moment: The column that dates a row; empty where there is none.
    """

    item: str = ""
    property: str = ""
    value: str = ""
    moment: str = ""

    def section(self, columns: Mapping[str, str]) -> dict[str, Any]:
        """The section of a table made by a query that gives each property that is used a column."""
        table = alias_of(self.name)
        item, kind, value, moment = (quoted(name) for name in (self.item, self.property, self.value, self.moment))
        used = [name for name in columns.values() if name != self.item]
        literals = ["'" + name.replace("'", "''") + "'" for name in used]
        cells = [f"MAX(CASE WHEN {table}.{kind} = {literal} THEN {table}.{value} END) AS {quoted(name)}"
                 for literal, name in zip(literals, used, strict=True)]  # fmt: skip
        wanted = f"WHERE {kind} IN ({', '.join(literals)})"
        head, narrowed = "", f"{wanted}\n"
        if self.moment:
            head = (
                f"WITH earliest AS (\n  SELECT {item}, {kind}, MIN({moment}) AS moment FROM {table}\n"
                f"  {wanted} GROUP BY {item}, {kind}\n)\n"
            )
            same = (f"{table}.{name} = earliest.{name}" for name in (item, kind))
            narrowed = f"JOIN earliest ON {' AND '.join(same)} AND {table}.{moment} = earliest.moment\n"
        query = (
            f"{head}SELECT " + ",\n       ".join([f"{table}.{item}", *cells]) + f"\nFROM {table}\n{narrowed}"
            f"GROUP BY {table}.{item}\nORDER BY {table}.{item}\n"
        )
        section: dict[str, Any] = {"source": "query", "query": query, "tables": {table: dict(self.settings)}}
        mapped = {ours: theirs for ours, theirs in columns.items() if ours != theirs}
        return section | ({"columns": mapped} if mapped else {})


def as_items(draft: Draft, log: TableProfile, item: str) -> tuple[Draft, str]:
    """Make a table of items of one that says a property a row.

    Args:
        draft: Any table.
        log: The log.
        item: Its column of items.

    Returns:
        The table of items and a sentence on it; the draft and an empty text where it is none.
    """
    names = [*draft.profile.columns]
    keys = [name for name in names if "".join(words_of(name)) == "".join(words_of(item))]
    properties = [name for name in names if {*words_of(name)} & PROPERTY]
    values = [name for name in names if {*words_of(name)} & VALUE]
    if not (keys and properties and values) or draft.profile.columns[keys[0]].unique:
        return draft, ""
    if overlap(log.columns[item].values, draft.profile.columns[keys[0]].values) < LEAST_HELD:
        return draft, ""
    kinds = draft.frame.select(pl.col(properties[0]).cast(pl.String)).unique().collect(engine="streaming").to_series()
    used = sorted(kind for kind in kinds.drop_nulls() if any(strength(kind, role) for role in TOLD))
    if not used:
        return draft, ""
    kind, value = pl.col(properties[0]).cast(pl.String), pl.col(values[0])
    rows = draft.frame.filter(kind.is_in(used))
    moment = next((one.name for one in draft.profile.columns.values() if is_moment(one) and names_time(one.name)), "")
    if moment:
        rows = rows.filter(pl.col(moment) == pl.col(moment).min().over(keys[0], properties[0]))
    given = rows.group_by(keys[0]).agg(value.filter(kind == name).max().alias(name) for name in used)
    table = Properties(f"{draft.name} by {keys[0]!r}", draft.settings, given, item=keys[0], property=properties[0],
                       value=values[0], moment=moment)  # fmt: skip
    return table, (
        f"{Path(draft.name).name} says a {properties[0]!r} of an item a row: of its {len(kinds):,}, the names of "
        f"{', '.join(used[:5])} say what they are" + ("; the earliest value of each counts" if moment else "")
    )
