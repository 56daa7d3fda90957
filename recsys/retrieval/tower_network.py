"""The network of the user tower: attention over a history's newest events predicts the next one.

SASRec (Kang and McAuley 2018, "Self-Attentive Sequential Recommendation") with one block, over item vectors that are
a learned projection of the frozen text vector plus a learned correction of the item's own: what nobody has bought yet
still has its text. The loss is the softmax over the items, sampled with the log-Q correction (Bengio and Senécal 2008;
Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling"). It is trained in torch and evaluated in numpy.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, LongArray
from recsys.errors import ArtifactError
from recsys.extras import require
from recsys.ragged import offsets_of, owners_of, places_of
from recsys.types import Histories, Interactions, State

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

HEADS = 2
HIDDEN_FACTOR = 2  # width of the hidden layer of the block, in widths of its input
BATCH = 256
MIN_STEPS = 100  # a small shop needs more epochs to learn anything
MAX_STEPS = 4_000  # a step costs time in proportion to the catalogue, so a large log gets fewer epochs
NEGATIVES = 1024
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 0.002, 0.05, 0.1
EPSILON = 1e-5

Weights = Mapping[str, NDArray[Any]]


def windows(events: Interactions, length: int) -> tuple[LongArray, LongArray]:
    """Cut each user's events into training windows of at most `length + 1` events, newest first.

    Neighbouring windows share one event, so that every event but a user's first is predicted once.

    Returns:
        The first row and the end row of each window `(w,)`.
    """
    counts = np.diff(events.offsets)
    pieces = offsets_of(-(-np.maximum(counts - 1, 0) // length))
    user = owners_of(pieces)
    ends = events.offsets[1:][user] - places_of(pieces) * length
    return np.maximum(events.offsets[:-1][user], ends - length - 1), ends


def pad_windows(first: LongArray, lengths: LongArray) -> tuple[LongArray, NDArray[np.bool_]]:
    """Lay windows side by side, short ones padded on the right.

    Args:
        first: The first row of each window `(w,)`.
        lengths: The length of each window `(w,)`.

    Returns:
        The rows `(w, T)`, and which of them are real `(w, T)`.
    """
    steps = np.arange(lengths.max(initial=1))
    real = steps < lengths[:, None]
    return np.where(real, first[:, None] + steps, 0), real


def train(state: State, width: int, length: int, epochs: int, dropout: float, seed: int) -> dict[str, FloatArray]:
    """Learn to predict every event that has one before it. The same seed gives the same weights on one machine.

    Args:
        state: What was known at one moment.
        width: The width of the learned vectors.
        length: How many of the newest events the attention sees.
        epochs: How often to go through the log, within `MIN_STEPS` and `MAX_STEPS`.
        dropout: The share of activations to drop.
        seed: The seed of all random numbers.

    Returns:
        The weights as plain arrays. `items` is `(I, width + 1)`, the last column a bias; both are centred, which the
        softmax does not see, so that a score above 0 speaks for an item. `projection` `(d, width)` and `newcomer`
        `(width + 1,)` make the row of an item that was not there (see `move_to_catalog`).
    """
    require("train", "training the retriever tower", "torch")
    import torch
    from torch.nn.functional import cross_entropy

    events, n_items = state.interactions, len(state.catalog)
    first, ends = windows(events, length)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _net(state.vectors, width, length, dropout)
        per_epoch = max(1, -(-len(first) // BATCH))
        epochs = max(epochs, -(-MIN_STEPS // per_epoch)) if len(first) else 0
        steps = min(epochs * per_epoch, MAX_STEPS)
        optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, total_steps=max(steps, 1), pct_start=WARM_UP
        )
        share = np.bincount(events.item, minlength=n_items) / max(len(events), 1)
        for epoch in range(-(-steps // per_epoch)):
            total = predicted = 0.0
            for batch in itertools.islice(_batches(ends - first, rng), steps - epoch * per_epoch):
                rows, real = pad_windows(first[batch], ends[batch] - first[batch])
                item = events.item[rows]
                is_target = real[:, 1:] & events.target[rows[:, 1:]]
                if not is_target.any():
                    continue
                target = item[:, 1:][is_target].astype(np.int64)
                sampled = np.unique(np.concatenate([target, rng.integers(n_items, size=NEGATIVES)]))
                # The log-Q correction: an item is sampled as a target of the batch or as a random negative.
                missed = (1 - share[sampled]) ** len(target) * (1 - 1 / n_items) ** NEGATIVES
                hidden = net(torch.from_numpy(item[:, :-1].astype(np.int64)))[torch.from_numpy(is_target)]
                candidates = torch.from_numpy(sampled)
                logit = hidden @ net.rows(candidates).T + net.bias[candidates]
                logit = logit - torch.from_numpy(np.log1p(-missed).astype(np.float32))
                loss = cross_entropy(logit, torch.from_numpy(np.searchsorted(sampled, target)))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total, predicted = total + loss.item() * len(target), predicted + len(target)
            log.info("tower: epoch %d of %d, loss %.3f", epoch + 1, -(-steps // per_epoch), total / max(predicted, 1))
        return _arrays(net, np.flatnonzero(share == share.min()))


def _batches(lengths: LongArray, rng: np.random.Generator) -> Iterator[LongArray]:
    """Deal windows into batches of nearly one length, so that little is padding."""
    order = np.argsort(lengths + 4 * rng.random(len(lengths)))
    for number in rng.permutation(-(-len(order) // BATCH)):
        yield order[number * BATCH : (number + 1) * BATCH]


def _net(vectors: FloatArray, width: int, length: int, dropout: float) -> Any:
    import torch
    from torch import nn
    from torch.nn.functional import embedding, scaled_dot_product_attention

    class Net(nn.Module):
        """One pre-norm block of causal self-attention over the item vectors."""

        def __init__(self) -> None:
            super().__init__()
            self.text = torch.from_numpy(np.array(vectors, dtype=np.float32))
            self.projection = nn.Linear(vectors.shape[1], width, bias=False)
            nn.init.normal_(self.projection.weight, std=1 / math.sqrt(vectors.shape[1]))
            self.own = nn.Embedding(len(vectors), width)
            nn.init.zeros_(self.own.weight)
            self.bias = nn.Parameter(torch.zeros(len(vectors)))
            self.position = nn.Parameter(0.02 * torch.randn(length, width))
            self.before, self.between, self.after = (nn.LayerNorm(width, eps=EPSILON) for _ in range(3))
            self.attend, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.widen, self.narrow = nn.Linear(width, HIDDEN_FACTOR * width), nn.Linear(HIDDEN_FACTOR * width, width)
            self.dropout = nn.Dropout(dropout)

        def rows(self, item: torch.Tensor) -> torch.Tensor:
            """The vectors of some items `(..., width)`."""
            return self.projection(self.text[item]) + self.own(item)

        def forward(self, item: torch.Tensor) -> torch.Tensor:
            """Predict what follows each event of padded windows `(w, T)`: `(w, T, width)`."""
            used, place = torch.unique(item, return_inverse=True)
            # `embedding`, since plain indexing sums its gradient in whatever order threads finish.
            x = self.dropout(embedding(place, self.rows(used)) + self.position[: item.shape[1]])
            heads = self.attend(self.before(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            query, key, value = heads.unbind()
            mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.dropout(self.join(mixed.transpose(1, 2).flatten(2)))
            x = x + self.dropout(self.narrow(torch.relu(self.widen(self.between(x)))))
            return self.after(x)

    return Net()


def _arrays(net: Any, rarest: LongArray) -> dict[str, FloatArray]:
    import torch

    with torch.inference_mode():
        items = torch.cat([net.rows(part) for part in torch.split(torch.arange(len(net.text)), 16_384)])
        # The mean that is subtracted from every item is added to the positions: one matrix serves as input and output.
        both = torch.cat([items - items.mean(dim=0), (net.bias - net.bias.mean())[:, None]], dim=1)
        named = {"items": both, "position": net.position + items.mean(dim=0), "projection": net.projection.weight.T}
        own = torch.cat([net.own.weight, net.bias[:, None]], dim=1)[torch.from_numpy(rarest)].mean(dim=0)
        named["newcomer"] = own - torch.cat([items.mean(dim=0), net.bias.mean()[None]])
        for name in ("before", "between", "after"):
            layer = getattr(net, name)
            named |= {f"{name}.scale": layer.weight, f"{name}.shift": layer.bias}
        for name in ("attend", "join", "widen", "narrow"):
            layer = getattr(net, name)
            named |= {f"{name}.weight": layer.weight.T, f"{name}.bias": layer.bias}
    return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in named.items()}


def move_to_catalog(
    weights: Weights, old_vectors: FloatArray, vectors: FloatArray, old_row: LongArray
) -> dict[str, NDArray[Any]]:
    """Move learned weights to another catalogue, without training.

    A known item keeps its row; where its text vector has changed, the projection of the change is added. A new item
    has the projection of its text, and the mean correction and bias of the rarest items of the training, about which
    as little is known.

    Args:
        weights: What `train` gave.
        old_vectors: The text vectors that it was trained with `(J, d)`.
        vectors: The text vectors of the new catalogue `(I, d)`.
        old_row: Where each item was in the old catalogue `(I,)`, -1 for a new one.

    Returns:
        The weights over the new catalogue, without an index.

    Raises:
        ArtifactError: An earlier recsys stored the weights, without the projection.
    """
    if "projection" not in weights:
        raise ArtifactError(
            f"the tower's weights are those of an earlier recsys, which kept no projection of texts (they hold "
            f"{', '.join(sorted(weights))}): train again"
        )
    known, old = old_row >= 0, old_row[old_row >= 0]
    items = np.empty((len(old_row), weights["items"].shape[1]), dtype=np.float32)
    items[known] = weights["items"][old]
    items[known, :-1] += (vectors[known] - old_vectors[old]) @ weights["projection"]
    items[~known] = weights["newcomer"]
    items[~known, :-1] += vectors[~known] @ weights["projection"]
    return {**{name: array for name, array in weights.items() if name != "index"}, "items": items}


def append_items(weights: Weights, vectors: FloatArray) -> dict[str, NDArray[Any]]:
    """Move learned weights to a catalogue `(I, d)` that has new items at its end. Raises as `move_to_catalog` does."""
    n_old = len(weights["items"])
    old_row = np.where(np.arange(len(vectors)) < n_old, np.arange(len(vectors)), -1)
    return move_to_catalog(weights, vectors[:n_old], vectors, old_row)


def encode_histories(weights: Weights, histories: Histories) -> FloatArray:
    """Turn histories into query vectors: the forward pass of the network at the newest event, in numpy.

    Args:
        weights: What `train` gave.
        histories: The histories of `U` queries.

    Returns:
        The query vectors `(U, width + 1)`, whose products with `items` are log odds; zeros for an empty history.
    """
    length, width = weights["position"].shape
    queries = np.zeros((len(histories), width + 1), dtype=np.float32)
    filled = np.flatnonzero(histories.lengths)
    lengths = np.minimum(histories.lengths[filled], length)
    rows, real = pad_windows(histories.offsets[1:][filled] - lengths, lengths)
    if not len(filled):
        return queries
    x = weights["items"][histories.item[rows], :-1] + weights["position"][: rows.shape[1]]
    newest = (np.arange(len(filled)), lengths - 1)
    heads = _linear(weights, "attend", _layer_norm(weights, "before", x))
    query, key, value = np.moveaxis(heads.reshape(*rows.shape, 3, HEADS, -1), 2, 0)
    weight = np.einsum("uhd,uthd->uht", query[newest], key) / np.float32(math.sqrt(width / HEADS))
    weight = np.where(real[:, None, :], weight, -np.inf)
    weight = np.exp(weight - weight.max(axis=2, keepdims=True))
    weight /= weight.sum(axis=2, keepdims=True)
    mixed = np.einsum("uht,uthd->uhd", weight, value).reshape(len(filled), width)
    last = x[newest] + _linear(weights, "join", mixed)
    hidden = np.maximum(_linear(weights, "widen", _layer_norm(weights, "between", last)), 0)
    last += _linear(weights, "narrow", hidden)
    queries[filled, :-1] = _layer_norm(weights, "after", last)
    queries[filled, -1] = 1
    return queries


def _linear(weights: Weights, name: str, x: FloatArray) -> FloatArray:
    return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _layer_norm(weights: Weights, name: str, x: FloatArray) -> FloatArray:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(EPSILON))
    return centred / spread * weights[f"{name}.scale"] + weights[f"{name}.shift"]
