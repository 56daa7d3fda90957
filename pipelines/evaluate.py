"""Hold out the test events of a config, and measure engine and baselines on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys.cli.job import job
from recsys.config import Config
from recsys.jobs.evaluate import evaluate
from recsys.progress import Progress


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """The same report lies in `evaluation.json` in the run's folder."""
    return evaluate(config, progress)


if __name__ == "__main__":
    job(stage, __doc__)
