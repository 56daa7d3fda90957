"""Commands that make something to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.console import progress, show_json
from recsys.cli.options import ConfigFile, Json

PANEL = "Look"

commands = typer.Typer()


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys report configs/shop.yaml --out shop.html")
def report(
    config: ConfigFile,
    out: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="The page. Default: OUTPUT/NAME/report.html.")
    ] = None,
    show_users: Annotated[bool, typer.Option("--show-users", help="Name the customers who are due.")] = False,
    as_json: Json = False,
) -> None:
    """Evaluate, and write one HTML page: what the data is, how good the lists are and for whom, what to try next.

    The page is one file that loads nothing: send it by mail, open it from disk, print it. It also says what sells and
    rises, what is bought together and when customers come back, and what changed since the last report. With --json,
    its numbers are printed as well.
    """
    from recsys.config import load_config
    from recsys.report.collect import collect
    from recsys.report.page import render
    from recsys.storage import atomic

    loaded = load_config(config)
    out = out or loaded.folder / "report.html"
    with progress() as shown:
        found = collect(loaded, config, shown, show_users=show_users)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(out, render(found))
    show_json(found | {"page": str(out)}) if as_json else print(out)
