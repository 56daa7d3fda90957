"""A table that a query makes of several: its SQL, and its rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from recsys.tables.shapes.draft import Draft
from recsys.tables.sources.query import LEFT_OUT

RESERVED = {"timestamp", "time", "date", "order", "group", "user", "from", "select", "where", "join", "on", "as",
            "by", "left", "right", "value", "values", "table", "in", "is", "not", "and", "or", "case", "when", "end",
            "limit", "index", "position", "first", "last", "rank", "year", "month", "day"}  # fmt: skip


def quoted(name: str) -> str:
    """Write a name as SQL wants it."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", name) and name.lower() not in RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


def alias_of(name: str, taken: Sequence[str] = ()) -> str:
    """What a query calls a file: its stem, as a plain name that is not taken."""
    stem = re.sub(r"\W+", "_", Path(name).name.split(".")[0], flags=re.ASCII).strip("_").lower()
    plain = stem if re.match(r"[a-z_]", stem) and stem not in RESERVED else f"t_{stem}"
    return next(one for one in (plain, *(f"{plain}_{n}" for n in range(2, 99))) if one not in taken)


@dataclass(frozen=True, eq=False)
class Link:
    """One JOIN.

    Attributes:
        draft: The table that is joined.
        left: The column of the rows so far.
        right: The column of `draft`, which holds every value once.
        columns: The columns that it brings, as they are called there.
        lists: Whether it holds a value in several rows, which become lists.
        cut: Whether values of `left` are also tried without what stands behind their last ` - `.
        renamed: What a column that it brings is called from there on.
        keeps: Whether rows without a partner stay; others are left out, and told in every run.
        share: Share of the rows, of those looked at, that find a partner.
    """

    draft: Draft
    left: str
    right: str
    columns: tuple[str, ...]
    lists: bool = False
    cut: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)
    keeps: bool = True
    share: float = 1.0

    @property
    def brings(self) -> tuple[str, ...]:
        """The columns that it brings, as they are called in the joined table."""
        return tuple(self.renamed.get(name, name) for name in self.columns)


@dataclass(frozen=True, eq=False)
class Joined(Draft):
    """A table with others joined to it; `settings` are those of the first."""

    links: tuple[Link, ...] = ()

    @property
    def _first(self) -> Draft:
        return Draft(self.name, self.settings, key_is_blank=self.key_is_blank)

    @property
    def files(self) -> set[str]:
        """The files that it reads."""
        return self._first.files.union(*(link.draft.files for link in self.links))

    def section(self, columns: Mapping[str, str]) -> dict[str, Any]:
        """The section of a table made by a query that selects the columns that are used, and no more."""
        wanted = list(dict.fromkeys(columns.values()))
        links = self._links_for(wanted)
        if not links:
            return self._first.section(columns)
        names = [alias_of(self.name)]
        for link in links:
            names.append(alias_of(link.draft.name, names))
        # A join keeps no order of rows: what stands first among equals must not be left to chance.
        order = [quoted(columns[ours]) for ours in ("user_id", "timestamp", "item_id") if ours in columns]
        query = self._sql(wanted, links, names) + f"ORDER BY {', '.join(order)}\n"
        used = {*wanted, *(link.left for link in links)}
        tables = {names[0]: _source(self._first, used)}
        tables |= {name: _source(link.draft, {*link.columns, link.right}, folded=not link.lists and not link.cut)
                   for name, link in zip(names[1:], links, strict=True)}  # fmt: skip
        mapped = {ours: theirs for ours, theirs in columns.items() if ours != theirs}
        return {"source": "query", "query": query, "tables": tables} | ({"columns": mapped} if mapped else {})

    def _links_for(self, wanted: Sequence[str]) -> list[Link]:
        """The joins that bring the wanted columns, and those by which these are reached."""
        needed, found = {*wanted}, []
        for link in reversed(self.links):
            if needed & {*link.brings}:
                needed.add(link.left)
                found.append(link)
        return found[::-1]

    def _sql(self, wanted: Sequence[str], links: Sequence[Link], names: Sequence[str]) -> str:
        owner = {name: (names[0], name) for name in self._own}
        for link, name in zip(links, names[1:], strict=True):
            for theirs, ours in zip(link.columns, link.brings, strict=True):
                owner[ours] = (name, theirs)
        cells = []
        for ours in wanted:
            table, theirs = owner[ours]
            cell = f"{table}.{quoted(theirs)}"
            if any(link.cut and ours in link.brings for link in links):
                link = next(link for link in links if ours in link.brings)
                first, left = owner[link.left]
                cell = f"COALESCE({table}.{quoted(theirs)}, {table}_cut.{quoted(theirs)}, {first}.{quoted(left)})"
            cells.append(cell + ("" if ours == theirs and not cell.startswith("COALESCE") else f" AS {quoted(ours)}"))
        once, joins, lost = [], [], []
        for link, name in zip(links, names[1:], strict=True):
            table, left = owner[link.left]
            mine, theirs = f"{table}.{quoted(left)}", quoted(link.right)
            source = name
            if link.lists or link.cut:
                fold, source = ("ARRAY_AGG", f"{name}_lists") if link.lists else ("FIRST", f"{name}_once")
                others = [quoted(one) for one in link.columns if one != link.right]
                chosen = ", ".join([theirs, *(f"{fold}({one}) AS {one}" for one in others)])
                where = f"WHERE {theirs} IS NOT NULL GROUP BY {theirs}"
                once.append(f"{source} AS (\n  SELECT {chosen} FROM {name}\n  {where}\n)")
            renamed = f"{source} AS {name}" if source != name else name
            joins.append(f"LEFT JOIN {renamed} ON {mine} = {name}.{theirs}")
            if not link.keeps:
                reason = f"{link.left}: not in {Path(link.draft.name).name}".replace("'", "''")
                lost.append(f"WHEN {name}.{theirs} IS NULL THEN '{reason}'")
            if link.cut:
                cut = f"REGEXP_REPLACE({mine}, '^(.*) - .*$', '\\1')"
                joins.append(f"LEFT JOIN {source} AS {name}_cut ON {cut} = {name}_cut.{theirs}")
        if lost:
            cells.append(f"CASE {' '.join(lost)} END AS {LEFT_OUT}")
        head = ["WITH " + ", ".join(once)] if once else []
        return "\n".join([*head, "SELECT " + ",\n       ".join(cells), f"FROM {names[0]}", *joins]) + "\n"

    @property
    def _own(self) -> list[str]:
        return self._first.frame.collect_schema().names()

    def with_link(self, link: Link) -> Joined:
        """The same with one table more."""
        return replace(self, given=join_rows(self.frame, link), links=(*self.links, link))


