"""Write ranked items for every user of a config's bundle to a store or as Parquet shards; a killed job resumes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from recsys.cli.conditions import add_arguments, of_arguments
from recsys.cli.job import job
from recsys.config import Config
from recsys.jobs.candidates import publish_candidates
from recsys.progress import Progress
from recsys.serving.recommender import Recommender
from recsys.sinks.base import open_sink


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where the lists go, and their conditions."""
    parser.add_argument("--to", help="where the lists go, as `recsys candidates --to`")
    add_arguments(parser)


def stage(config: Config, progress: Progress, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Without --to, each version of the bundle, under other conditions again, has a folder under `candidates/`."""
    recommender = Recommender.load(config.folder)
    conditions = of_arguments(arguments)
    folder = recommender.version
    if conditions:
        folder += f"-{recommender.read_conditions(**conditions).fingerprint()}"
    sink = open_sink(arguments.to or str(config.folder / "candidates" / folder))
    summary = publish_candidates(recommender, sink, progress=progress, **conditions)
    return {"to" if arguments.to else "folder": sink.label, **summary}


if __name__ == "__main__":
    job(stage, __doc__, add_options)
