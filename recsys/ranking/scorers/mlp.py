"""A small multilayer perceptron under a listwise loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np

from recsys.arrays import FloatArray, LongArray
from recsys.config import Choice, Range
from recsys.progress import Progress
from recsys.ragged import offsets_of, owners_of
from recsys.ranking.scorers.base import require_packages
from recsys.ranking.scorers.dense import LEAST, DenseScorer, StoredAsDense, standardise
from recsys.ranking.scorers.registry import SCORERS


@SCORERS.register
@dataclass(frozen=True)
class MLP(StoredAsDense):
    """A small multilayer perceptron under the listwise loss of `Logistic`, trained by AdamW in torch.

    With one choice a list the loss is the softmax of ListNet (Cao et al. 2007, "Learning to Rank: From Pairwise
    Approach to Listwise Approach"), in which several choices of a list would push each other down.

    A tenth of the lists is held out; training stops when their loss has not improved for `patience` epochs, and the
    best weights are kept.

    Attributes:
        hidden: Units of each hidden layer.
        members: Networks from different seeds, whose scores are averaged.
        learning_rate: Step size of AdamW.
        weight_decay: Weight decay of AdamW.
        batch_lists: Lists in a step.
        epochs: Most passes over the lists.
        patience: Epochs without a better held-out loss before training stops.
        negatives: About how many unlabelled candidates of each list to learn from; 0 for all.
    """

    name: ClassVar[str] = "mlp"
    needs: ClassVar[Mapping[str, str]] = {"torch": "train"}

    hidden: Annotated[tuple[int, ...], Choice(((32, 16), (64, 32), (128, 64)))] = (64, 32)
    members: int = 3
    learning_rate: Annotated[float, Range(3e-4, 1e-2, log=True)] = 0.001
    weight_decay: Annotated[float, Range(1e-6, 1e-1, log=True)] = 1e-4
    batch_lists: int = 256
    epochs: int = 80
    patience: int = 5
    negatives: int = 100

    def fit(self, x: FloatArray, offsets: LongArray, y: FloatArray, seed: int, progress: Progress) -> DenseScorer:
        require_packages(self)
        import torch

        z, mean, scale = standardise(x)
        lists = len(offsets) - 1
        fitted = []
        for member in range(self.members):
            rng = np.random.default_rng([seed, member])
            shuffled = rng.permutation(lists)
            held = max(1, lists // 10) if lists > 1 else 0
            torch.manual_seed(seed * 1000 + member)
            tick = partial(progress, f"scorer {member + 1}/{self.members}")
            fitted.append(self._train(z, offsets, y, shuffled[held:], shuffled[:held], rng, tick))
        layers = range(len(self.hidden) + 1)
        return DenseScorer(mean, scale, [np.stack([net[2 * i] for net in fitted]) for i in layers],
                            [np.stack([net[2 * i + 1] for net in fitted]) for i in layers])  # fmt: skip

    def _train(self, z: FloatArray, offsets: LongArray, y: FloatArray, learn: LongArray, held: LongArray,
               rng: np.random.Generator, tick: Callable[[int, int], None]) -> list[FloatArray]:  # fmt: skip
        """Return weight and bias of each layer in turn, as of the best held-out loss."""
        import torch
        from torch import nn
        from torch.nn.functional import softplus

        sizes = [z.shape[1], *self.hidden, 1]
        layers: list[nn.Module] = []
        for width, out in itertools.pairwise(sizes):
            layers += [nn.Linear(width, out), nn.ReLU()]
        net = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.AdamW(net.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        features, labels = torch.from_numpy(z), torch.from_numpy(y)

        def loss_of(chosen: LongArray) -> torch.Tensor:
            lengths = np.diff(offsets)[chosen]
            starts = offsets_of(lengths)
            rows = torch.from_numpy(np.repeat(offsets[chosen] - starts[:-1], lengths) + np.arange(starts[-1]))
            owner = torch.from_numpy(owners_of(starts))
            logit = net(features[rows])[:, 0]
            label = labels[rows]
            top = torch.full((len(chosen),), -torch.inf).scatter_reduce(0, owner, logit.detach(), "amax")
            odds = torch.exp(logit - top[owner]) * (label == 0)
            others = torch.zeros(len(chosen)).index_add(0, owner, odds).clamp(min=LEAST)
            log_p = -softplus((torch.log(others) + top)[owner] - logit)
            return -(label * log_p).sum() / len(chosen)

        best, best_loss, waited = [p.detach().clone() for p in net.parameters()], np.inf, 0
        for epoch in range(self.epochs):
            net.train()
            shuffled = rng.permutation(learn)
            for start in range(0, len(shuffled), self.batch_lists):
                optimizer.zero_grad()
                loss_of(shuffled[start : start + self.batch_lists]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            tick(epoch + 1, self.epochs)
            if not len(held):
                best = [p.detach().clone() for p in net.parameters()]
                continue
            net.eval()
            with torch.inference_mode():
                parts = [held[start : start + self.batch_lists] for start in range(0, len(held), self.batch_lists)]
                now = sum(float(loss_of(part)) * len(part) for part in parts) / len(held)
            if now < best_loss - 1e-5:
                best, best_loss, waited = [p.detach().clone() for p in net.parameters()], now, 0
            elif (waited := waited + 1) >= self.patience:
                break
        tick(self.epochs, self.epochs)
        return [np.ascontiguousarray(p.numpy().T) for p in best]
