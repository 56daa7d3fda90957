"""Members of other packages that a bundle needs: recorded when it is published, required when it is loaded.

Nothing is imported because a bundle says so. A name is looked up among the members that this machine has, from the
library, from installed packages and from modules that were imported already.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from importlib import metadata
from typing import Any

from recsys.artifacts.bundle import Bundle
from recsys.config import Config
from recsys.errors import ArtifactError
from recsys.registry import FAMILIES, Family, Origin, family

log = logging.getLogger(__name__)

KEY = "extensions"
FIELDS = ("family", "name", "module", "distribution", "version")


def describe_extensions(config: Config) -> list[dict[str, str | None]]:
    """List the members of other packages that a run names, as plain data for the manifest.

    Sources, baselines and metrics are left out: no bundle needs them.
    """
    found = []
    for kind, name in _members(config):
        members = family(kind)
        origin = members.origin(name) if isinstance(members, Family) and name in members else None
        if origin is not None:
            found.append(dict(zip(FIELDS, (kind, name, *origin), strict=True)))
    return found


def require_extensions(loaded: Bundle, kinds: Collection[str]) -> None:
    """Refuse a bundle that needs members of other packages which this machine lacks.

    Args:
        loaded: The bundle.
        kinds: The families to look at.

    Raises:
        ArtifactError: a member is missing, or another package has one of that name; the message says what to install.
    """
    for record in loaded.manifest.get(KEY, []):
        kind, name, wanted = _read(record, loaded)
        if kind in kinds:
            problem = _problem(kind, name, wanted)
            if problem:
                raise ArtifactError(f"bundle {loaded.path} needs the {kind} {name!r} of {wanted}, {problem}")


def _members(config: Config) -> Iterator[tuple[str, str]]:
    for name, settings in config.retrievers.items():
        yield "retriever", settings.get("kind", name)
    for name in config.features:
        yield "feature", name
    yield "scorer", config.scorer["kind"]
    yield "encoder", config.embedding.encoder


def _read(record: Any, loaded: Bundle) -> tuple[str, str, Origin]:
    match record:
        case {
            "family": str(kind),
            "name": str(name),
            "module": str(module),
            "distribution": str() | None as distribution,
            "version": str() | None as version,
        } if kind in FAMILIES:
            return kind, name, Origin(module, distribution, version)
    raise ArtifactError(f"bundle {loaded.path} is damaged: its manifest lists the extension {record!r}")


def _problem(kind: str, name: str, wanted: Origin) -> str:
    """Say why a member cannot be used here; nothing where it can."""
    members = family(kind)
    if name not in members:
        return f"which is not here: {_remedy(kind, wanted)}"
    here = members.origin(name) if isinstance(members, Family) else None
    if here is None or here.distribution != wanted.distribution:
        return f"and here that name belongs to {here or 'recsys itself'}: {_remedy(kind, wanted)}"
    if here.version != wanted.version:
        log.warning("the bundle was made with %s %s of %s, and here it is %s", kind, name, wanted, here)
    return ""


def _remedy(kind: str, wanted: Origin) -> str:
    if wanted.distribution is None:
        return f"import {wanted.module}, which registers it, before the bundle is loaded"
    try:
        metadata.version(wanted.distribution)
    except metadata.PackageNotFoundError:
        return f"pip install {wanted.distribution}=={wanted.version}"
    return (
        f"{wanted.distribution} is installed, and does not offer it by an entry point in 'recsys.{kind}s': import "
        f"{wanted.module} before the bundle is loaded"
    )
