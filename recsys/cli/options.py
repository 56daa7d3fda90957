"""Options that several commands share, and the bundle that they mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.cli.console import note, show_json
from recsys.diagnostics import FAIL, Check
from recsys.errors import ArtifactError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recsys.serving.recommender import Recommender

DEMO_BUNDLE = Path("artifacts/demo")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
K = Annotated[int, typer.Option("--k", "-k", min=1, help="How many items.")]
Plot = Annotated[
    Path | None, typer.Option("--plot", dir_okay=False, metavar="FILE", help="Draw it too: an .svg, .png or .pdf.")
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML of the run, such as configs/demo.yaml.")]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="The bundle's folder, or one version in it. Default: artifacts/demo.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Find the bundle where this config's runs publish.")
]


def bundle_folder(bundle: Path | None, config: Path | None) -> Path:
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


def load_bundle(bundle: Path | None, config: Path | None) -> Recommender:
    """Load the bundle that the options mean."""
    folder = bundle_folder(bundle, config)
    from recsys.serving.recommender import Recommender

    return Recommender.load(folder)


def check_plot(path: Path | None) -> None:
    """Check before the work that a plot can be drawn and written."""
    if path is not None:
        from recsys.report.figures import check_format

        check_format(path)


def write_plot(drawn: Figure, path: Path) -> None:
    """Write a figure, and say where."""
    from recsys.report.figures import write

    write(drawn, path)
    note(f"The plot: {path}")


def report_checks(checks: Sequence[Check], as_json: bool, failed: int) -> None:
    """Print checks; end with the exit code `failed` if one of them failed."""
    if as_json:
        show_json([dataclasses.asdict(check) for check in checks])
    else:
        for check in checks:
            print(f"{check.status:<5} {check.name}: {check.text}")
    if any(check.status == FAIL for check in checks):
        raise typer.Exit(failed)
