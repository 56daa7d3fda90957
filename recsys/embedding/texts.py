"""What the encoder reads: one text per item from its columns, one per user from what they did last."""

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

    Runs of white space become one space; nulls and blanks are left out; numbers are written as they print,
    lists joined by spaces. An item of which nothing is left is described by its category, or by its id where
    it has no category either, so every item has a text.

    Args:
        catalog: the `I` items.
        columns: names of columns of `catalog.frame`.
        html: whether HTML in a text is removed (`strip_markup`) or kept.

    Returns:
        `I` texts, in row order, none of them blank.

    Raises:
        ConfigError: no column is named, or one that the catalogue lacks.
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
    """The column as strings with single spaces; null where nothing is left."""
    values = pl.col(column)
    if isinstance(catalog.frame.schema[column], pl.List):
        values = values.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    text = values.cast(pl.String)
    if html == "strip" and catalog.frame.schema[column] in (pl.String, pl.List(pl.String)):
        text = text.map_batches(strip_markup, return_dtype=pl.String)
    text = text.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(text != "").then(text)


def behaviour_texts(histories: Histories, titles: Sequence[str], newest: int) -> list[str]:
    """Write down what each user did last: the newest distinct titles, newest first, joined by ` ; `.

    A title that occurs twice (the same item again, or another of the same title) counts once, at its newest
    place. No text is cut here: the tokenizer cuts the end, so that the newest titles survive.

    Args:
        histories: of `U` users.
        titles: `I` titles, by item row.
        newest: how many distinct titles a text holds at most.

    Returns:
        `U` texts; `""` for an empty history.
    """
    texts = np.full(len(histories), "", dtype=object)
    if not len(histories.item):
        return list(texts)
    names = pl.Series("name", titles, dtype=pl.String)
    first = names.to_frame().with_row_index().select(pl.col("index").first().over("name")).to_series().to_numpy()
    backwards = slice(None, None, -1)
    told = (
        pl.DataFrame({"user": histories.owner[backwards], "title": first[histories.item[backwards]]})
        .unique(maintain_order=True, keep="first")
        .group_by("user", maintain_order=True)
        .head(newest)
    )
    told = told.with_columns(names.gather(told["title"]).alias("title"))
    told = told.group_by("user", maintain_order=True).agg(pl.col("title").str.join(TITLE_SEPARATOR))
    texts[told["user"].to_numpy()] = told["title"].to_list()
    return list(texts)
