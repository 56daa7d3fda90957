"""What `init` makes of a shop's files before it asks which is what: folded, named and joined tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recsys.tables.names import strength
from recsys.tables.roles import Roles, find_ids, find_roles
from recsys.tables.shapes.draft import Draft
from recsys.tables.shapes.folded import unfold
from recsys.tables.shapes.headerless import is_headerless, name_columns
from recsys.tables.shapes.joins import join_details, join_people, join_titles
from recsys.tables.shapes.properties import as_items


def shape(drafts: Sequence[Draft]) -> tuple[list[Draft], list[str]]:
    """Put files of one table together, take lists of events apart, name columns, and unfold what spans rows.

    Returns:
        The tables in every way in which they may be meant, and a sentence on each step.
    """
    tables, notes = _with_parts_joined(drafts)
    exploded = [_exploded(draft) for draft in tables]
    notes += [f"each line of {draft.name} is a list of {draft.settings['explode']}: a row an entry"
              for draft in exploded if "explode" in draft.settings]  # fmt: skip
    named, found = name_columns(exploded)
    notes += found
    shaped: list[Draft] = []
    for draft in named:
        some, found_fold = unfold(draft)
        shaped += some
        notes += [found_fold] if found_fold else []
    return shaped, notes


def find_joined_roles(drafts: Sequence[Draft]) -> tuple[Roles, list[Draft], list[str]]:
    """Find the log, its catalogue and the role of each column, with the tables joined that tell more of both.

    Returns:
        The roles, all tables as they stand after the joins, and a sentence on each join.

    Raises:
        DataError: no table has both users and items that come more than once.
    """
    notes: list[str] = []
    roles = find_roles([draft.profile for draft in drafts])
    log = next(draft for draft in drafts if draft.name == roles.interactions.name)
    # A file read in two ways is either the log or the catalogue, and never both.
    tables = {draft.name: draft for draft in drafts if draft is log or not draft.files & log.files}
    roles = find_roles([draft.profile for draft in tables.values()])

    def put(draft: Draft, said: list[str]) -> None:
        nonlocal roles
        if said:
            tables[draft.name] = draft
            notes.extend(said)
            roles = find_roles([one.profile for one in tables.values()])

    put(*join_people(tables[log.name], [*tables.values()]))
    item = roles.interaction_columns["item_id"]
    for draft in [*tables.values()]:
        if roles.catalog is None or roles.catalog.name == draft.name:
            put(*_listed(*as_items(draft, roles.interactions, item)))
    if roles.catalog is None:
        put(*join_titles(tables[log.name], [*tables.values()]))
    if roles.catalog is not None:
        key, catalog = roles.catalog_columns["item_id"], tables[roles.catalog.name]
        put(*_once_each(catalog, key))
        others = [draft for draft in tables.values() if not draft.files & (log.files | catalog.files)]
        put(*join_details(tables[catalog.name], key, others))
    used = tables[log.name].files | (tables[roles.catalog.name].files if roles.catalog else set())
    return roles, [*tables.values()], notes + _unused([draft for draft in drafts if not draft.files & used])


def _unused(drafts: Sequence[Draft]) -> list[str]:
    """What is said of files that no table needs."""
    logs = [draft for draft in drafts if find_ids(draft.profile) is not None]
    said = [f"{draft.name} ({draft.profile.rows:,} rows) is a log too, and is not used: to learn from both, write a "
            "UNION ALL of them with `source: query`" for draft in logs]  # fmt: skip
    rest = sorted({file for draft in drafts if draft not in logs for file in draft.files})
    return said + ([f"not used: {', '.join(Path(file).name for file in rest[:10])}{' …' if len(rest) > 10 else ''}"]
                   if rest else [])  # fmt: skip


def _listed(draft: Draft, said: str) -> tuple[Draft, list[str]]:
    return draft, [said] if said else []


def _once_each(catalog: Draft, key: str) -> tuple[Draft, list[str]]:
    """Read a table of items with one row an item, where some have several or rows have none."""
    column = catalog.profile.columns[key]
    if catalog.settings["source"] != "csv" or (column.unique and not column.missing):
        return catalog, []
    further = column.rows - column.distinct
    return catalog.with_settings(one_row_per=key), [
        f"{further:,} of the {column.rows:,} rows of {catalog.name} repeat a {key!r} or have none: one row each is kept"
    ]


def _with_parts_joined(drafts: Sequence[Draft]) -> tuple[list[Draft], list[str]]:
    """Read files with the same columns as the parts of one table."""
    groups: dict[object, list[Draft]] = {}
    for draft in drafts:
        columns = tuple(draft.frame.collect_schema().names())
        alone = is_headerless(draft) or len(columns) < 2
        groups.setdefault(draft.name if alone else (draft.settings["source"], columns), []).append(draft)
    tables, notes = [], []
    for parts in groups.values():
        if len(parts) > 1:
            paths = [draft.name for draft in parts]
            notes.append(
                f"{', '.join(paths[:4])}{' …' if len(paths) > 4 else ''} have the same columns: they are one table"
            )
            tables.append(Draft(f"{paths[0]} and {len(paths) - 1} more", {**parts[0].settings, "path": paths}))
        else:
            tables.append(parts[0])
    return tables, notes


def _exploded(draft: Draft) -> Draft:
    """A file of JSON lines with a row for each entry of its list of objects, such as the events of a session."""
    schema = draft.frame.collect_schema()
    lists = {name: dtype.inner for name, dtype in schema.items()
             if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct)}  # fmt: skip
    of_items = [name for name, inner in lists.items() if any(strength(field, "item_id") for field in dict(inner))]
    found = of_items if len(lists) > 1 else [*lists]
    if draft.settings["source"] != "jsonl" or len(found) != 1:
        return draft
    return Draft(draft.name, {**draft.settings, "explode": found[0]})
