"""The commands. Each imports what it needs when it runs, so that help and short answers come at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recsys.cli.console import note, progress, show, show_json
from recsys.diagnostics import FAIL, Check
from recsys.errors import ArtifactError, LeakageError

if TYPE_CHECKING:
    from recsys.serving.recommender import Recommender

HISTORY = 10
DEMO_CONFIG = Path("configs/demo.yaml")
DEMO_BUNDLE = Path("artifacts/demo")

EXIT_CODES = (
    "Exit codes: 0 fine · 1 another error · 2 wrong usage · 3 config · 4 data · 5 bundle or store · 6 unknown id · "
    "7 request · 130 interrupted. Data goes to stdout; progress, logs and errors go to stderr."
)

app = typer.Typer(
    help="Ranked recommendations from a shop's texts and behaviour logs.\n\n"
    "In order: [bold]doctor[/bold] (is this machine set up?), [bold]demo[/bold] (see it work), "
    "[bold]evaluate[/bold] CONFIG (how good?), [bold]audit[/bold] CONFIG (honestly so?), "
    "[bold]train[/bold] CONFIG (make a bundle), [bold]update[/bold] CONFIG (bring it up to date), then ask the bundle: "
    "[bold]score[/bold], [bold]explain[/bold], [bold]similar[/bold], [bold]search[/bold], [bold]candidates[/bold], "
    "[bold]inspect[/bold]; and look after its [bold]versions[/bold]: [bold]rollback[/bold], [bold]prune[/bold].",
    epilog=EXIT_CODES,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
K = Annotated[int, typer.Option("--k", "-k", min=1, help="How many items.")]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML of the run, such as configs/demo.yaml.")]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="The bundle's folder, or one version in it. Default: artifacts/demo.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Find the bundle where this config's runs publish.")
]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"recsys {version('recsys')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command(epilog="Example: recsys demo")
def demo(
    config: Annotated[Path, typer.Option("--config", help="The config to run.")] = DEMO_CONFIG,
    as_json: Json = False,
) -> None:
    """See it work: ingest, embed, fit, evaluate, publish, and three users with explained recommendations."""
    from recsys.cli.demo import demo as run

    run(config, as_json)


def _duration(text: str) -> float:
    """Read `90s`, `10m` or `2h` as seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(
            f"{text!r} is no time to spend: write a number above 0 and s, m or h, such as 90s or 10m"
        )
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


@app.command(epilog="Example: recsys train configs/shop.yaml --tune --budget 10m")
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


@app.command(epilog="Example: recsys update configs/shop.yaml")
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


@app.command(epilog="Example: recsys evaluate configs/shop.yaml --json | jq .metrics.engine")
def evaluate(
    config: ConfigFile,
    as_json: Json = False,
    validation: Annotated[bool, typer.Option("--validation", help="One cut earlier: choose settings here.")] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also learn probabilities, and measure them on what followed.")
    ] = False,
) -> None:
    """Hold out what users did last and see how well engine and baselines foretell it."""
    from recsys.cli import views
    from recsys.config import load_config
    from recsys.jobs.evaluate import evaluate as judge

    with progress() as report:
        result = judge(load_config(config), report, validation=validation, probabilities=probabilities)
    show_json(result) if as_json else show(*views.evaluation(result))


@app.command(epilog="Example: recsys audit configs/shop.yaml")
def audit(
    config: ConfigFile,
    as_json: Json = False,
    validation: Annotated[bool, typer.Option("--validation", help="Audit `evaluate --validation`.")] = False,
) -> None:
    """Check a run for leaks: dates, ties, near-duplicate items, reruns over another future. Exits with 4 on FAIL."""
    from recsys.audit.audit import audit as examine
    from recsys.config import load_config

    with progress() as report:
        findings = examine(load_config(config), report, validation=validation)
    _report(findings, as_json, LeakageError.exit_code)


