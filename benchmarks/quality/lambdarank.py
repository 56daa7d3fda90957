"""LightGBM's LambdaRank as a scorer: gradient boosted trees in place of the engine's MLP."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.arrays import FloatArray, LongArray
from recsys.progress import Progress
from recsys.ragged import owners_of

TOP = 10


@dataclass(frozen=True)
class FittedTrees:
    """A LightGBM booster that scores candidates."""

    booster: Any

    def score(self, x: FloatArray) -> FloatArray:
        return self.booster.predict(x).astype(np.float32)


@dataclass(frozen=True)
class LambdaRank:
    """Trees under LambdaRank (Burges 2010) by LightGBM (Ke et al. 2017).

    As for the MLP, a tenth of the lists is held out: boosting stops when their ndcg@10 has not improved for
    `patience` trees, at `rounds` at the latest, and the best number of trees is kept.
    """

    num_leaves: int = 31
    learning_rate: float = 0.05
    rounds: int = 500
    patience: int = 30
    min_data: int = 50
    l2: float = 0.0
    negatives: int = 100

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> FittedTrees:
        import lightgbm

        lists = len(offsets) - 1
        held = np.zeros(lists, dtype=bool)
        held[np.random.default_rng(seed).permutation(lists)[: max(1, lists // 10)]] = True
        row_held = held[owners_of(offsets)]
        learnt, judged = (
            lightgbm.Dataset(
                x[rows], (y[rows] > 0).astype(int), weight=np.where(y > 0, y, 1)[rows], group=np.diff(offsets)[chosen]
            )
            for rows, chosen in ((~row_held, ~held), (row_held, held))
        )
        settings = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [TOP],
            "num_leaves": self.num_leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_data,
            "lambda_l2": self.l2,
            "feature_fraction": 0.8,
            "seed": seed,
            "num_threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
            "verbosity": -1,
        }
        stop = lightgbm.early_stopping(self.patience, verbose=False)
        judged.set_reference(learnt)
        return FittedTrees(lightgbm.train(settings, learnt, self.rounds, [judged], callbacks=[stop]))
