"""Which table is the catalogue, which is the log, and which column is what: judged by names, values and overlaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from recsys.errors import DataError
from recsys.tables.names import (
    LATER,
    LINE,
    NO_ITEM,
    NO_VALUE,
    POSITIONS,
    is_line,
    names_people,
    names_time,
    strength,
    words_of,
)
from recsys.tables.profile import ColumnProfile, TableProfile, overlap

MOST_KINDS = 30
MOST_MISSING = 0.5  # share of rows without a user or an item from which on a column names neither
LINKED = 0.3  # share of a log's items that a table must hold to be its catalogue


@dataclass(frozen=True, eq=False)
class Roles:
    """What was found: the two tables, our column names to theirs, and what is unclear.

    Attributes:
        catalog: The items; None where no table holds them, and they are those of the log.
        interactions: The log.
        catalog_columns: Ours to the catalogue's, or to the log's where there is no catalogue.
        interaction_columns: Ours to the log's.
        clock: `time` where the log has times, `order` where a column or the order of rows stands for time.
        notes: What was assumed, a line each.
    """

    catalog: TableProfile | None
    interactions: TableProfile
    catalog_columns: Mapping[str, str]
    interaction_columns: Mapping[str, str]
    clock: str
    notes: list[str] = field(default_factory=list)


def find_roles(tables: Sequence[TableProfile]) -> Roles:
    """Find the log, its catalogue, and the role of each column.

    Raises:
        DataError: no table has both users and items that come more than once.
    """
    logs = [(table, *found) for table in tables if (found := find_ids(table)) is not None]
    if not logs:
        seen = "; ".join(f"{table.name}: {', '.join(table.columns)}" for table in tables)
        raise DataError(
            "no file looks like a log of behaviour: it needs a column of users (or sessions) and a column of items, "
            f"each with values that come more than once; the columns: {seen}"
        )
    log, _, item = max(logs, key=lambda found: (has_time(found[0]), found[0].rows))
    catalog, key = _catalog(tables, log, item)
    roles = _roles(log, catalog, key)
    user = roles.interaction_columns["user_id"]
    if catalog is None:
        roles.notes.extend(_catalog_that_lacks_items(tables, log, item))
    if not names_people(user):
        roles.notes.extend(_people_elsewhere(tables, log, user))
    return roles


def assign_roles(log: TableProfile, catalog: TableProfile) -> Roles:
    """Find the role of each column of a log and its catalogue, where it is known which table is which.

    Raises:
        DataError: the log has no column of users or of items, or no column of the catalogue holds the log's items.
    """
    found = find_ids(log)
    if found is None:
        raise DataError(
            f"{log.name} has no column of users or none of items; its columns: {', '.join(log.columns)}; name them "
            "user_id and item_id, or map them under data.interactions.columns"
        )
    linked, key = _catalog([catalog], log, found[1])
    if linked is None:
        raise DataError(
            f"no column of {catalog.name} holds the items of {log.name}, which stand in its column {found[1]!r}; the "
            f"columns: {', '.join(catalog.columns)}"
        )
    return _roles(log, catalog, key)


def _roles(log: TableProfile, catalog: TableProfile | None, key: str) -> Roles:
    """Give each column of the two tables its role; `key` is the catalogue's column of item ids."""
    found = find_ids(log)
    assert found is not None
    user, item = found
    notes = []
    if not names_people(user):
        notes.append(f"no column names people: each value of {user!r} is taken for a user of its own")
    columns, clock = _log_columns(log, {"user_id": user, "item_id": item}, {user, item}, notes)
    catalog_columns = (
        _catalog_columns(catalog, key, {key})
        if catalog
        else _catalog_columns(log, item, _not_of_items(log, item, columns))
    )
    return Roles(catalog, log, catalog_columns, columns, clock, notes)


def find_ids(table: TableProfile) -> tuple[str, str] | None:
    """The columns of users and items of a log; None where a table is none."""
    again = [column for column in table.columns.values()
             if column.distinct < len(column.values) and column.missing < MOST_MISSING]  # fmt: skip
    users = _by_strength(again, "user_id", lambda column: column.distinct > 1
                         and not {*words_of(column.name)} & {*LINE}
                         and (not _fraction(column) or words_of(column.name)[-1:] == ["id"]))  # fmt: skip
    items = _by_strength(again, "item_id", lambda column: column.distinct > 1 and not _fraction(column)
                         and not {*words_of(column.name)} & {*NO_ITEM} and not is_line(column.name))  # fmt: skip
    items = [column for column in items
             if not users or not (column.name == users[0].name or _counts_lines(table, users[0], column))]  # fmt: skip
    if not users or not items:
        return None
    return users[0].name, items[0].name


