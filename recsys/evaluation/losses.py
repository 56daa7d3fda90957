"""The loss budget: at which stage of the path each label is lost, which tells what to improve next."""

from __future__ import annotations

import numpy as np

from recsys.arrays import BoolArray, IntArray, LongArray
from recsys.evaluation.significance import share_intervals

DEEPER = 5


def loss_budget(user: LongArray, place: IntArray, candidate: BoolArray, reached: BoolArray, removed: LongArray,
                k: int, seed: int) -> dict[str, dict[str, float]]:  # fmt: skip
    """Return the share of all labels that each stage loses, or that ends in the list, with a 95% interval over users.

    For each of `P` targets `(P,)`: the row of its `user`, its `place` in the list (from 0, -1 where absent), whether
    it was a `candidate`, and whether a retriever `reached` it when asked for `DEEPER` times its depth. `removed` `(R,)`
    holds the user row of each label that the rules leave out of the targets. The stages come in the path's order:
    rules, retrieval, depth, ranking.
    """
    stages = ["removed by a rule", "no retriever finds it", "cut by depth", f"ranked below {k}", "in the list"]
    listed = (place >= 0) & (place < k)
    stage = np.select([listed, candidate, reached], [4, 3, 2], 1)
    _, owner = np.unique(np.concatenate([removed, user]), return_inverse=True)
    cell = owner * len(stages) + np.concatenate([np.zeros(len(removed), dtype=np.int64), stage])
    counts = np.bincount(cell, minlength=(int(owner.max()) + 1) * len(stages)).reshape(-1, len(stages))
    return dict(zip(stages, share_intervals(counts, seed), strict=True))
