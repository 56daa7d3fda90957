"""The learned user tower: attention over a history's newest events foretells the next one.

SASRec (Kang and McAuley 2018, "Self-Attentive Sequential Recommendation") with one block, over item vectors that are
a learned projection of the frozen text vector plus a learned correction of the item's own: what nobody has bought yet
still has its text. The loss is the softmax over the items, sampled with the log-Q correction (Bengio and Senécal 2008;
Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling"). It is trained in torch and asked in numpy.
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
WIDER = 2  # the hidden layer of the block, in widths of its input
BATCH = 256
LEAST_STEPS = 100  # a small shop needs more passes to learn anything
MOST_STEPS = 4_000  # a step costs what the catalogue has, so a large log is not gone through so often
NEGATIVES = 1024
RATE, WEIGHT_DECAY, WARM_UP = 0.002, 0.05, 0.1
EPSILON = 1e-5

Weights = Mapping[str, NDArray[Any]]


def windows(events: Interactions, length: int) -> tuple[LongArray, LongArray]:
    """Cut each user's events into windows of at most `length + 1`, newest first, and return their first and end rows.

    Neighbouring windows share one event, so that every event but a user's first is foretold once.
    """
    counts = np.diff(events.offsets)
    pieces = offsets_of(-(-np.maximum(counts - 1, 0) // length))
    user = owners_of(pieces)
    ends = events.offsets[1:][user] - places_of(pieces) * length
    return np.maximum(events.offsets[:-1][user], ends - length - 1), ends


def padded(first: LongArray, lengths: LongArray) -> tuple[LongArray, NDArray[np.bool_]]:
    """Return the rows of ragged windows side by side `(w, T)`, short ones padded on the right, and which are real."""
    steps = np.arange(lengths.max(initial=1))
    real = steps < lengths[:, None]
    return np.where(real, first[:, None] + steps, 0), real


def train(state: State, width: int, length: int, epochs: int, dropout: float, seed: int) -> dict[str, FloatArray]:
    """Learn from every event that has one before it; return the weights as plain arrays.

    `items` is `(I, width + 1)`, the last column a bias, centred: the softmax does not see that, and a score above 0
    then speaks for an item. `projection` `(d, width)` and `newcomer` `(width + 1,)` make the row of an item that was
    not there (see `moved`). The same seed gives the same weights on one machine.
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
        each = max(1, -(-len(first) // BATCH))
        passes = max(epochs, -(-LEAST_STEPS // each)) if len(first) else 0
        steps = min(passes * each, MOST_STEPS)
        optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
        pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 1), pct_start=WARM_UP)
        share = np.bincount(events.item, minlength=n_items) / max(len(events), 1)
        for number in range(-(-steps // each)):
            total = predicted = 0.0
            for some in itertools.islice(_batches(ends - first, rng), steps - number * each):
                rows, real = padded(first[some], ends[some] - first[some])
                item = events.item[rows]
                wanted = real[:, 1:] & events.target[rows[:, 1:]]
                if not wanted.any():
                    continue
                following = item[:, 1:][wanted].astype(np.int64)
                offered = np.unique(np.concatenate([following, rng.integers(n_items, size=NEGATIVES)]))
                # How likely each item is to be offered: by one of the batch's events or by the draw.
                missed = (1 - share[offered]) ** len(following) * (1 - 1 / n_items) ** NEGATIVES
                hidden = net(torch.from_numpy(item[:, :-1].astype(np.int64)))[torch.from_numpy(wanted)]
                choice = torch.from_numpy(offered)
                logit = hidden @ net.rows(choice).T + net.bias[choice]
                logit = logit - torch.from_numpy(np.log1p(-missed).astype(np.float32))
                loss = cross_entropy(logit, torch.from_numpy(np.searchsorted(offered, following)))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                pace.step()
                total, predicted = total + loss.item() * len(following), predicted + len(following)
            log.info("tower: pass %d of %d, loss %.3f", number + 1, -(-steps // each), total / max(predicted, 1))
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
            self.widen, self.narrow = nn.Linear(width, WIDER * width), nn.Linear(WIDER * width, width)
            self.dropout = nn.Dropout(dropout)

        def rows(self, item: torch.Tensor) -> torch.Tensor:
            """The vectors of some items `(..., width)`."""
            return self.projection(self.text[item]) + self.own(item)

        def forward(self, item: torch.Tensor) -> torch.Tensor:
            """What follows each event of padded windows `(w, T)`: `(w, T, width)`."""
            used, place = torch.unique(item, return_inverse=True)
            # `embedding`, since the gradient of plain indexing adds up in the order in which threads come.
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
        # What is taken off every item is put back by the position, so one matrix serves as input and as answer.
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


def moved(weights: Weights, before: FloatArray, vectors: FloatArray, place: LongArray) -> dict[str, NDArray[Any]]:
    """Carry the weights over to another catalogue, of vectors `(J, d)`; `place` `(J,)` is where an item was, or -1.

    A known item keeps its row; where its vector is no longer that of `before` `(I, d)`, what the text says of it
    changes. A new item has the projection of its text, and for its own correction and bias the mean of those that the
    rarest items of the training learnt: as little is known of it.

    Raises `ArtifactError` for weights that were stored without what this takes.
    """
    if "projection" not in weights:
        raise ArtifactError(
            f"the tower's weights are those of an earlier recsys, which kept no projection of texts (they hold "
            f"{', '.join(sorted(weights))}): train again"
        )
    known, old = place >= 0, place[place >= 0]
    items = np.empty((len(place), weights["items"].shape[1]), dtype=np.float32)
    items[known] = weights["items"][old]
    items[known, :-1] += (vectors[known] - before[old]) @ weights["projection"]
    items[~known] = weights["newcomer"]
    items[~known, :-1] += vectors[~known] @ weights["projection"]
    return {**{name: array for name, array in weights.items() if name != "index"}, "items": items}


def grown(weights: Weights, vectors: FloatArray) -> dict[str, NDArray[Any]]:
    """Carry the weights over to a catalogue that has further items at its end."""
    old = len(weights["items"])
    place = np.where(np.arange(len(vectors)) < old, np.arange(len(vectors)), -1)
    return moved(weights, vectors[:old], vectors, place)


def queries(weights: Weights, histories: Histories) -> FloatArray:
    """What each history asks of `items` `(U, width + 1)`: the forward pass at its newest event; zeros where empty."""
    length, width = weights["position"].shape
    asked = np.zeros((len(histories), width + 1), dtype=np.float32)
    filled = np.flatnonzero(histories.lengths)
    lengths = np.minimum(histories.lengths[filled], length)
    rows, real = padded(histories.offsets[1:][filled] - lengths, lengths)
    if not len(filled):
        return asked
    x = weights["items"][histories.item[rows], :-1] + weights["position"][: rows.shape[1]]
    newest = (np.arange(len(filled)), lengths - 1)
    heads = _dense(weights, "attend", _normed(weights, "before", x))
    query, key, value = np.moveaxis(heads.reshape(*rows.shape, 3, HEADS, -1), 2, 0)
    weight = np.einsum("uhd,uthd->uht", query[newest], key) / np.float32(math.sqrt(width / HEADS))
    weight = np.where(real[:, None, :], weight, -np.inf)
    weight = np.exp(weight - weight.max(axis=2, keepdims=True))
    weight /= weight.sum(axis=2, keepdims=True)
    mixed = np.einsum("uht,uthd->uhd", weight, value).reshape(len(filled), width)
    last = x[newest] + _dense(weights, "join", mixed)
    last += _dense(weights, "narrow", np.maximum(_dense(weights, "widen", _normed(weights, "between", last)), 0))
    asked[filled, :-1] = _normed(weights, "after", last)
    asked[filled, -1] = 1
    return asked


def _dense(weights: Weights, name: str, x: FloatArray) -> FloatArray:
    return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _normed(weights: Weights, name: str, x: FloatArray) -> FloatArray:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(EPSILON))
    return centred / spread * weights[f"{name}.scale"] + weights[f"{name}.shift"]
