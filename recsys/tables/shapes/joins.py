"""Find which tables belong together: an order's lines and its customer, an item and its genres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from recsys.tables.names import names_people, names_time, strength, words_of
from recsys.tables.profile import ColumnProfile, TableProfile
from recsys.tables.roles import has_time, is_moment
from recsys.tables.shapes.draft import Draft
from recsys.tables.shapes.joined import Link, as_joined

LEAST_SHARE = 0.05  # share of items of which a table must know something
HALF = 0.5  # share of a log's rows that must find a partner: a join that loses more tells less than it costs
TITLED = 0.3  # share of a log's texts that must be titles of items
MOST_LINKS = 4
PLACES = ("number", "position", "sequence", "seq", "index")


def join_people(log: Draft, others: Sequence[Draft]) -> tuple[Draft, list[str]]:
    """Join to a log the tables that say who, and when: orders to their lines, customers to orders.

    Returns:
        The log, with what was joined, and a sentence on each join.
    """
    notes: list[str] = []
    left = [draft for draft in others if draft.name != log.name]
    while len(notes) < MOST_LINKS:
        found = [link for draft in left if (link := _link(log, draft)) is not None]
        link = max(found, key=lambda link: link.share, default=None)
        if link is None:
            break
        log = as_joined(log).with_link(link)
        left.remove(link.draft)
        rest = "" if link.share == 1 else f"; the other {1 - link.share:.1%} are left out"
        notes.append(f"{Path(link.draft.name).name} is joined by {link.right!r}, which {link.share:.1%} of the rows of "
                     f"{Path(log.name).name} find{rest}")  # fmt: skip
    return log, notes


def _link(log: Draft, other: Draft) -> Link | None:
    """A join that brings people or times that a log lacks."""
    table, rows = other.profile, log.profile
    has = [*rows.columns]
    people = [name for name in table.columns if names_people(name) and _is_key(name) and name not in has]
    people = [name for name in people if not _a_number_of_many(table.columns[name])]
    needs_people = bool(people) and _persons(rows) != 1
    times = [one.name for one in table.columns.values()
             if is_moment(one) and names_time(one.name) and one.name not in has
             and (needs_people or not has_time(rows))]  # fmt: skip
    for key in table.columns.values():
        if not key.unique or is_moment(key) or (key.is_number and key.values.dtype.is_float()):
            continue
        column = _same_name(key.name, other.name, has)
        if column is None:
            continue
        brings = [name for name in (*people, *times) if name != key.name]
        if not times and not has_time(rows):
            brings += _places(table, key.name, people, has)
        dated = has_time(rows) or len(brings) > len(people)
        if not brings or not dated:  # a join keeps no order of rows, which is all that such a log has
            continue
        share = matched(log, column, other, key.name)
        if share >= HALF:
            return Link(other, column, key.name, tuple(dict.fromkeys(brings)), keeps=share == 1, share=share)
    return None


def _persons(rows: TableProfile) -> int:
    """How many columns name a person for certain: not one by the order, as a key that comes once an order may."""
    named = [name for name in rows.columns if names_people(name) and _is_key(name)]
    keys = [name for name in named if words_of(name)[-1] == "id" and "customer" in words_of(name)]
    return 0 if not named or (keys and len(named) == len(keys) == 1 and _one_order_each(rows, keys[0])) else 1


def _one_order_each(rows: TableProfile, customer: str) -> bool:
    """Whether each customer has one order: then the number is of the order, and another table knows the person."""
    orders = [name for name in rows.columns if words_of(name)[:1] == ["order"] and words_of(name)[-1] == "id"]
    if not orders:
        return False
    each = rows.frame.group_by(customer).agg(pl.col(orders[0]).n_unique().alias("__orders"))
    return float((each["__orders"] == 1).mean() or 0) > 0.98  # type: ignore[arg-type]


def _is_key(name: str) -> bool:
    """Whether a name is that of an id, such as `customer_id` or `email`, and not of a person's town."""
    words = words_of(name)
    return len(words) == 1 or words[-1] in ("id", "uid", "code", "no", "number", "key", "email", "hash")


def _a_number_of_many(column: ColumnProfile) -> bool:
    return column.distinct < 2


def _same_name(key: str, table: str, columns: Sequence[str]) -> str | None:
    """The column that speaks of the same as another table's key: `order_id` of `order_id`, or of the `id` of orders."""
    plain = "".join(words_of(key))
    for name in columns:
        words = words_of(name)
        if "".join(words) == plain and (plain != "id" or len(columns) == 0):
            return name
        if plain == "id" and len(words) > 1 and words[-1] == "id" and words[0].rstrip("s") in Path(table).name.lower():
            return name
    return None


def _places(table: TableProfile, key: str, people: Sequence[str], has: Sequence[str]) -> list[str]:
    """Columns that number the rows of each person, as `order_number` the orders."""
    found = []
    for column in table.columns.values():
        whole = column.is_number and not column.values.dtype.is_float() and not column.missing
        if not (whole and people and set(words_of(column.name)) & set(PLACES)) or column.name in (key, *has):
            continue
        each = table.frame.group_by(people[0]).agg((pl.col(column.name).n_unique() == pl.len()).alias("__numbered"))
        if float(each["__numbered"].mean() or 0) > 0.9:  # type: ignore[arg-type]
            found.append(column.name)
    return found


