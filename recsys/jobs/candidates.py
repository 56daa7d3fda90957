"""Candidates for every user, as Parquet shards; a job that was killed resumes with the shards that are missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import polars as pl

from recsys.arrays import LongArray
from recsys.errors import ArtifactError
from recsys.parallel.forks import require_polars
from recsys.parallel.threads import BATCH, batches, in_threads
from recsys.progress import Progress, quiet
from recsys.serving.conditions import Conditions, ListConditions, why_short
from recsys.serving.recommender import Recommender
from recsys.storage import atomic

SUCCESS = "_SUCCESS"
PLAN = "_PLAN.json"


def write_candidates(recommender: Recommender, out: Path, k: int = 100, shard_users: int = 65_536,
                     progress: Progress = quiet, **conditions: Unpack[ListConditions]) -> Path:  # fmt: skip
    """Write ranked items for every user of a bundle.

    Columns: user_id, item_id, rank (from 1), score, probability, source, model_version, generated_at. A shard appears
    whole or not at all, the marker `_SUCCESS` (users, rows, shards) last. After a kill, finished shards of the same
    model and settings are kept. Memory grows with a batch of users, not with users x items. Lists that could not be
    filled to `k` are counted in the marker as `short`, with the reason.

    Args:
        recommender: A loaded bundle.
        out: The folder to write to.
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
    require_polars("writing candidates")
    users = len(recommender.user_ids)
    plan: dict[str, Any] = {"model_version": recommender.version, "k": k, "shard_users": shard_users, "users": users}
    found = recommender.read_conditions(**conditions)
    plan |= {"conditions": found.fingerprint()} if conditions else {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        _check_plan(out, plan)
        rows = short = 0
        starts = range(0, users, shard_users)
        for number, start in enumerate(starts):
            path = out / f"part-{number:05d}.parquet"
            stop = min(start + shard_users, users)
            if not path.exists():
                (out / SUCCESS).unlink(missing_ok=True)
                _write_shard(recommender, path, np.arange(start, stop), k, found, progress, users)
            written = _rows(path)
            rows += written
            short += 0 if written == k * (stop - start) else stop - start - _full_lists(path, k)
            progress("candidates", stop, users)
        summary = plan | {"rows": rows, "shards": len(starts)}
        if short:
            summary |= {"short": {"lists": short, "reason": why_short(found, len(recommender.catalog), k)}}
        atomic.write(out / SUCCESS, json.dumps(summary))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(
            f"could not write candidates to {out}: {atomic.why_not_written(error, out)}; finished files are kept"
        ) from error
    return out


def _rows(path: Path) -> int:
    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it and run again") from error


def _full_lists(path: Path, k: int) -> int:
    """Count the users of a shard who have `k` rows."""
    lengths = pl.scan_parquet(path).group_by("user_id").agg(pl.len())
    return int(lengths.filter(pl.col("len") >= k).select(pl.len()).collect().item())


def _check_plan(out: Path, plan: Mapping[str, Any]) -> None:
    """Refuse a folder that another model or other settings began: its shards would not fit these."""
    path = out / PLAN
    if path.exists():
        try:
            earlier = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); choose an empty folder") from error
        changed = [
            f"{key} was {earlier.get(key)!r} and is {plan.get(key)!r}"
            for key in {**plan, **earlier}
            if earlier.get(key) != plan.get(key)
        ]
        if changed:
            raise ArtifactError(f"{out} holds candidates of another run: {'; '.join(changed)}; choose an empty folder")
    elif any(out.glob("*.parquet")):
        raise ArtifactError(f"{out} holds Parquet files that this job did not write; choose an empty folder")
    else:
        atomic.write(path, json.dumps(plan))


def _write_shard(
    recommender: Recommender, path: Path, rows: LongArray, k: int, conditions: Conditions, progress: Progress,
    users: int,
) -> None:  # fmt: skip
    frames = []
    for frame in in_threads(lambda some: recommender.rank_rows(some, k, conditions), batches(rows)):
        frames.append(frame)
        progress("candidates", int(rows[0]) + min(len(frames) * BATCH, len(rows)), users)
    now = datetime.now(UTC).replace(microsecond=0)
    shard = pl.concat(frames).with_columns(generated_at=pl.lit(now))
    with atomic.whole(path) as aside:
        shard.write_parquet(aside)
