"""`python -m examples.ranking_service`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.console import guarded
from recsys.extras import require


def serve(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("artifacts/demo"),
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")] = 8000,
    exposures: Annotated[Path | None, typer.Option(help="Log who was shown what into this folder.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that compute.")] = 2,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds until a request is given up.")] = 2.0,
    explore: Annotated[float, typer.Option(min=0, help="Temperature at which lists are shuffled for the log.")] = 0.0,
) -> None:
    """Serve a bundle; a newer version of it is taken up while requests run."""
    require("service", "the ranking service")
    import uvicorn

    from examples.ranking_service.app import Settings, create_app

    settings = Settings(bundle, exposures, workers, timeout=timeout, explore=explore)
    uvicorn.run(create_app(settings), host=host, port=port, access_log=False, timeout_keep_alive=30)


guarded(lambda: typer.run(serve))
