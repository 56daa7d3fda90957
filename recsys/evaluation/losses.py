"""The loss budget: at which stage of the path labels are lost, and so what to improve next."""

from __future__ import annotations

import numpy as np

from recsys.arrays import BoolArray, IntArray, LongArray
from recsys.evaluation.significance import share_intervals

DEEPER = 5  # times a retriever's depth: how far the budget looks below it


def loss_budget(user: LongArray, place: IntArray, candidate: BoolArray, reached: BoolArray, removed: LongArray,
                k: int, seed: int) -> dict[str, dict[str, float]]:  # fmt: skip
    """Measure the share of all labels that each stage loses, or that ends in the list.

    Args:
        user: User row of each target `(P,)`.
        place: Place of each target in the list, from 0 `(P,)`; -1 where absent.
        candidate: Whether each target was a candidate `(P,)`.
        reached: Whether a retriever reached it when asked for `DEEPER` times its depth `(P,)`.
        removed: User row of each label that the rules leave out of the targets `(R,)`.
        k: Length of the list.
        seed: Seed of the bootstrap.

    Returns:
        For each stage, in the order of the path (rules, retrieval, depth, ranking, list), its `share` of the labels and
        the `low` and `high` end of a 95% interval over users.
    """
    stages = ["removed by a rule", "no retriever finds it", "cut by depth", f"ranked below {k}", "in the list"]
    listed = (place >= 0) & (place < k)
    stage = np.select([listed, candidate, reached], [4, 3, 2], 1)
    _, owner = np.unique(np.concatenate([removed, user]), return_inverse=True)
    cell = owner * len(stages) + np.concatenate([np.zeros(len(removed), dtype=np.int64), stage])
    counts = np.bincount(cell, minlength=(int(owner.max()) + 1) * len(stages)).reshape(-1, len(stages))
    return dict(zip(stages, share_intervals(counts, seed), strict=True))
