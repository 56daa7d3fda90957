"""Everything that a report says, as plain numbers: what the data is, how good the engine is, what to try next."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys import __version__
from recsys.config import Config
from recsys.extras import require
from recsys.jobs.evaluate import evaluate
from recsys.jobs.ingest import ingest
from recsys.jobs.profile import profile
from recsys.progress import Progress, quiet
from recsys.report.advice import advise
from recsys.report.business import business, without_users
from recsys.report.changes import PREVIOUS, compare, compare_versions, read_previous
from recsys.storage import atomic


def collect(
    config: Config, path: str | Path, progress: Progress = quiet, *, show_users: bool = False
) -> dict[str, Any]:
    """Evaluate a run and gather what its report says.

    Args:
        config: The run.
        path: Its file, as commands of the report name it.
        progress: Shows progress.
        show_users: Name the customers who are due.

    Returns:
        Plain data, which is also written to `report.json` in `config.folder`, without any customer: `name`, `made`,
        `version` of recsys; `profile`, as `recsys.jobs.profile.profile`; `ingest`, the counts of each table;
        `quality`, as `recsys.jobs.evaluate.evaluate` with probabilities; `business`; `advice`; `versions`; `settings`;
        and `changes` where an earlier report lies in the folder.

    Raises:
        ConfigError: a package is missing, or as `evaluate`.
        DataError: as `evaluate`.
        ArtifactError: an earlier `report.json` is damaged.
    """
    require("report", "recsys report")
    before = read_previous(config.folder)
    tables = ingest(config, progress)
    described = profile(config, tables)
    quality = evaluate(config, progress, probabilities=True, tables=tables)
    settings = config.model_dump(mode="json")
    found = {
        "name": config.name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "config": str(path),
        "profile": described,
        "ingest": tables.report,
        "quality": quality,
        "business": business(tables, show_users=show_users),
        "advice": [dataclasses.asdict(one) for one in advise(config, str(path), quality, described)],
        "versions": compare_versions(config.folder),
        "settings": settings,
    }
    if before is not None:
        found["changes"] = compare(before, quality, settings)
    found = json.loads(json.dumps(found, default=str))
    stored = found | {"business": without_users(found["business"])}
    atomic.write(config.folder / PREVIOUS, json.dumps(stored, indent=1, ensure_ascii=False))
    return found
