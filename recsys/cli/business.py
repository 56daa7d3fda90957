"""Commands on the business to come: who is due to reorder, and which prices look wrong."""

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


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys prices configs/shop.yaml --item i000")
def prices(
    config: ConfigFile,
    item: Annotated[str | None, typer.Option("--item", metavar="ID", help="One item.")] = None,
    price: Annotated[str, typer.Option("--price", metavar="COLUMN", help="The log's prices of a unit.")] = "price",
    k: K = 20,
    as_json: Json = False,
) -> None:
    """Say which prices look wrong: new items' beside like items, known items' beside their own past.

    Most off first. The range holds 80% of the prices of like items; `as_far` is the share of prices that lie as far
    off. No price is forecast.
    """
    from recsys.business.prices import study_prices
    from recsys.config import load_config

    study = study_prices(load_config(config), price=price)
    if item is not None:
        study = study.of(item)
    past = study.measured
    note(f"{past['items']:,} items, each judged as if it were new: R² {past['r2']:.2f}, the 80% range holds "
         f"{past['coverage']:.0%}; slipped decimals (x10) planted in 5%: AUC {past['auc']:.3f}, {past['first']:.0%} of "
         f"the {past['among']} most off")  # fmt: skip
    if as_json:
        found = {"new": study.new.head(k).to_dicts(), "known": study.known.head(k).to_dicts()}
        show_json({"measured": past, **found})
        return
    tables = {
        "New items, by items with like texts": study.new.head(k),
        "Known items, by their own past": study.known.head(k),
    }
    show(*(_table(title, frame, ("as_far",)) for title, frame in tables.items() if frame.height))


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
    if isinstance(value, list):
        return ", ".join(f"{one['title'] or one['item_id']} {one['price']:g}" for one in value)[:100]
    return str(value)[:50]
