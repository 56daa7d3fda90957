"""Commands that learn: from tables to a bundle, and how good it is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.console import note, progress, show, show_json
from recsys.cli.options import ConfigFile, Json, Plot, check_plot, report_checks, write_plot
from recsys.diagnostics import FAIL
from recsys.errors import LeakageError

PANEL = "Learn"

commands = typer.Typer()
DEMO_CONFIG = Path(__file__).with_name("demo.yaml")  # configs/demo.yaml links to it


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys demo")
def demo(
    config: Annotated[
        Path, typer.Option("--config", help="The config to run.", show_default="recsys/cli/demo.yaml")
    ] = DEMO_CONFIG,
    as_json: Json = False,
) -> None:
    """See it work: ingest, embed, fit, evaluate, publish, and three users with explained recommendations."""
    from recsys.cli.demo import demo as run

    run(config, as_json)


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys init events.csv items.csv --out shop.yaml")
def init(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="The shop's files, in any order; or env:NAME of a database, with --tables."
        ),
    ],
    tables: Annotated[
        str | None, typer.Option(metavar="A,B", help="Tables of the database that env:NAME names, in any order.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="The config to write.")] = Path("shop.yaml"),
    name: Annotated[str | None, typer.Option(help="What the run is called. Default: the name of the config.")] = None,
    day_first: Annotated[
        bool | None,
        typer.Option("--day-first/--month-first", help="How 01/02/2025 is read where no cell of its column tells."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a config that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Look at your files and write a commented config that `evaluate` and `train` run as it is.

    Finds out which file is the log and which holds the items, what each column says, whether people buy again, whether
    there are texts and times; and chooses split, retrievers, features and scorer to suit. Says what it assumed.
    """
    from recsys.errors import ConfigError
    from recsys.formatting import plural
    from recsys.jobs.init import propose
    from recsys.jobs.init_database import propose_tables
    from recsys.storage import atomic

    if out.exists() and not force:
        raise ConfigError(f"{out} exists already: name another with --out, or write over it with --force")
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", out.stem).strip("-.") or "shop"
    if tables is None:
        proposal = propose(files, name, day_first=day_first)
    elif len(files) > 1:
        raise typer.BadParameter(f"--tables are those of one database, and {len(files)} places were named")
    else:
        proposal = propose_tables(files[0], [table.strip() for table in tables.split(",") if table.strip()], name)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(out, proposal.to_yaml())
    facts = proposal.facts
    if as_json:
        measured = dataclasses.asdict(facts) | {"columns": sorted(facts.columns)}
        show_json({"config": str(out), "facts": measured, "notes": list(proposal.notes),
                   "reasons": dict(proposal.reasons), "settings": dict(proposal.raw)})  # fmt: skip
        return
    print(out)
    note(f"Read {plural(facts.events, 'event')} of {plural(facts.users, 'user')} on {plural(facts.items, 'item')}.")
    for line in (*proposal.notes, *proposal.reasons.values()):
        note(f"- {line}")
    note(f"Next: recsys evaluate {out}")


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys check configs/shop.yaml")
def check(config: ConfigFile, as_json: Json = False) -> None:
    """Read the tables and make the cuts, in seconds and without encoding: what would stop a run, and what was left out.

    Says for each table how many rows were read, kept, refused and left out by which rule; the cuts of the split, with
    the labels and users of each; and the packages and the encoder that the config needs and this machine lacks.
    """
    from recsys.config import load_config
    from recsys.errors import ConfigError, DataError
    from recsys.jobs.check import SETUP, check_run

    found = check_run(load_config(config))
    setup = any(one.status == FAIL and one.name in SETUP for one in found)
    report_checks(found, as_json, ConfigError.exit_code if setup else DataError.exit_code)


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys profile configs/shop.yaml")
def profile(config: ConfigFile, plot: Plot = None, as_json: Json = False) -> None:
    """Show what the tables hold: columns and their spread, users and items by events, time and gaps, bots, duplicates.

    Ends with what `init` concludes from it: the reasons of the settings that it would choose for these tables.
    """
    from recsys.cli.profile_views import profiled
    from recsys.config import load_config
    from recsys.jobs.profile import profile as describe

    loaded = load_config(config)
    check_plot(plot)
    found = describe(loaded)
    if plot is not None:
        from recsys.report.drawings import activity

        write_plot(activity(found), plot)
    show_json(found) if as_json else show(*profiled(found))


