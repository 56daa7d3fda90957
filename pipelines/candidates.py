"""Write ranked items for every user of a config's bundle, as Parquet shards; a killed job resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recsys.cli.job import job
from recsys.config import Config
from recsys.jobs.candidates import SUCCESS, write_candidates
from recsys.progress import Progress
from recsys.serving.recommender import Recommender


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """Each version of the bundle has a folder of its own under `candidates/` in the run's folder."""
    recommender = Recommender.load(config.folder)
    out = write_candidates(recommender, config.folder / "candidates" / recommender.version, progress=progress)
    return {"folder": str(out), **json.loads((out / SUCCESS).read_text(encoding="utf-8"))}


if __name__ == "__main__":
    job(stage, __doc__)
