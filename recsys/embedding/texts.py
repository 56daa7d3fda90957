"""The texts to encode: one per item from its columns, one per user from what they did last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from recsys.config import nearest
from recsys.embedding.markup import strip_markup
from recsys.errors import ConfigError
from recsys.types import Catalog, Histories

ITEM_SEPARATOR = ". "
TITLE_SEPARATOR = " ; "


def item_texts(catalog: Catalog, columns: Sequence[str], html: Literal["strip", "keep"] = "strip") -> list[str]:
    """Join the named columns of each item into one text, in the order named.

    Runs of white space become one space. Nulls and blanks are left out. Numbers are written as they print, lists are
    joined by spaces. An item without any text is described by its category, or by its id where it has no category, so
    every item has a text.

    Args:
        catalog: The `I` items.
        columns: Names of columns of `catalog.frame`.
        html: Whether HTML in a text is removed (`strip_markup`) or kept.

    Returns:
        `I` texts, in row order, none of them blank.

    Raises:
        ConfigError: No column is named, or the catalogue lacks one.
    """
    known = catalog.frame.columns
    if not columns:
        raise ConfigError(f"embedding.text names no column; known: {', '.join(known)}")
    for column in columns:
        if column not in known:
            raise ConfigError(
                f"embedding.text: the catalogue has no column {column!r}{nearest(column, known)}; "
                f"known: {', '.join(known)}"
            )
    parts = [_cleaned(catalog, column, html) for column in columns]
    joined = pl.concat_str(parts, separator=ITEM_SEPARATOR, ignore_nulls=True)
    fallback = [_cleaned(catalog, "category", html)] if "category" in known else []
    last = pl.col("item_id").cast(pl.String)
    # concat_str of nulls alone is "", not null
    text = pl.coalesce(pl.when(joined != "").then(joined), *fallback, last)
    return catalog.frame.select(text.alias("text")).to_series().to_list()


def _cleaned(catalog: Catalog, column: str, html: str) -> pl.Expr:
    """Read a column as strings with single spaces; null where nothing is left."""
    values = pl.col(column)
    if isinstance(catalog.frame.schema[column], pl.List):
        values = values.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    text = values.cast(pl.String)
    if html == "strip" and catalog.frame.schema[column] in (pl.String, pl.List(pl.String)):
        text = text.map_batches(strip_markup, return_dtype=pl.String)
    text = text.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(text != "").then(text)


def behaviour_texts(histories: Histories, titles: Sequence[str], newest: int) -> list[str]:
    """Describe what each user did last: the newest distinct titles, newest first, joined by ` ; `.

    A title that occurs twice (the same item again, or another item of the same title) counts once, at its newest
    place. Texts are not cut here: the tokenizer cuts the end, so that the newest titles survive.

    Args:
        histories: The histories of `U` users.
        titles: `I` titles, by item row.
        newest: How many distinct titles a text has at most.

    Returns:
        `U` texts; `""` for an empty history.
    """
    texts = np.full(len(histories), "", dtype=object)
    if not len(histories.item):
        return list(texts)
    names = pl.Series("name", titles, dtype=pl.String)
    first = names.to_frame().with_row_index().select(pl.col("index").first().over("name")).to_series().to_numpy()
    backwards = slice(None, None, -1)
    described = (
        pl.DataFrame({"user": histories.owner[backwards], "title": first[histories.item[backwards]]})
        .unique(maintain_order=True, keep="first")
        .group_by("user", maintain_order=True)
        .head(newest)
    )
    described = described.with_columns(names.gather(described["title"]).alias("title"))
    described = described.group_by("user", maintain_order=True).agg(pl.col("title").str.join(TITLE_SEPARATOR))
    texts[described["user"].to_numpy()] = described["title"].to_list()
    return list(texts)
