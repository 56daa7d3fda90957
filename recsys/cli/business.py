"""Commands on the business to come: who is due to reorder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recsys.cli.console import note, show, show_json
from recsys.cli.look import PANEL
from recsys.cli.options import ConfigFile, Json

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from recsys.business.reorders import ReorderStudy

commands = typer.Typer()
K = Annotated[int, typer.Option("--k", "-k", min=1, help="How many rows of each table.")]


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys reorders configs/shop.yaml --user u029")
def reorders(
    config: ConfigFile,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="One customer.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="COLUMN", help="The log's column of sales representatives.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="VALUE", help="One representative, as the column --by has it.")
    ] = None,
    k: K = 20,
    as_json: Json = False,
) -> None:
    """Say who is due for what in the week after the log's last day, and what customers buy no longer.

    Each customer has the probability of any purchase within the week; each item bought on two days or more, that of
    this item, its usual quantity of a day and the usual days between. Dropped: what was bought on three days or more
    and is missing for three times its usual gap, while the customer came twice or more.
    """
    from recsys.business.reorders import study_reorders
    from recsys.config import load_config

    if only is not None and by is None:
        raise typer.BadParameter("--only needs --by: name the column that holds it")
    study = study_reorders(load_config(config), by=by)
    if only is not None:
        study = study.by(only)
    if user is not None:
        study = study.of(user)
    note(_told(study))
    tables = {"customers": study.customers, "items": study.items, "dropped": study.dropped}
    if as_json:
        found = {name: frame.head(k).to_dicts() for name, frame in tables.items()}
        show_json({"week": str(study.week), "measured": study.measured, **found})
        return
    titles = {"customers": "Due in the week", "items": "For what", "dropped": "Bought no longer"}
    show(*(_table(titles[name], frame.head(k)) for name, frame in tables.items() if frame.height))


def _told(study: ReorderStudy) -> str:
    past = study.measured
    return (f"Week from {study.week}. A week earlier, of the {past['among']} customers ranked highest "
            f"{past['precision']:.0%} came (by decayed frequency {past['decayed']:.0%}, by a passed usual gap "
            f"{past['gap_passed']:.0%}); {past['expected']:.0f} of {past['customers']:,} were expected, "
            f"{past['came']} came")  # fmt: skip


def _table(title: str, frame: pl.DataFrame, shares: Sequence[str] = ("probability",)) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None)
    kept = [name for name in frame.columns if frame[name].null_count() < frame.height]
    for name in kept:
        table.add_column(name.replace("_", " "), justify="right" if frame[name].dtype.is_numeric() else "left")
    for row in frame.select(kept).iter_rows(named=True):
        table.add_row(*(escape(_cell(value, name in shares)) for name, value in row.items()))
    return table


def _cell(value: Any, share: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0%}" if share else f"{value:,.4g}"
    return str(value)[:50]
