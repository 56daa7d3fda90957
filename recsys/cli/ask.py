"""Commands that ask a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recsys.cli import conditions as options
from recsys.cli.console import note, progress, show, show_json

if TYPE_CHECKING:
    from recsys.serving.recommender import Recommender
from recsys.cli.options import BundleOption, ConfigOption, Json, K, bundle_folder, load_bundle

PANEL = "Ask a bundle"

commands = typer.Typer()

HISTORY = 10


@commands.command(
    "recommend",
    hidden=True,
    rich_help_panel=PANEL,
    epilog="Example: recsys recommend 1762 --k 5    (an id that starts with a dash: recsys recommend -- -7)",
)
@commands.command(
    rich_help_panel=PANEL,
    epilog="Example: recsys score 1762 --k 5    (an id that starts with a dash: recsys score -- -7)",
)
def score(
    user_id: Annotated[str, typer.Argument(help="The user.")],
    k: K = 10,
    as_json: Json = False,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="Answer for an unknown user with what is popular.")
    ] = False,
    where: options.Where = None,
    exclude: options.Exclude = None,
    cap: options.Caps = None,
    pin: options.Pins = None,
    boost: options.Boosts = None,
    diversity: options.Diversity = 0.0,
    variants: options.Variants = None,
    unknown: options.UnknownIds = "refuse",
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Recommend for one user: the newest history, then a ranked list with reasons. Also called `recommend`."""
    from recsys import formatting
    from recsys.errors import UnknownIdError
    from recsys.explain import phrases
    from recsys.serving.recommendations import name_few

    recommender = load_bundle(bundle, config)
    conditions = options.list_conditions(where, exclude, cap, pin, boost, diversity, variants, unknown)
    answer = recommender.recommend(user_id, k, explain=True, strict=not fallback, **conditions)
    try:
        history = recommender.history(user_id)
    except UnknownIdError:
        history = None
    clock = recommender.manifest["data_window"]["clock"]
    if answer.shortage is not None:
        note(answer.shortage.reason)
    for argument, ids in answer.ignored.items():
        note(f"ignored, unknown items in {argument}: {name_few(ids)}")
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
    topics = phrases.retriever_topics(recommender.config)
    reasons = [phrases.why(item.reasons, own.get(item.item_id), topics, cold=answer.cold) for item in answer.items]
    show(views.recommendations(f"Recommended for user {user_id}", answer.items, reasons))


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys explain 1762 941357 --k 5")
def explain(
    user_id: Annotated[str, typer.Argument(help="The user.")],
    item_id: Annotated[str, typer.Argument(help="The item.")],
    k: K = 10,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Explain why an item is in a user's list of k, or where it was lost and what it would have taken."""
    from recsys.cli import views

    recommender = load_bundle(bundle, config)
    lost = recommender.why_not(user_id, item_id, k, strict=True)
    (found,) = recommender.explain(user_id, [item_id])
    if as_json:
        show_json({"user_id": user_id, "why_not": lost.to_dict(), "explanation": found.to_dict()})
    else:
        show(*views.explanation(user_id, lost, found))


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys similar 941357 --k 5")
def similar(
    item_id: Annotated[str, typer.Argument(help="The item.")],
    k: K = 10,
    variants: options.Variants = None,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """List the items whose texts are most like an item's."""
    recommender = load_bundle(bundle, config)
    found = recommender.similar_items(item_id, k, variants=options.variant_choice(variants))
    title = f"Like {item_id}"
    _show_hits(title, found, as_json, {"item_id": item_id})


@commands.command(rich_help_panel=PANEL, epilog='Example: recsys search "green tea"')
def search(
    text: Annotated[str, typer.Argument(help="Any words.")],
    k: K = 10,
    variants: options.Variants = None,
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """List the items whose texts are most like some words."""
    if not text.strip():
        raise typer.BadParameter("the text to search for is empty")
    found = load_bundle(bundle, config).search(text, k, variants=options.variant_choice(variants))
    _show_hits(f"Like “{text}”", found, as_json, {"text": text})


def _show_hits(title: str, found: Any, as_json: bool, asked: dict[str, str]) -> None:
    from recsys.cli import views

    show_json(asked | {"items": found.rows(named=True)}) if as_json else show(views.hits(title, found))


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys candidates --to env:SHOP_DB --k 100")
def candidates(
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the shards.")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="WHERE",
            help="Where else: env:NAME, a variable with a connection string of PostgreSQL or Redis; or s3://BUCKET/PATH.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="With --to: what readers call the lists, a view or a prefix of keys.")
    ] = "recommendations",
    k: K = 100,
    shard_users: Annotated[int, typer.Option("--shard-users", min=1, help="Users in one file.")] = 65_536,
    where: options.Where = None,
    exclude: options.Exclude = None,
    cap: options.Caps = None,
    pin: options.Pins = None,
    boost: options.Boosts = None,
    diversity: options.Diversity = 0.0,
    variants: options.Variants = None,
    unknown: options.UnknownIds = "refuse",
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Write ranked items for every user, as Parquet or to a store. Run again after a kill, it goes on.

    Readers see a new generation once it is whole; the one before it is then cleared away.
    """
    import time

    from recsys.formatting import plural
    from recsys.jobs.candidates import publish_candidates
    from recsys.sinks.base import open_sink

    if (out is None) == (to is None):
        raise typer.BadParameter("say where the lists go: --out or --to, one of them")
    sink = open_sink(to or str(out), name)
    recommender = load_bundle(bundle, config)
    conditions = options.list_conditions(where, exclude, cap, pin, boost, diversity, variants, unknown)
    began = time.monotonic()
    with progress() as report:
        summary = publish_candidates(recommender, sink, k, shard_users, report, **conditions)
    seconds = time.monotonic() - began
    if as_json:
        show_json({"folder" if to is None else "to": sink.label, **summary, "seconds": round(seconds, 1)})
    else:
        print(sink.label)
        shards = plural(summary["shards"], "shard")
        pace = f"{seconds:,.1f} s, {summary['users'] / max(seconds, 1e-3):,.0f} users/s"
        note(f"{summary['rows']:,} rows for {summary['users']:,} users in {shards}: {pace}")
    if "short" in summary:
        note(f"{summary['short']['lists']:,} lists are short: {summary['short']['reason']}")


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys vectors --out artifacts/demo/vectors-for-pgvector")
def vectors(
    out: Annotated[Path, typer.Option("--out", help="Folder for items.parquet and whitening.parquet.")],
    as_json: Json = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
) -> None:
    """Write item vectors and their whitening as Parquet, for pgvector, Qdrant, LanceDB and others."""
    from recsys.artifacts.bundle import load
    from recsys.jobs.vectors import write_vectors

    found = load(bundle_folder(bundle, config))
    items, dimension = write_vectors(found, out), found.arrays["vectors"].shape[1]
    if as_json:
        show_json({"folder": str(out), "model_version": found.version, "items": items, "dimension": dimension})
        return
    print(out)
    note(f"{items:,} vectors of {dimension} dimensions")


def _now(recommender: Recommender, history: Any) -> int | None:
    """Return the present of a user's answer in microseconds, None where time only orders events."""
    window = recommender.manifest["data_window"]
    if window["clock"] == "order":
        return None
    return int(window["last"] if recommender.config.split.kind == "time" else history["time"].max() or 0)
