"""Read and check the two tables of a config; report what was kept, dropped and refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys.cli.job import job
from recsys.config import Config
from recsys.jobs.ingest import ingest
from recsys.progress import Progress


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """Refused rows go to `quarantine/` in the run's folder, the counts to `ingest.json`."""
    return ingest(config).report


if __name__ == "__main__":
    job(stage, __doc__)