def _duration(text: str) -> float:
    """Read `90s`, `10m` or `2h` as seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"{text!r} is not a time: write a number above 0 and s, m or h, such as 90s or 10m")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys train configs/shop.yaml --tune --budget 10m")
def train(
    config: ConfigFile,
    tune: Annotated[bool, typer.Option("--tune", help="First choose settings on validation, then train.")] = False,
    budget: Annotated[
        float | None,
        typer.Option(parser=_duration, metavar="TIME", help="With --tune: what trials may spend. Default: 10m."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="With --tune: most trials. Default: no limit.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="With --tune: the chosen config. Default: OUTPUT/NAME/tuned.yaml."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn from everything and publish a bundle; print its folder.

    With --tune, settings are chosen first: window, decay, candidate depth, features, scorer and more, on the cut
    before the test cut, so that no test event is looked at. The first trial is the config as it stands.
    """
    from recsys.config import load_config
    from recsys.jobs.train import train as fit_and_publish

    loaded, about = load_config(config), {}
    if not tune and (budget, trials, out) != (None, None, None):
        raise typer.BadParameter("--budget, --trials and --out say how to tune: add --tune")
    with progress() as report:
        if tune:
            from recsys.jobs import tune as tuning

            tuned = tuning.tune(loaded, budget or tuning.BUDGET_SECONDS, report, trials=trials)
            out = out or loaded.folder / "tuned.yaml"
            tuned.write(config, out)
            loaded, about = tuned.config, {"tuning": tuned.to_dict() | {"config": str(out)}}
        version = fit_and_publish(loaded, report)
    if as_json:
        show_json({"bundle": str(version), "version": version.name, **about})
        return
    if about:
        from recsys.cli import views

        show(*views.tuning(about["tuning"]), "")
    print(version)
    note(f"Ask it: recsys score USER_ID --config {config}")


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys update configs/shop.yaml")
def update(config: ConfigFile, as_json: Json = False) -> None:
    """Bring the published bundle up to date with grown tables, without learning anew; print the new folder.

    Histories, statistics and the catalogue become those of the tables; whitening, tower and scorer are kept. Only texts
    that the bundle does not know are encoded.
    """
    from recsys.artifacts.bundle import load
    from recsys.config import load_config
    from recsys.jobs.update import update as renew

    version = renew(load_config(config))
    news = load(version).manifest["update"]
    if as_json:
        show_json({"bundle": str(version), "version": version.name, "update": news})
        return
    print(version)
    note("New: {events:,} events, {users:,} users, {items:,} items; {texts:,} changed texts, {encoded:,} texts "
         "encoded. Gone: {gone_users:,} users, {gone_items:,} items".format(**news))  # fmt: skip


@commands.command(
    rich_help_panel=PANEL, epilog="Example: recsys evaluate configs/shop.yaml --json | jq .metrics.engine"
)
def evaluate(
    config: ConfigFile,
    as_json: Json = False,
    validation: Annotated[bool, typer.Option("--validation", help="One cut earlier: choose settings here.")] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also learn probabilities, and measure them on what followed.")
    ] = False,
    plot: Plot = None,
) -> None:
    """Hold out what users did last, and measure how well the engine and the baselines predict it."""
    from recsys.cli import views
    from recsys.config import load_config
    from recsys.jobs.evaluate import evaluate as judge

    loaded = load_config(config)
    check_plot(plot)
    with progress() as report:
        result = judge(loaded, report, validation=validation, probabilities=probabilities)
    if plot is not None:
        from recsys.report.drawings import models

        write_plot(models(result), plot)
    show_json(result) if as_json else show(*views.evaluation(result))


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys audit configs/shop.yaml")
def audit(
    config: ConfigFile,
    as_json: Json = False,
    validation: Annotated[bool, typer.Option("--validation", help="Audit `evaluate --validation`.")] = False,
) -> None:
    """Check for data leakage: dates, ties, near-duplicate items, reruns over another future. Exits with 4 on FAIL."""
    from recsys.audit.audit import audit as examine
    from recsys.config import load_config

    with progress() as report:
        findings = examine(load_config(config), report, validation=validation)
    report_checks(findings, as_json, LeakageError.exit_code)


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys finetune configs/shop.yaml")
def finetune(
    config: ConfigFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="The encoder's folder. Default: OUTPUT/NAME/encoders/ and the time.")
    ] = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Tune the encoder on your texts and logs; publish it if it finds more, and print its folder.

    It learns from what was known before every cut of `evaluate`, so that a run with the tuned encoder stays honest. A
    run that was killed goes on where it was. Name the folder as `embedding.model` to use it.
    """
    from recsys.config import load_config
    from recsys.jobs.finetune import finetune as tune_encoder

    loaded = load_config(config)
    check_plot(plot)
    with progress() as report:
        tuned = tune_encoder(loaded, report, out=out)
    if plot is not None:
        from recsys.report.drawings import curves

        write_plot(curves(tuned.curves), plot)
    if as_json:
        show_json(tuned.to_dict())
        return
    from recsys.cli import views

    show(views.tuned_encoder(tuned.before, tuned.after))
    if tuned.folder is None:
        note(f"Not published: {tuned.verdict}")
        return
    print(tuned.folder)
    note(f"Published: {tuned.verdict}\nUse it: embedding.model: {tuned.folder}")
