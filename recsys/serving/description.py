"""A loaded bundle in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys import formatting
from recsys.config import Config


def describe(config: Config, manifest: Mapping[str, Any], version: str, n_users: int, n_items: int) -> str:
    """Say what a recommender was made from, and how."""
    window = manifest.get("data_window")
    times = [formatting.moment(window[end], window["clock"]) for end in ("first", "last")] if window else []
    parts = [
        f"{config.name!r}",
        f"version {version}",
        formatting.plural(n_users, "user"),
        formatting.plural(n_items, "item"),
        *([f"events {' to '.join(times)}"] if times else []),
        f"retrievers {', '.join(config.retrievers)}",
        f"scorer {config.scorer.get('kind')}",
    ]
    return f"<Recommender {'; '.join(parts)}>"