@app.command(epilog="Example: recsys score 1762 --k 5    (an id that starts with a dash: recsys score -- -7)")
def score(
    user_id: Annotated[str, typer.Argument(help="The user.")],
    k: K = 10,
    as_json: Json = False,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="Answer for an unknown user with what is popular.")
    ] = False,
    where: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="Only such items: 'price <= 20 and brand is not null'.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="ITEM_ID", help="Not this item. May be given again.")
    ] = None,
    diversity: Annotated[float, typer.Option(help="From 0 (by score alone) to 1 (unlike each other).")] = 0.0,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Recommend for one user: the newest history, then a ranked list with reasons."""
    from recsys import formatting
    from recsys.errors import UnknownIdError
    from recsys.explain import phrases

    recommender = _load(bundle, config)
    answer = recommender.recommend(user_id, k, exclude=exclude, where=where, diversity=diversity, explain=True,
                                   strict=not fallback)  # fmt: skip
    try:
        history = recommender.history(user_id)
    except UnknownIdError:
        history = None
    clock = recommender.manifest["data_window"]["clock"]
    if answer.shortage is not None:
        note(answer.shortage.reason)
    if answer.fallback:
        note(f"user {user_id} has no history here: this is what is popular")
    if as_json:
        newest = [] if history is None else history.head(HISTORY).rows(named=True)
        events = [event | {"time": formatting.instant(event["time"], clock)} for event in newest]
        show_json(answer.to_dict() | {"history": events})
        return
    from recsys.cli import views

    own = {} if history is None else phrases.pasts(history, _now(recommender, history))
    if history is not None and len(history):
        show(views.history(user_id, history, clock, HISTORY), "")
    reasons = [phrases.why(item.reasons, own.get(item.item_id), recommender.config, cold=answer.cold)
               for item in answer.items]  # fmt: skip
    show(views.recommendations(f"Recommended for user {user_id}", answer.items, reasons))


@app.command(epilog="Example: recsys explain 1762 941357 --k 5")
def explain(
    user_id: Annotated[str, typer.Argument(help="The user.")],
    item_id: Annotated[str, typer.Argument(help="The item.")],
    k: K = 10,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Tell why an item is in a user's list of k, or at which stage it was lost and what it would have taken."""
    from recsys.cli import views

    recommender = _load(bundle, config)
    lost = recommender.why_not(user_id, item_id, k, strict=True)
    (found,) = recommender.explain(user_id, [item_id])
    if as_json:
        show_json({"user_id": user_id, "why_not": lost.to_dict(), "explanation": found.to_dict()})
    else:
        show(*views.explanation(user_id, lost, found))


