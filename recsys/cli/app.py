"""The command line as a whole. Commands import what they need when they run, so that help comes at once."""

from __future__ import annotations

from typing import Annotated

import typer

from recsys.cli import ask, assist, business, console, keep, learn, look, reviews

EXIT_CODES = (
    "Exit codes: 0 fine · 1 another error · 2 wrong usage · 3 config · 4 data · 5 bundle or store · 6 unknown id · "
    "7 request · 130 interrupted. Data goes to stdout; progress, logs and errors go to stderr."
)

app = typer.Typer(
    help="Ranked recommendations from a shop's texts and behaviour logs.\n\n"
    "Start with your files: [bold]init[/bold] FILE... writes a config, [bold]evaluate[/bold] CONFIG says how good the "
    "recommendations are, [bold]train[/bold] CONFIG publishes a bundle, and [bold]score[/bold] USER_ID asks it. "
    "[bold]demo[/bold] shows all of it on a real grocery chain.",
    epilog=EXIT_CODES,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (learn, ask, look, business, assist, reviews, keep):
    app.add_typer(room.commands)


def _version(asked: bool) -> None:
    if asked:
        from recsys import __version__

        print(f"recsys {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what each step does.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show the traceback of an error (also RECSYS_DEBUG=1).")
    ] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Write logs and errors as JSON lines.")] = False,
) -> None:
    console.set_up_logs(verbose=verbose, debug=debug, as_json=log_json)
