"""Candidates for every user, shard by shard; a job that was killed resumes with the shards that are missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.parallel.threads import BATCH, batches, in_threads
from recsys.progress import Progress, quiet
from recsys.serving.recommender import Recommender
from recsys.sinks.base import Sink
from recsys.sinks.folder import Folder


def write_candidates(recommender: Recommender, out: Path, k: int = 100, shard_users: int = 65_536,
                     progress: Progress = quiet) -> Path:  # fmt: skip
    """Write ranked items for every user of a bundle into a folder; see `publish_candidates`.

    Args:
        recommender: A loaded bundle.
        out: The folder to write to. A shard appears whole or not at all, the marker `_SUCCESS` (users, rows, shards)
            last.
        k: Items for each user.
        shard_users: Users in each file.
        progress: Shows progress.

    Returns:
        The folder `out`.

    Raises:
        ArtifactError: `out` holds shards of another model or other settings, or the disk is full.
    """
    publish_candidates(recommender, Folder(out), k, shard_users, progress)
    return out


def publish_candidates(recommender: Recommender, sink: Sink, k: int = 100, shard_users: int = 65_536,
                       progress: Progress = quiet) -> dict[str, Any]:  # fmt: skip
    """Write ranked items for every user of a bundle, and show them to readers once all are there.

    Columns: user_id, item_id, rank (from 1), score, probability, source, model_version, generated_at. After a kill,
    finished shards of the same model and settings are kept. Memory grows with a batch of users, not with users x items.

    Args:
        recommender: A loaded bundle.
        sink: Where they go, from `recsys.sinks.base.open_sink`.
        k: Items for each user.
        shard_users: Users in each shard.
        progress: Shows progress.

    Returns:
        `model_version`, `k`, `shard_users`, `users`, `rows`, `shards`.

    Raises:
        ArtifactError: the store cannot be reached or written, or holds shards of another model or other settings.
    """
    users = len(recommender.user_ids)
    plan = {"model_version": recommender.version, "k": k, "shard_users": shard_users, "users": users}
    starts = range(0, users, shard_users)
    with sink.open(plan) as generation:
        written = dict(generation.written())
        for number, start in enumerate(starts):
            stop = min(start + shard_users, users)
            if number not in written:
                shard = _rank(recommender, np.arange(start, stop), k, progress, users)
                generation.write(number, shard)
                written[number] = shard.height
            progress("candidates", stop, users)
        summary = plan | {"rows": sum(written[number] for number in range(len(starts))), "shards": len(starts)}
        generation.publish(summary)
    return summary


def _rank(recommender: Recommender, rows: np.ndarray, k: int, progress: Progress, users: int) -> pl.DataFrame:
    """Rank for the users of one shard."""
    frames = []
    for frame in in_threads(lambda some: recommender.rank_rows(some, k), batches(rows)):
        frames.append(frame)
        progress("candidates", int(rows[0]) + min(len(frames) * BATCH, len(rows)), users)
    now = datetime.now(UTC).replace(microsecond=0)
    return pl.concat(frames).with_columns(generated_at=pl.lit(now))