def _counts_lines(table: TableProfile, user: ColumnProfile, column: ColumnProfile) -> bool:
    """Whether a column only numbers the rows of each user from 1, as `order_item_id` the lines of an order."""
    if not column.is_number or _fraction(column):
        return False
    of_user = pl.col(column.name).cast(pl.Int64, strict=False)
    each = table.frame.drop_nulls([user.name]).group_by(user.name).agg((of_user.max() == pl.len()).alias("_counted"))
    return float(each["_counted"].mean() or 0) > 0.9  # type: ignore[arg-type]


def _people_elsewhere(tables: Sequence[TableProfile], log: TableProfile, user: str) -> list[str]:
    """Notes on tables that tie the visits or orders of a log to people."""
    notes = []
    for table in tables:
        people = [name for name in table.columns if names_people(name)]
        share, key = _held(table, log.columns[user])
        if table is not log and people and share:
            notes.append(f"{table.name} ties {share:.0%} of {user!r} to {people[0]!r} by its column {key!r}: to "
                         "recommend to these, join the two with `source: query` under data.interactions")  # fmt: skip
    return notes


def _catalog_that_lacks_items(tables: Sequence[TableProfile], log: TableProfile, item: str) -> list[str]:
    """Notes on tables that hold too few of a log's items to be its catalogue."""
    held = {table.name: _held(table, log.columns[item]) for table in tables if table is not log}
    return [f"{name} holds {share:.0%} of the items in its column {key!r}: too few to be the catalogue"
            for name, (share, key) in held.items() if share]  # fmt: skip


def _held(table: TableProfile, column: ColumnProfile) -> tuple[float, str]:
    """The greatest share of a column's values that one with a row a value holds, and that one."""
    keys = [one for one in table.columns.values() if one.unique and not is_moment(one)]
    alike = [one for one in keys if one.is_number == column.is_number]
    return max(((overlap(column.values, one.values), one.name) for one in alike), default=(0.0, ""))


def _fraction(column: ColumnProfile) -> bool:
    return column.is_number and column.values.dtype.is_float() and bool((column.values % 1 != 0).any())


def _by_strength(columns: Sequence[ColumnProfile], role: str,
                 fits: Callable[[ColumnProfile], bool]) -> list[ColumnProfile]:  # fmt: skip
    """The columns that fit a role, those whose names speak most for it first."""
    found = [(strength(column.name, role), column) for column in columns]
    some = [(much, column) for much, column in found if much > 0 and fits(column)]
    # Of two equally good names of people, the one whose values come more often is theirs and not an order's.
    again = (lambda column: column.distinct) if role == "user_id" else lambda column: 0
    return [column for _, column in sorted(some, key=lambda pair: (-pair[0], again(pair[1])))]


def has_time(table: TableProfile) -> bool:
    """Whether a table has a column of times."""
    return any(column.is_time and names_time(column.name) for column in table.columns.values())


def is_moment(column: ColumnProfile) -> bool:
    """Whether a column holds times, and not ids that are as large as seconds since 1970."""
    return column.is_time and (not column.is_number or names_time(column.name))


def _log_columns(log: TableProfile, columns: dict[str, str], taken: set[str],
                 notes: list[str]) -> tuple[dict[str, str], str]:  # fmt: skip
    """Time, kind and value of the events."""
    free = [column for column in log.columns.values() if column.name not in taken]
    times = [column for column in free if column.is_time and names_time(column.name)]
    times = times or [column for column in free if column.is_time and not column.is_number]
    clock = "time"
    why = "no column holds times"
    if times:
        best = max(times, key=_speaks_for_choice).name
        columns["timestamp"] = best
        if _one_moment(log, columns["user_id"], best):
            why = f"most users have all their events at one moment of {best!r}"
            del columns["timestamp"]
    if "timestamp" not in columns:
        clock = "order"
        places = [column for column in free if _is_position(log, column, columns)]
        if places:
            columns["timestamp"] = places[0].name
            notes.append(f"{why}: the order of {places[0].name!r} stands for time")
        else:
            notes.append(f"{why}: the order of the rows stands for time")
    free = [column for column in free if column.name != columns.get("timestamp")]
    kinds = _by_strength(free, "event", lambda column: column.words > 0 and column.distinct <= MOST_KINDS)
    if kinds:
        columns["event"] = kinds[0].name
    values = _by_strength([c for c in free if c.name != columns.get("event")], "value", lambda column: column.is_number
                          and not {*words_of(column.name)} & {*NO_VALUE})  # fmt: skip
    if values:
        columns["value"] = values[0].name
    return columns, clock


def _speaks_for_choice(column: ColumnProfile) -> tuple[bool, bool, int, float]:
    """How well a column tells when somebody chose: not when it was shipped; better to the second."""
    later = bool({*words_of(column.name)} & {*LATER})
    return not later, column.missing < MOST_MISSING, column.distinct, strength(column.name, "timestamp")


