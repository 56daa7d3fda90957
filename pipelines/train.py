"""Fit on everything that a config names, and publish a bundle under its output folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recsys.artifacts.versions import MANIFEST
from recsys.cli.job import job
from recsys.config import Config
from recsys.jobs.train import train
from recsys.progress import Progress


def stage(config: Config, progress: Progress) -> Mapping[str, Any]:
    """The new version becomes current at the very end; a run that dies leaves the one before it in place."""
    version = train(config, progress)
    manifest = json.loads((version / MANIFEST).read_text(encoding="utf-8"))
    return {
        "bundle": str(version),
        **{key: manifest[key] for key in ("model_version", "counts", "data_window", "seconds")},
    }


if __name__ == "__main__":
    job(stage, __doc__)