@app.command(epilog="Example: recsys similar 941357 --k 5")
def similar(
    item_id: Annotated[str, typer.Argument(help="The item.")],
    k: K = 10,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """List the items whose texts are most like an item's."""
    recommender = _load(bundle, config)
    found = recommender.similar_items(item_id, k)
    title = f"Like {item_id}"
    _show_hits(title, found, as_json, {"item_id": item_id})


@app.command(epilog='Example: recsys search "green tea"')
def search(
    text: Annotated[str, typer.Argument(help="Any words.")],
    k: K = 10,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """List the items whose texts are most like some words."""
    if not text.strip():
        raise typer.BadParameter("the text to search for is empty")
    found = _load(bundle, config).search(text, k)
    _show_hits(f"Like “{text}”", found, as_json, {"text": text})


def _show_hits(title: str, found: Any, as_json: bool, asked: dict[str, str]) -> None:
    from recsys.cli import views

    show_json(asked | {"items": found.rows(named=True)}) if as_json else show(views.hits(title, found))


@app.command(epilog="Example: recsys candidates --out artifacts/demo/candidates --k 100")
def candidates(
    out: Annotated[Path, typer.Option("--out", help="Folder for the shards.")],
    k: K = 100,
    shard_users: Annotated[int, typer.Option("--shard-users", min=1, help="Users in one file.")] = 65_536,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Write ranked items for every user as Parquet. Run again after a kill, it goes on where it stopped."""
    import json

    from recsys.jobs.candidates import SUCCESS, write_candidates

    recommender = _load(bundle, config)
    with progress() as report:
        folder = write_candidates(recommender, out, k, shard_users, report)
    told = json.loads((folder / SUCCESS).read_text(encoding="utf-8"))
    if as_json:
        show_json({"folder": str(folder), **told})
    else:
        print(folder)
        note(f"{told['rows']:,} rows for {told['users']:,} users in {told['shards']} files")


@app.command(epilog="Example: recsys forget u383 --config configs/shop.yaml    (an id that starts with a dash: -- -7)")
def forget(
    user_ids: Annotated[list[str], typer.Argument(metavar="USER_ID...", help="Whom to forget.")],
    outputs: Annotated[
        list[Path] | None, typer.Option("--outputs", help="A folder of published lists elsewhere; may be repeated.")
    ] = None,
    as_json: Json = False,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="The bundle's folder.")] = None,
    config: ConfigOption = None,
) -> None:
    """Remove people from the bundle, vectors, quarantine and published lists, for all later runs too; prove it."""
    from recsys.cli import views
    from recsys.config import load_config
    from recsys.privacy.forget import forget as remove

    if (bundle is None) == (config is None):
        raise typer.BadParameter("say where: --bundle or --config, one of them")
    data = None if config is None else load_config(config).data
    gone = remove(_where(bundle, config), user_ids, outputs or (), data)
    if as_json:
        show_json(gone.to_dict())
        return
    for line in views.forgotten(gone):
        print(line)


@app.command(epilog="Example: recsys inspect --bundle artifacts/shop")
def inspect(
    bundle: BundleOption = None,
    config: ConfigOption = None,
    as_json: Json = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", dir_okay=False, help="Draw the reliability of its probabilities, as SVG.")
    ] = None,
) -> None:
    """Check every file of a bundle, and tell what it was made from and how."""
    from recsys.artifacts.bundle import load
    from recsys.artifacts.versions import VERSIONS, list_versions
    from recsys.cli import views

    found = load(_where(bundle, config))
    root = found.path.parent.parent if found.path.parent.name == VERSIONS else found.path
    others = list_versions(root)
    if plot is not None:
        from recsys.cli.plot import reliability

        told = found.manifest.get("probability", {"none": "it was published without them"})
        if "none" in told:
            raise ArtifactError(f"bundle {found.path} has no probabilities to draw: {told['none']}")
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot.write_text(reliability(told), encoding="utf-8")
        note(f"The plot: {plot}")
    if as_json:
        show_json({**found.manifest, "path": str(found.path), "versions": others})
    else:
        show(*views.manifest(found.manifest, str(root), others))


@app.command(epilog="Example: recsys versions --config configs/shop.yaml")
def versions(bundle: BundleOption = None, config: ConfigOption = None, as_json: Json = False) -> None:
    """List the versions of a bundle, oldest first: when each was made, how large it is, which one is current."""
    from recsys.artifacts.bundle import describe
    from recsys.cli import views

    told = describe(_where(bundle, config))
    show_json(told) if as_json else show(views.versions(told))


@app.command(epilog="Example: recsys rollback --config configs/shop.yaml")
def rollback(
    version: Annotated[str | None, typer.Argument(help="The version. Default: the one before the current.")] = None,
    bundle: BundleOption = None,
    config: ConfigOption = None,
    as_json: Json = False,
) -> None:
    """Check an older version, or any that you name, and make it current; print its folder."""
    from recsys.artifacts.bundle import rollback as go_back
    from recsys.artifacts.versions import VERSIONS

    root = _where(bundle, config)
    name = go_back(root, version)
    folder = root / VERSIONS / name
    show_json({"bundle": str(folder), "version": name}) if as_json else print(folder)


@app.command(epilog="Example: recsys prune --keep 3 --config configs/shop.yaml")
def prune(
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many of the newest versions stay.")],
    bundle: BundleOption = None,
    config: ConfigOption = None,
    as_json: Json = False,
) -> None:
    """Delete old versions, never the current one, and what dead processes left; print the names of the deleted."""
    from recsys.artifacts.versions import prune as delete

    deleted = delete(_where(bundle, config), keep)
    show_json({"deleted": deleted}) if as_json else print(*deleted, sep="\n", end="\n" if deleted else "")


@app.command(epilog="Example: recsys doctor")
def doctor(as_json: Json = False) -> None:
    """Check this machine: packages, exactly one FAISS, GPU, encoder, memory, disk. Exits with 1 if a check fails."""
    from recsys.cli.doctor import examine

    _report(examine(DEMO_BUNDLE), as_json, 1)


def _report(checks: Sequence[Check], as_json: bool, failed: int) -> None:
    """Print checks; end with the exit code `failed` if one of them failed."""
    if as_json:
        show_json([dataclasses.asdict(check) for check in checks])
    else:
        for check in checks:
            print(f"{check.status:<5} {check.name}: {check.text}")
    if any(check.status == FAIL for check in checks):
        raise typer.Exit(failed)


def _where(bundle: Path | None, config: Path | None) -> Path:
    """Return the folder of the bundle that the options mean."""
    if bundle is not None and config is not None:
        raise typer.BadParameter("give --bundle or --config, not both")
    folder, maker = bundle or DEMO_BUNDLE, "recsys demo"
    if config is not None:
        from recsys.config import load_config

        folder, maker = load_config(config).folder, f"recsys train {config}"
    elif bundle is not None:
        maker = "recsys train CONFIG"
    if not folder.is_dir():
        raise ArtifactError(f"there is no bundle at {folder}: make one with `{maker}`, or name another with --bundle")
    return folder


def _load(bundle: Path | None, config: Path | None) -> Recommender:
    folder = _where(bundle, config)
    from recsys.serving.recommender import Recommender

    return Recommender.load(folder)


def _now(recommender: Recommender, history: Any) -> int | None:
    """Return the present of a user's answer in microseconds, None where time only orders events."""
    window = recommender.manifest["data_window"]
    if window["clock"] == "order":
        return None
    return int(window["last"] if recommender.config.split.kind == "time" else history["time"].max() or 0)