def _one_moment(log: TableProfile, user: str, time: str) -> bool:
    """Whether most users who have several events have them all at the same time."""
    each = log.frame.group_by(user).agg(pl.len().alias("_events"), pl.col(time).n_unique().alias("_moments"))
    several = each.filter(pl.col("_events") > 1)
    return several.height > 0 and float((several["_moments"] == 1).mean() or 0) > 0.5  # type: ignore[arg-type]


def _is_position(log: TableProfile, column: ColumnProfile, columns: Mapping[str, str]) -> bool:
    """Whether a column of whole numbers tells the order of a user's events: by its name, or since it always grows."""
    if not column.is_number or _fraction(column) or column.missing:
        return False
    if "number" in words_of(column.name):
        return _numbers_visits(log, column, columns["user_id"])
    named = set(words_of(column.name)) & set(POSITIONS)
    timed = any(word.startswith("time") for word in words_of(column.name))
    if not (named or timed):
        return False
    spread = log.frame.group_by(columns["user_id"]).agg((pl.col(column.name).n_unique() / pl.len()).alias("_distinct"))
    return float(spread["_distinct"].mean() or 0) > 0.9  # type: ignore[arg-type]


def _numbers_visits(log: TableProfile, column: ColumnProfile, user: str) -> bool:
    """Whether a column numbers each user's orders or visits without a gap, as `order_number` does."""
    place = pl.col(column.name)
    each = log.frame.group_by(user).agg((place.max() - place.min() + 1 == place.n_unique()).alias("_counted"),
                                        place.n_unique().alias("_orders"))  # fmt: skip
    return float(each["_counted"].mean() or 0) > 0.9 and float(each["_orders"].mean() or 0) > 1  # type: ignore[arg-type]


def _catalog(tables: Sequence[TableProfile], log: TableProfile, item: str) -> tuple[TableProfile | None, str]:
    """The table whose unique column holds most of the log's items, and that column."""
    best: tuple[float, TableProfile, str] | None = None
    for table in tables:
        if table is log:
            continue
        for column in table.columns.values():
            if is_moment(column) or column.distinct < 0.5 * len(column.values):
                continue
            share = overlap(log.columns[item].values, column.values)
            share += 0.001 * (strength(column.name, "item_id") > 0) + 0.002 * column.unique + 0.004 * _has_texts(table)
            if share >= LINKED and (best is None or share > best[0]):
                best = (share, table, column.name)
    return (None, item) if best is None else best[1:]


def _not_of_items(log: TableProfile, item: str, columns: Mapping[str, str]) -> set[str]:
    """The columns of a log that say nothing of an item: those in use, and those of several values for most items."""
    free = [name for name, column in log.columns.items()
            if name not in columns.values() and not column.values.dtype.is_nested()]  # fmt: skip
    each = log.frame.group_by(item).agg(
        pl.len().alias("_rows"), *(pl.col(name).drop_nulls().n_unique() for name in free)
    )
    often = each.filter(pl.col("_rows") > 1)
    changing = {name for name in free if often.height and float((often[name] > 1).mean() or 0) > 0.5}  # type: ignore[arg-type]
    # A price may change: it is that of an item all the same.
    return {*columns.values()} | {name for name in changing if not strength(name, "price")}


def _groups(column: ColumnProfile) -> bool:
    return 1 < column.distinct < 0.9 * len(column.values)


def _has_texts(table: TableProfile) -> bool:
    """Whether a table names its rows, as one of items does and one of links between ids does not."""
    return any(column.words > 1 and column.distinct > 0.5 * len(column.values) for column in table.columns.values()
               if not column.values.dtype.is_nested())  # fmt: skip


def _catalog_columns(catalog: TableProfile, key: str, taken: set[str]) -> dict[str, str]:
    """What the columns of a table of items say of an item; those in `taken` say something else."""
    columns, taken = {"item_id": key}, {*taken}

    def take(role: str, fits: Callable[[ColumnProfile], bool]) -> None:
        free = [column for column in catalog.columns.values() if column.name not in taken]
        found = _by_strength(free, role, fits)
        if found:
            columns[role] = found[0].name
            taken.add(found[0].name)

    take("title", lambda column: column.words > 0 and ("title" in words_of(column.name)
                                                       or not strength(column.name, "category")))  # fmt: skip
    take("description", lambda column: column.words > 2)
    take("category", lambda column: column.values.dtype.is_nested() or (column.words > 0 and _groups(column)))
    if "category" not in columns:
        take("category", _groups)
    take("brand", lambda column: column.words > 0)
    take("price", lambda column: column.is_number)
    if "title" not in columns:
        texts = [column for column in catalog.columns.values() if column.name not in taken and column.words > 1.5
                 and column.distinct > 0.5 * len(column.values)]  # fmt: skip
        if texts:
            columns["title"] = max(texts, key=lambda column: column.distinct).name
    return columns
