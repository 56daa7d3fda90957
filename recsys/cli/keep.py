"""Commands that look after bundles and the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.console import show, show_json
from recsys.cli.options import (
    DEMO_BUNDLE,
    BundleOption,
    ConfigOption,
    Json,
    Plot,
    bundle_folder,
    report_checks,
    write_plot,
)
from recsys.errors import ArtifactError

PANEL = "Look after bundles"

commands = typer.Typer()


@commands.command(
    rich_help_panel=PANEL,
    epilog="Example: recsys forget u383 --config configs/shop.yaml    (an id that starts with a dash: -- -7)",
)
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
    gone = remove(bundle_folder(bundle, config), user_ids, outputs or (), data)
    if as_json:
        show_json(gone.to_dict())
        return
    for line in views.forgotten(gone):
        print(line)


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys inspect --bundle artifacts/shop")
def inspect(
    bundle: BundleOption = None,
    config: ConfigOption = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Check every file of a bundle, and show what it was made from and how; draw how reliable its probabilities are."""
    from recsys.artifacts.bundle import load
    from recsys.artifacts.versions import VERSIONS, list_versions
    from recsys.cli import views

    found = load(bundle_folder(bundle, config))
    root = found.path.parent.parent if found.path.parent.name == VERSIONS else found.path
    others = list_versions(root)
    if plot is not None:
        from recsys.report.drawings import calibration

        measured = found.manifest.get("probability", {"none": "it was published without them"})
        if "none" in measured:
            raise ArtifactError(f"bundle {found.path} has no probabilities to draw: {measured['none']}")
        write_plot(calibration(measured), plot)
    if as_json:
        show_json({**found.manifest, "path": str(found.path), "versions": others})
    else:
        show(*views.manifest(found.manifest, str(root), others))


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys versions --config configs/shop.yaml")
def versions(bundle: BundleOption = None, config: ConfigOption = None, as_json: Json = False) -> None:
    """List the versions of a bundle, oldest first: when each was made, how large it is, which one is current."""
    from recsys.artifacts.bundle import describe
    from recsys.cli import views

    described = describe(bundle_folder(bundle, config))
    show_json(described) if as_json else show(views.versions(described))


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys rollback --config configs/shop.yaml")
def rollback(
    version: Annotated[str | None, typer.Argument(help="The version. Default: the one before the current.")] = None,
    bundle: BundleOption = None,
    config: ConfigOption = None,
    as_json: Json = False,
) -> None:
    """Check an older version, or any that you name, and make it current; print its folder."""
    from recsys.artifacts.bundle import rollback as go_back
    from recsys.artifacts.versions import VERSIONS

    root = bundle_folder(bundle, config)
    name = go_back(root, version)
    folder = root / VERSIONS / name
    show_json({"bundle": str(folder), "version": name}) if as_json else print(folder)


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys prune --keep 3 --config configs/shop.yaml")
def prune(
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many of the newest versions stay.")],
    bundle: BundleOption = None,
    config: ConfigOption = None,
    as_json: Json = False,
) -> None:
    """Delete old versions, never the current one, and what dead processes left; print the names of the deleted."""
    from recsys.artifacts.versions import prune as delete

    deleted = delete(bundle_folder(bundle, config), keep)
    show_json({"deleted": deleted}) if as_json else print(*deleted, sep="\n", end="\n" if deleted else "")


@commands.command(rich_help_panel=PANEL, epilog="Example: recsys doctor --config configs/shop.yaml")
def doctor(
    config: Annotated[
        Path | None, typer.Option("--config", help="Also check whether the encoder reads this config's catalogue.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check this machine: packages, exactly one FAISS, GPU, encoder, memory, disk. Exits with 1 if a check fails."""
    from recsys.cli.doctor import examine

    found = examine(DEMO_BUNDLE)
    if config is not None:
        from recsys.config import load_config
        from recsys.jobs.check import check_language
        from recsys.jobs.ingest import ingest

        loaded = load_config(config)
        found.append(check_language(loaded.embedding, ingest(loaded)))
    report_checks(found, as_json, 1)
