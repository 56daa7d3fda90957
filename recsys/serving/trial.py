"""Trying a bundle out when it is loaded, so that the first request finds everything warm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl

from recsys.engine.model import Model
from recsys.errors import ArtifactError
from recsys.parallel.threads import one_thread
from recsys.serving.lookup import EntityLookup
from recsys.serving.recommendations import Recommendation
from recsys.types import Id

TRIAL_USERS, TRIAL_K = 3, 10  # how many users a bundle is tried on, and items for each


@one_thread()
def try_out(path: Path, model: Model, lookup: EntityLookup,
            recommend: Callable[[Id, int], Iterable[Recommendation]]) -> None:  # fmt: skip
    """Answer a few users, and one without history: that list must be complete, and all scores finite.

    Raises:
        ArtifactError: They are not.
    """
    user_ids: pl.Series = lookup.user_ids
    n_users, k = len(user_ids), min(TRIAL_K, len(model.retrieval.vectors))
    few = np.unique(np.linspace(0, n_users - 1, min(TRIAL_USERS, n_users)).astype(np.int64))
    cold = model.rank(lookup.histories(np.array([-1])), k)
    answers = [recommend(user_ids[int(row)], k) for row in few]
    scores = np.concatenate([cold.score, *([item.score for item in answer] for answer in answers)])
    if len(cold.item) != k or not np.isfinite(scores).all():
        raise ArtifactError(
            f"bundle {path} was tried out on {len(few) + 1} users and gave {len(cold.item)} of {k} items to one "
            f"without history, and {int((~np.isfinite(scores)).sum())} of {len(scores)} scores that are not finite; "
            "train again"
        )