def matched(log: Draft, column: str, other: Draft, key: str, cut: bool = False) -> float:
    """Share of a log's first rows whose value a column of another table holds."""
    values = log.profile.frame[column].drop_nulls()
    if not len(values):
        return 0.0
    texts = log.frame.select(pl.col(column).cast(pl.String).alias("__key")).drop_nulls().head(1_000_000)
    if cut:
        texts = texts.with_columns(__cut=pl.col("__key").str.replace(r"^(.*) - .*$", "${1}"))
    keys = other.frame.select(pl.col(key).cast(pl.String).alias("__key")).drop_nulls().unique()
    held = keys.with_columns(pl.lit(True).alias("__held"))
    both = texts.join(held, on="__key", how="left")
    hit = pl.col("__held")
    if cut:
        both = both.join(held, left_on="__cut", right_on="__key", how="left", suffix="_cut")
        hit = pl.coalesce("__held", "__held_cut")
    return float(both.select(hit.fill_null(False).mean()).collect(engine="streaming").item() or 0)


def join_titles(log: Draft, others: Sequence[Draft]) -> tuple[Draft, list[str]]:
    """Tie a log that names items by their titles, perhaps with a variant behind (`Shirt - Small`), to their table.

    Returns:
        The log with a column `item_id` where such a table is found, and a sentence on it.
    """
    best: tuple[float, Draft, str, str, str] | None = None
    for other in others:
        if other.name == log.name:
            continue
        texts = [one for one in other.profile.columns.values() if one.unique and one.words > 0]
        titles = [one for one in texts if strength(one.name, "title")]
        keys = [one.name for one in other.profile.columns.values() if one.unique and not is_moment(one)]
        for title in titles:
            for text in log.profile.columns.values():
                if text.words <= 0 or text.distinct < 2 or text.missing > HALF:
                    continue
                share = matched(log, text.name, other, title.name, cut=True)
                if share >= TITLED and (best is None or share > best[0]):
                    best = (share, other, text.name, title.name, keys[0])
    if best is None:
        return log, []
    share, other, column, name, key = best
    link = Link(other, column, name, (key,), cut=True, renamed={key: "item_id"}, share=share)
    source = Path(other.name.split(" by ")[0]).name
    rest = "" if share == 1 else f"; the other {1 - share:.1%} are of items that it lacks, and are left out"
    return as_joined(log).with_link(link), [
        f"items are named by {column!r}: {share:.1%} of the rows name a {name!r} of {source}, with or without a "
        f"variant behind ` - `{rest}"
    ]


def join_details(catalog: Draft, key: str, others: Sequence[Draft]) -> tuple[Draft, list[str]]:
    """Join to a table of items what other tables say of an item or of one of its columns: genres, names of categories.

    Returns:
        The table, with what was joined, and a sentence on each join.
    """
    notes: list[str] = []
    for other in others:
        link = _list_link(catalog, key, other) or _name_link(catalog, key, other)
        if link is None or len(notes) >= MOST_LINKS:
            continue
        joined = as_joined(catalog).with_link(link)
        # A number that another table names says less than its name.
        catalog = joined if link.lists else replace(joined, given=joined.frame.drop(link.left))
        what = "each item's list of" if link.lists else "the"
        notes.append(f"{Path(other.name).name} gives {what} {', '.join(link.brings)}: {link.share:.1%} of the items "
                     f"are found by {link.right!r}")  # fmt: skip
    return catalog, notes


def _list_link(catalog: Draft, key: str, other: Draft) -> Link | None:
    """A table with several rows an item, and a text in each: genres, tags."""
    columns = other.profile.columns
    if len(columns) > 3 or has_time(other.profile):
        return None
    for one in columns.values():
        if one.unique or one.distinct > 0.9 * len(one.values) or "".join(words_of(one.name)) != "".join(words_of(key)):
            continue
        texts = [text.name for text in columns.values() if text.words > 0 and text.name != one.name
                 and strength(text.name, "category") and text.distinct < 0.5 * len(text.values)]  # fmt: skip
        if texts and (share := matched(catalog, key, other, one.name)) >= LEAST_SHARE:
            return Link(other, key, one.name, (texts[0],), lists=True, share=share)
    return None


def _name_link(catalog: Draft, key: str, other: Draft) -> Link | None:
    """A short table that names the values of a column, as aisles their numbers."""
    columns, has = other.profile.columns, catalog.profile.columns
    if len(columns) > 4:
        return None
    for one in columns.values():
        column = _same_name(one.name, other.name, [name for name in has if name != key])
        if column is None or not one.unique:
            continue
        texts = [text.name for text in columns.values() if text.words > 0 and text.name != one.name
                 and text.name not in has]  # fmt: skip
        if texts and (share := matched(catalog, column, other, one.name)) >= HALF:
            return Link(other, column, one.name, (texts[0],), share=share)
    return None
