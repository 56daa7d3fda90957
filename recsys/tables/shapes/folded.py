"""Find exports in which one order or product spans rows, and later rows leave blank what the first one says."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recsys.tables.shapes.draft import Draft
from recsys.tables.sources.folding import filled

LEAST_CONTINUING, LEAST_SHARE = 3, 0.02  # rows that continue the one above, and their share of the table
CERTAIN = 3  # columns blank in these from which on fewer rows do
MOST_SHARE = 0.9  # where the column that names the entity is itself blank in them
MOST_BROKEN = 0.02  # share of entities whose rows do not stand together


@dataclass(frozen=True)
class Fold:
    """How entities span rows.

    Attributes:
        key: The column that names the entity.
        blank: The columns that only the first row of an entity fills.
        key_is_blank: Whether the later rows leave the key blank too.
    """

    key: str
    blank: tuple[str, ...]
    key_is_blank: bool


def find_fold(rows: pl.DataFrame) -> Fold | None:
    """Find the column whose entities span rows of which only the first is filled in some columns; None for no such."""
    is_filled = rows.select(filled(name, dtype).is_not_null() for name, dtype in rows.schema.items()
                            if not dtype.is_nested())  # fmt: skip
    if rows.height < LEAST_CONTINUING:
        return None
    found = [fold for key in is_filled.columns if (fold := _fold_by(rows, is_filled, key)) is not None]
    return max(found, key=lambda fold: len(fold.blank) + fold.key_is_blank, default=None)


def _fold_by(rows: pl.DataFrame, is_filled: pl.DataFrame, key: str) -> Fold | None:
    named = is_filled[key]
    values = rows.select(filled(key, rows.schema[key]).forward_fill()).to_series()
    if not named[0]:
        return None
    starts = named & values.ne_missing(values.shift(1))
    continuing = int((~starts).sum())
    distinct = values.n_unique()
    if continuing < max(1, LEAST_SHARE * rows.height) or distinct < 2:
        return None
    if int(starts.sum()) > (1 + MOST_BROKEN) * distinct:
        return None
    first, later = is_filled.filter(starts), is_filled.filter(~starts)
    key_is_blank = not later[key].any()
    if key_is_blank and (key != rows.columns[0] or continuing > MOST_SHARE * rows.height):
        return None  # otherwise any two columns that are rarely filled, and together, would name an entity
    blank = [name for name in is_filled.columns
             if name != key and not later[name].any() and float(first[name].mean() or 0) >= 0.5]  # type: ignore[arg-type]  # fmt: skip
    enough = bool(blank) and (continuing >= LEAST_CONTINUING or len(blank) >= CERTAIN)
    return Fold(key, tuple(blank), key_is_blank) if enough else None


def unfold(draft: Draft) -> tuple[list[Draft], str]:
    """Read a folded table in both ways that may be meant: each row by itself, and one row an entity.

    Returns:
        The table itself where it is not folded, and what was found, empty for nothing.
    """
    fold = find_fold(draft.profile.frame) if draft.settings["source"] == "csv" else None
    if fold is None:
        return [draft], ""
    lines = Draft(draft.name, {**draft.settings, "fill_down": {fold.key: list(fold.blank)}},
                  key_is_blank=fold.key_is_blank)  # fmt: skip
    whole = Draft(f"{draft.name} by {fold.key!r}", {**draft.settings, "one_row_per": fold.key})
    shown = ", ".join(fold.blank[:3]) + (f" and {len(fold.blank) - 3} more" if len(fold.blank) > 3 else "")
    return [lines, whole], (
        f"{draft.name}: rows of one {fold.key!r} stand together and only the first fills {shown}: the blanks below it "
        "mean the same"
    )
