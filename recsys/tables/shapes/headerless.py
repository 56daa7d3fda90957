"""Name the columns of files without a header line, by their values."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from recsys.tables.profile import ColumnProfile, TableProfile, overlap
from recsys.tables.shapes.draft import Draft

KIND_WORDS = ("view", "pv", "click", "buy", "purchase", "order", "cart", "fav", "like", "detail", "add", "transaction",
              "show", "share", "play")  # fmt: skip
MOST_KINDS = 30
MOST_STARS = 100  # distinct ratings
SHORT = 4  # words from which on a text describes an item rather than names it


def is_headerless(draft: Draft) -> bool:
    """Whether every column is called by its place, as the reader does where no line names them."""
    return [*draft.profile.columns] == [f"column_{place + 1}" for place in range(len(draft.profile.columns))]


def name_columns(drafts: Sequence[Draft]) -> tuple[list[Draft], list[str]]:
    """Name the columns of the logs and the tables of items among files without a header.

    Returns:
        All drafts, those without a header with names where their values tell; and what was concluded, a line each.
    """
    unnamed = [draft for draft in drafts if is_headerless(draft)]
    logs = {draft.name: names for draft in unnamed if (names := _log_names(draft.profile)) is not None}
    items = [draft.profile.columns[place].values for draft in unnamed if draft.name in logs
             for place, ours in logs[draft.name].items() if ours == "item_id"]  # fmt: skip
    named, notes = [], []
    for draft in drafts:
        names = logs.get(draft.name)
        if names is None and draft in unnamed:
            names = _item_names(draft.profile, items)
        if not names:
            named.append(draft)
            continue
        header = [names.get(column, column) for column in draft.profile.columns]
        named.append(Draft(draft.name, {**draft.settings, "header": header}))
        notes.append(f"{draft.name} has no header line: its columns are taken for {', '.join(header)}")
    return named, notes


def _log_names(table: TableProfile) -> dict[str, str] | None:
    """Our names of a log's columns: the first two columns of ids, the times, the kinds, the stars."""
    columns = [*table.columns.values()]
    times = [one for one in columns if one.is_time and not one.is_number] or [one for one in columns if one.is_time]
    again = [one for one in columns if one not in times and one.distinct < len(one.values) and one.missing < 0.5]
    kinds = [one for one in again if _is_kind(one)]
    few = [one for one in again if one not in kinds and _is_small(one)]
    ids = [one for one in again if one not in kinds and one not in few and not _is_fraction(one) and _is_word(one)]
    if len(ids) < 2 or len({id(one) for one in ids}) > 6:
        return None
    names = {ids[0].name: "user_id", ids[1].name: "item_id"}
    groups = [
        one for one in [*ids[2:], *few] if _is_constant(table, ids[1].name, one) and 1 < one.distinct < ids[1].distinct
    ]
    if groups:
        names[groups[0].name] = "category"
    texts = [one for one in columns if one.name not in names and one.words > 1 and not _is_word(one)
             and _is_constant(table, ids[1].name, one)]  # fmt: skip
    if texts:
        names[texts[0].name] = "title"
    if times:
        names[max(times, key=lambda one: one.distinct).name] = "timestamp"
    if kinds:
        names[kinds[0].name] = "event"
    stars = [one for one in few if one.is_number and one.distinct > 1 and one.name not in names]
    if stars and not kinds:
        names[stars[-1].name] = "rating" if stars[-1].distinct <= 12 else "value"
    return names if times or stars or len(columns) == 2 else None


def _item_names(table: TableProfile, items: Sequence[object]) -> dict[str, str]:
    """Our names of the columns of a table of items; empty where it is none."""
    columns = [*table.columns.values()]
    texts = [one for one in columns if one.words > 1.2 and one.distinct > 0.5 * len(one.values) and "http" not in
             str(one.examples)]  # fmt: skip
    keys = [one for one in columns if one.unique and any(overlap(values, one.values) > 0.3 for values in items)]  # type: ignore[arg-type]
    if not keys or not texts:
        return {}
    names = {keys[0].name: "item_id"}
    texts = [one for one in texts if one.name != keys[0].name]
    if texts:
        names[texts[0].name] = "title"
    paths = [one for one in columns if one.name not in names and one.words > 0 and not one.is_time
             and 1 < one.distinct < 0.9 * len(one.values)]  # fmt: skip
    if paths:
        names[paths[0].name] = "category"
    return names


def _is_word(column: ColumnProfile) -> bool:
    """Whether the values are numbers or single words, as ids are."""
    spaced = column.values.head(10_000).cast(pl.String).str.contains(r"\s")
    return column.is_number or int(spaced.sum()) < 0.05 * len(spaced)


def _is_constant(table: TableProfile, item: str, column: ColumnProfile) -> bool:
    """Whether most items have one value only."""
    each = table.frame.group_by(item).agg(pl.len().alias("__rows"), pl.col(column.name).n_unique().alias("__values"))
    often = each.filter(pl.col("__rows") > 1)
    return often.height > 0 and float((often["__values"] == 1).mean() or 0) > 0.9  # type: ignore[arg-type]


def _is_kind(column: ColumnProfile) -> bool:
    if column.is_number or not 1 < column.distinct <= MOST_KINDS:
        return False
    values = [str(value).lower() for value in column.values.unique().to_list()]
    return any(word in value for value in values for word in KIND_WORDS)


def _is_small(column: ColumnProfile) -> bool:
    """Whether a column holds stars, quantities or flags rather than ids."""
    if not column.is_number:
        return column.distinct <= MOST_KINDS and column.words > 0
    most = float(column.values.max() or 0)  # type: ignore[arg-type]
    return column.distinct <= MOST_STARS and most <= MOST_STARS and column.distinct < 0.05 * len(column.values)


def _is_fraction(column: ColumnProfile) -> bool:
    return column.is_number and column.values.dtype.is_float() and bool((column.values % 1 != 0).any())
