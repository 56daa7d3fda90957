"""Write ranked items for every user of a config's bundle to a store or as Parquet shards; a killed job resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys.cli.job import job
from recsys.config import Config
from recsys.jobs.candidates import publish_candidates
from recsys.progress import Progress
from recsys.serving.recommender import Recommender
from recsys.sinks.base import open_sink


def stage(config: Config, progress: Progress, to: str | None = None) -> Mapping[str, Any]:
    """Without `to`, each version of the bundle has a folder of its own under `candidates/` in the run's folder."""
    recommender = Recommender.load(config.folder)
    sink = open_sink(to or str(config.folder / "candidates" / recommender.version))
    summary = publish_candidates(recommender, sink, progress=progress)
    return {"to" if to else "folder": sink.label, **summary}


if __name__ == "__main__":
    job(stage, __doc__, to="where the lists go, as `recsys candidates --to`")
