"""What changed: this report beside the one before, and the two newest versions that were published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recsys.artifacts.versions import MANIFEST, VERSIONS, list_versions
from recsys.errors import ArtifactError
from recsys.report.sentences import ENGINE

PREVIOUS = "report.json"  # in the folder of the run: the numbers of the newest report
COUNTS = ("users", "targets")


def read_previous(folder: Path) -> dict[str, Any] | None:
    """Return the numbers of the last report of a run; None where there is none.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / PREVIOUS
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {key: found[key] for key in ("made", "quality", "settings")}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged ({error!r}): delete it, and the next report starts afresh") from error


def compare(before: Mapping[str, Any], quality: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Compare this report with the one before.

    Args:
        before: As `read_previous` returns it.
        quality: What `recsys.jobs.evaluate.evaluate` returned now.
        settings: The config now, as plain data.

    Returns:
        `since`: when the one before was made; `metrics`: of the engine, `before` and `now`; `counts`: the same of users
        and targets; `settings`: the paths of the settings that differ, with both values.
    """
    old = before["quality"]
    names = [name for name in quality["metrics"][ENGINE] if name in old["metrics"][ENGINE]]
    return {
        "since": before["made"],
        "metrics": {n: {"before": old["metrics"][ENGINE][n], "now": quality["metrics"][ENGINE][n]} for n in names},
        "counts": {name: {"before": old[name], "now": quality[name]} for name in COUNTS},
        "settings": list(_differences(before["settings"], settings)),
    }


def compare_versions(folder: Path) -> dict[str, Any]:
    """Compare the two newest published versions of a run by their manifests.

    Returns:
        `versions`: how many there are; of the newest, `now`, and the one before, `before`, the `name`, when it was
        `created`, and its `counts`; `settings` as in `compare`. Without two versions what there is of these.
    """
    names = list_versions(folder) if folder.is_dir() else []
    manifests = [json.loads((folder / VERSIONS / name / MANIFEST).read_text(encoding="utf-8")) for name in names[-2:]]
    found: dict[str, Any] = {"versions": len(names)}
    for place, manifest in zip(("now", "before"), reversed(manifests), strict=False):
        found[place] = {"name": manifest["model_version"], "created": manifest["created_at"]}
        found[place]["counts"] = manifest.get("counts", {})
    if len(manifests) == 2:
        found["settings"] = list(_differences(manifests[0]["config"], manifests[1]["config"]))
    return found


def _differences(before: Any, now: Any, path: str = "") -> Iterator[dict[str, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif before != now:
        yield {"setting": path, "before": before, "now": now}
