"""Candidates for every user, shard by shard; a job that was killed resumes with the shards that are missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import polars as pl

from recsys.arrays import LongArray
from recsys.parallel.forks import require_polars
from recsys.parallel.threads import BATCH, batches, in_threads
from recsys.progress import Progress, quiet
from recsys.serving.conditions import Conditions, ListConditions, why_short
from recsys.serving.recommender import Recommender
from recsys.sinks.base import Sink
from recsys.sinks.folder import Counts, Folder


def write_candidates(recommender: Recommender, out: Path, k: int = 100, shard_users: int = 65_536,
                     progress: Progress = quiet, **conditions: Unpack[ListConditions]) -> Path:  # fmt: skip
    """Write ranked items for every user of a bundle into a folder; see `publish_candidates`.

    Args:
        recommender: A loaded bundle.
        out: The folder to write to. A shard appears whole or not at all, the marker `_SUCCESS` (users, rows, shards)
            last.
        k: Items for each user.
        shard_users: Users in each file.
        progress: Shows progress.
        **conditions: As in `Recommender.recommend_batch`.

    Returns:
        The folder `out`.

    Raises:
        ArtifactError: `out` holds shards of another model or other settings, or the disk is full.
        RequestError: A condition cannot be understood.
        UnknownIdError: A condition names an item that the bundle does not hold.
    """
    publish_candidates(recommender, Folder(out), k, shard_users, progress, **conditions)
    return out


def publish_candidates(recommender: Recommender, sink: Sink, k: int = 100, shard_users: int = 65_536,
                       progress: Progress = quiet, **conditions: Unpack[ListConditions]) -> dict[str, Any]:  # fmt: skip
    """Write ranked items for every user of a bundle, and show them to readers once all are there.

    Columns: user_id, item_id, rank (from 1), score, probability, source, model_version, generated_at. After a kill,
    finished shards of the same model and settings are kept. Memory grows with a batch of users, not with users x items.

    Args:
        recommender: A loaded bundle.
        sink: Where they go, from `recsys.sinks.base.open_sink`.
        k: Items for each user.
        shard_users: Users in each shard.
        progress: Shows progress.
        **conditions: As in `Recommender.recommend_batch`.

    Returns:
        `model_version`, `k`, `shard_users`, `users`, `rows`, `shards`; with conditions `conditions`, their checksum;
        where lists could not be filled to `k` `short`: how many `lists`, and the `reason`.

    Raises:
        ArtifactError: The store cannot be reached or written, or holds shards of another model or other settings.
        RequestError: A condition cannot be understood.
        UnknownIdError: A condition names an item that the bundle does not hold.
    """
    require_polars("writing candidates")
    users = len(recommender.user_ids)
    plan: dict[str, Any] = {"model_version": recommender.version, "k": k, "shard_users": shard_users, "users": users}
    found = recommender.read_conditions(**conditions)
    plan |= {"conditions": found.fingerprint()} if conditions else {}
    starts = range(0, users, shard_users)
    with sink.open(plan) as generation:
        written = dict(generation.written())
        for number, start in enumerate(starts):
            stop = min(start + shard_users, users)
            if number not in written:
                shard = _rank(recommender, np.arange(start, stop), k, found, progress, users)
                whole = shard.height == k * (stop - start)
                written[number] = Counts(shard.height, stop - start) if whole else Counts.of(shard.lazy(), k)
                generation.write(number, shard, written[number])
            progress("candidates", stop, users)
        shards = [written[number] for number in range(len(starts))]
        summary = plan | {"rows": sum(shard.rows for shard in shards), "shards": len(shards)}
        if short := users - sum(shard.full for shard in shards):
            summary |= {"short": {"lists": short, "reason": why_short(found, len(recommender.catalog), k)}}
        generation.publish(summary)
    return summary


def _rank(recommender: Recommender, rows: LongArray, k: int, conditions: Conditions, progress: Progress,
          users: int) -> pl.DataFrame:  # fmt: skip
    """Rank for the users of one shard."""
    frames = []
    for frame in in_threads(lambda some: recommender.rank_rows(some, k, conditions), batches(rows)):
        frames.append(frame)
        progress("candidates", int(rows[0]) + min(len(frames) * BATCH, len(rows)), users)
    now = datetime.now(UTC).replace(microsecond=0)
    return pl.concat(frames).with_columns(generated_at=pl.lit(now))