def as_joined(draft: Draft) -> Joined:
    """A draft to which others can be joined."""
    return draft if isinstance(draft, Joined) else Joined(draft.name, draft.settings, draft.given, draft.key_is_blank)


def join_rows(rows: pl.LazyFrame, link: Link) -> pl.LazyFrame:
    """Join the rows of a link to others, as its SQL does."""
    other = link.draft.frame.select(link.right, *(name for name in link.columns if name != link.right))
    other = other.with_columns(pl.col(link.right).cast(pl.String).alias("__key")).filter(pl.col("__key").is_not_null())
    chosen = [pl.col(name) if link.lists else pl.col(name).first() for name in link.columns]
    other = other.group_by("__key").agg(*(one.alias(ours) for one, ours in zip(chosen, link.brings, strict=True)))
    key = pl.col(link.left).cast(pl.String)
    if not link.cut:
        return rows.with_columns(key.alias("__key")).join(other, on="__key", how="left").drop("__key")
    cut = key.str.replace(r"^(.*) - .*$", "${1}")
    both = rows.with_columns(key.alias("__key"), cut.alias("__cut"))
    both = both.join(other, on="__key", how="left").join(other, left_on="__cut", right_on="__key", how="left",
                                                         suffix="__of_cut")  # fmt: skip
    best = [pl.coalesce(pl.col(name), pl.col(f"{name}__of_cut")).alias(name) for name in link.brings]
    # Rows without a partner keep their text as an id, which no item has: they say nothing of the table.
    return (
        both.with_columns(best)
        .filter(pl.col(link.brings[0]).is_not_null())
        .drop("__key", "__cut", *(f"{name}__of_cut" for name in link.brings))
    )


def _source(draft: Draft, used: set[str], folded: bool = True) -> dict[str, Any] | str:
    """How a query reads a file; not folded where the query itself puts rows together."""
    section = draft.section({name: name for name in used})
    if not folded:
        section = {key: value for key, value in section.items() if key not in ("one_row_per", "fill_down")}
    if set(section) == {"source", "path"} and isinstance(section["path"], str):
        return str(section["path"])
    return section
