"""Write ranked items for every user of a config's bundle, as Parquet shards; a killed job resumes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from recsys.cli.conditions import add_arguments, of_arguments
from recsys.cli.job import job
from recsys.config import Config
from recsys.jobs.candidates import SUCCESS, write_candidates
from recsys.progress import Progress
from recsys.serving.recommender import Recommender


def stage(config: Config, progress: Progress, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Each version of the bundle, under other conditions again, has a folder of its own under `candidates/`."""
    recommender = Recommender.load(config.folder)
    conditions = of_arguments(arguments)
    folder = recommender.version
    if conditions:
        folder += f"-{recommender.read_conditions(**conditions).fingerprint()}"
    out = write_candidates(recommender, config.folder / "candidates" / folder, progress=progress, **conditions)
    return {"folder": str(out), **json.loads((out / SUCCESS).read_text(encoding="utf-8"))}


if __name__ == "__main__":
    job(stage, __doc__, add_arguments)
