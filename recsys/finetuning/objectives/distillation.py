"""Items that behaviour finds alike lie close, so that new items inherit what behaviour teaches about their texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recsys.arrays import FloatArray, LongArray, unit_rows
from recsys.errors import ConfigError, DataError
from recsys.finetuning.base import Corpus, Objective
from recsys.finetuning.registry import OBJECTIVES
from recsys.registry import construct, family
from recsys.types import State


@OBJECTIVES.register
@dataclass(frozen=True)
class Distillation(Objective):
    """The text vectors learn the likenesses of a collaborative teacher, over the items of a batch.

    The teacher is an item-to-item retriever, fitted on what is known; its matrix is made symmetric and factorised
    (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, for the divergence; Volkovs
    et al. 2017, "DropoutNet", for why content should learn what behaviour knows).

    Attributes:
        teacher: The kind of an item-to-item retriever.
        width: Numbers of a teacher's vector.
        least_events: Events from which on an item's behaviour teaches.
        temperature: Divides the cosines of both.
    """

    name: ClassVar[str] = "distillation"
    teacher: str = "covisitation"
    width: Annotated[int, Field(ge=2)] = 128
    least_events: Annotated[int, Field(ge=1)] = 5
    temperature: Annotated[float, Field(gt=0)] = 0.05

    def examples(self, corpus: Corpus, rng: np.random.Generator) -> LongArray:
        """The items whose behaviour teaches `(n, 1)`.

        Raises:
            DataError: fewer than two items have enough events.
        """
        items = np.flatnonzero(corpus.counts >= self.least_events)
        if len(items) < 2:
            raise DataError(
                f"finetune: {len(items)} items have {self.least_events} events or more before the cut, and "
                "distillation needs two at least: lower least_events, or use more data"
            )
        return items[:, None]

    def collate(self, corpus: Corpus, rows: LongArray, rng: np.random.Generator) -> dict[str, Any]:
        items = np.unique(rows[:, 0])
        return corpus.pad(items) | {"teacher": _teacher(self, corpus.state)[items]}

    def loss(self, corpus: Corpus, encoder: Any) -> Any:
        from recsys.finetuning.losses import DistillationLoss

        return DistillationLoss(encoder, self.temperature)


@cache
def _teacher(settings: Distillation, state: State) -> FloatArray:
    """Fit the teacher and factorise its matrix into unit vectors `(I, width)`."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import svds

    fitted = construct(family("retriever"), settings.teacher, {"depth": 0}, "finetune.objectives.teacher").fit(state)
    matrix = getattr(fitted, "matrix", None)
    if matrix is None:
        raise ConfigError(
            f"finetune.objectives: the teacher {settings.teacher!r} is no item-to-item retriever: use covisitation, "
            "item_knn, slit or ease"
        )
    both = (matrix + matrix.T).astype(np.float32)
    # An item is as much like itself as like the nearest other: without that, two that always go together look unlike.
    both = both + diags_array(both.max(axis=1).toarray().ravel() - both.diagonal())
    width = min(settings.width, both.shape[0] - 1)
    left, singular, _ = svds(both, k=width, rng=np.random.default_rng(0))
    return unit_rows((left * np.sqrt(singular)).astype(np.float32))
