"""SASRec (Kang and McAuley 2018) with the softmax over the whole catalogue, in plain torch on a CPU.

The recipe is that of the strong reimplementations (Klenitskiy and Vasilev 2023, "Turning Dross Into Gold Loss";
RecTools): pre-norm causal blocks, tied item embeddings, every event of a history predicts the next one under
cross-entropy over all items, the epoch kept that does best on held-out events. Three departures, each in the model's
favour:

- If seen items are not recommended, only first-time events are targets.
- The epoch is chosen by the last events of a sample of the known users; the model trains on all events of the others.
- Positions count back from the newest event, so that the position of a query is one the model has trained on.

A fit takes minutes. It is `epochs` passes under a rate that rises for one and then falls along a cosine, which ends as
well as twice the passes at a low constant rate. Dropout is everywhere but on attention's weights, which would rule out
torch's fused kernel. The network knows the `vocabulary` most frequent items (on Beauty and Online Retail all with an
event, on completejourney 12,500 of some 68,000) and leaves events of other items out of every history. It learns from
all of the rest in pieces of `length`; a query is the newest `length` events. Other items score -inf; users without a
known item get what is popular.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention

from benchmarks.quality.protocols import Task
from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.parallel.threads import batches
from recsys.ragged import offsets_of, pair_keys
from recsys.tables.split import Fold
from recsys.types import Histories, Interactions

TOP = 10
EPOCH = 200_000  # targets at most between two looks at the held-out events
HELD = 2000  # users whose last event decides which epoch is kept
ROWS = 256  # of the softmax at a time: what they weigh fits a cache
LEARNT_IN = torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


@dataclass(frozen=True)
class SASRec:
    """Settings. `batch_events` is the targets of a step, whatever the lengths: lists of like length go together."""

    random: ClassVar[bool] = True
    grid: ClassVar[list[dict[str, Any]]] = [
        {},
        {"dropout": 0.2},
        {"hidden": 128},
        {"heads": 1},
        {"blocks": 1},
        {"dropout": 0.3, "hidden": 128},
        {"blocks": 3},
    ]

    hidden: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.5
    length: int = 200
    vocabulary: int = 12_500
    learning_rate: float = 0.003
    batch_events: int = 1024
    epochs: int = 20

    def fit(self, task: Task, known: Fold, seed: int) -> FittedSASRec:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        count = np.bincount(known.known.item, minlength=len(task.tables.catalog))
        items = np.argsort(-count, kind="stable")[: min(self.vocabulary, int((count > 0).sum()))]
        code = np.full(len(count), -1, dtype=np.int64)
        code[items] = np.arange(len(items))
        log = known.known.take(code[known.known.item] >= 0)
        wanted = _first_time(log, len(count)) if task.drop_seen else np.ones(len(log), dtype=bool)

        held = _held(log, wanted, rng)
        train = np.ones(len(log), dtype=bool)
        train[held] = False
        lists = _Lists.of(log.take(train), wanted[train], code, self.length)
        network = _Network(len(items), self.hidden, self.blocks, self.heads, self.length, self.dropout)
        fitted = FittedSASRec(network, items, code, np.log(count[items]).astype(np.float32))
        queries = log.take(train).histories(log.user[held], log.time[held] + 1)
        self._train(fitted, lists, lambda: fitted.ndcg(queries, code[log.item[held]], task.drop_seen), rng)
        return fitted

    def _train(
        self, fitted: FittedSASRec, lists: _Lists, measure: Callable[[], float], rng: np.random.Generator
    ) -> None:
        """Leave the network as it was after the epoch that `measure` scored highest."""
        network = fitted.network
        optimizer = torch.optim.Adam(network.parameters())
        best, best_score = network.state_dict(), -1.0
        for epoch in range(self.epochs):
            network.train()
            steps = list(lists.batches(self.batch_events, rng))
            for step, (item, lengths, target) in enumerate(steps):
                real = target >= 0
                passed = epoch + (step + 0.5) / len(steps)
                optimizer.param_groups[0]["lr"] = self.learning_rate * _share_of_rate(passed, self.epochs)
                optimizer.zero_grad()
                loss = full_softmax(network(item, lengths)[real], network.items.weight, target[real])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            score = measure()
            if score > best_score:
                best, best_score = copy.deepcopy(network.state_dict()), score
        network.load_state_dict(best)


def _share_of_rate(passed: float, epochs: int) -> float:
    """Rise for one epoch, then fall along a cosine to 0 at the end."""
    return min(1.0, passed) * (1 + math.cos(math.pi * passed / epochs)) / 2


@dataclass(frozen=True, eq=False)
class FittedSASRec:
    """The network; the item `(V,)` of each code, the code `(I,)` of each item, -1 for none; log events `(V,)`."""

    network: _Network
    items: LongArray
    code: LongArray
    popularity: FloatArray

    def score(self, histories: Histories) -> FloatArray:
        dense = np.full((len(histories), len(self.code)), -np.inf, dtype=np.float32)
        dense[:, self.items] = self.logits(histories)
        return dense

    def logits(self, histories: Histories) -> FloatArray:
        """The score of every item that the network knows `(U, V)`."""
        code = self.code[histories.item]
        kept = code >= 0
        offsets = offsets_of(np.bincount(histories.owner[kept], minlength=len(histories)))
        lengths = np.minimum(np.diff(offsets), self.network.length)
        item = torch.from_numpy(_padded(code[kept], offsets[1:] - lengths, lengths))
        self.network.eval()
        with torch.inference_mode():
            state = self.network(item, torch.from_numpy(lengths))
            last = state[torch.arange(len(lengths)), torch.from_numpy(np.maximum(lengths - 1, 0))]
            logits = (last @ self.network.items.weight.T).numpy()
        logits[lengths == 0] = self.popularity
        return logits

    def ndcg(self, histories: Histories, target: LongArray, drop_seen: bool) -> float:
        """Mean ndcg@10 of one target `(U,)`, a code, for each query; ties count against it."""
        total = 0.0
        for some in batches(np.arange(len(histories))):
            asking = histories.select(some)
            logits = self.logits(asking)
            own = logits[np.arange(len(some)), target[some]][:, None]
            if drop_seen:
                logits[asking.owner, self.code[asking.item]] = -np.inf
            place = (logits >= own).sum(axis=1)
            total += float(np.where(place <= TOP, 1 / np.log2(place + 1), 0).sum())
        return total / max(len(histories), 1)


@dataclass(frozen=True, eq=False)
class _Lists:
    """Training lists, ragged: every item of each history and the one after it, as codes; `target` is -1 where unwanted.

    Long histories are cut into lists of `length`.
    """

    item: LongArray
    target: LongArray
    offsets: LongArray

    @classmethod
    def of(cls, log: Interactions, wanted: BoolArray, code: LongArray, length: int) -> _Lists:
        item = code[log.item]
        target = np.where(wanted, item, -1)
        follows = log.user[1:] == log.user[:-1]
        steps = offsets_of(np.maximum(np.diff(log.offsets) - 1, 0))
        to_go = np.repeat(steps[1:], np.diff(steps)) - np.arange(steps[-1])
        begins = to_go % length == 0
        begins[steps[:-1][np.diff(steps) > 0]] = True
        return cls(item[:-1][follows], target[1:][follows], np.append(np.flatnonzero(begins), len(begins)))

    def batches(self, events: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Items, lengths and targets `(B, L)`, `(B,)`, `(B, L)` of about so many events: an epoch, in random order.

        Lists of like length go together, so that little is padding. Lists without a target are left out; of very many
        events each epoch draws its own `EPOCH`.
        """
        lengths = np.diff(self.offsets)
        order = rng.permutation(np.flatnonzero(np.add.reduceat(self.target >= 0, self.offsets[:-1])))
        order = order[np.cumsum(lengths[order]) <= EPOCH]
        order = order[np.argsort(lengths[order], kind="stable")]
        number = np.cumsum(lengths[order]) // events
        parts = np.split(order, np.flatnonzero(np.diff(number)) + 1)
        for place in rng.permutation(len(parts)):
            chosen = parts[place]
            starts, lasting = self.offsets[chosen], lengths[chosen]
            item, target = _padded(self.item, starts, lasting), _padded(self.target, starts, lasting, -1)
            yield torch.from_numpy(item), torch.from_numpy(lasting), torch.from_numpy(target)


def _padded(values: LongArray, starts: LongArray, lengths: LongArray, padding: int = 0) -> LongArray:
    """Lists that lie in `values`, as a matrix, padded at the end."""
    place = np.arange(lengths.max(initial=1))
    real = place < lengths[:, None]
    matrix = np.full(real.shape, padding, dtype=np.int64)
    matrix[real] = values[(starts[:, None] + place)[real]]
    return matrix


def _first_time(log: Interactions, n_items: int) -> BoolArray:
    """Which events are the first of their user with their item `(n,)`."""
    first = np.zeros(len(log), dtype=bool)
    first[np.unique(pair_keys(log.user, log.item, n_items), return_index=True)[1]] = True
    return first


def _held(log: Interactions, wanted: BoolArray, rng: np.random.Generator) -> LongArray:
    """Rows of the last events of a sample of users: at most a fifth of those who have two and end in a target."""
    last = log.offsets[1:][np.diff(log.offsets) > 1] - 1
    last = last[wanted[last]]
    return np.sort(rng.choice(last, min(HELD, len(last) // 5), replace=False))


class _Network(nn.Module):
    """From items `(B, L)`, padded at the end, to what is expected after each of them `(B, L, hidden)`.

    Attention is causal, so padding, which comes last, is never looked at.
    """

    def __init__(self, items: int, hidden: int, blocks: int, heads: int, length: int, dropout: float) -> None:
        super().__init__()
        self.length, self.dropout = length, dropout
        self.items = nn.Embedding(items, hidden)
        self.places = nn.Embedding(length, hidden)
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(hidden, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)

    def forward(self, item: Tensor, lengths: Tensor) -> Tensor:
        place = (lengths[:, None] - 1 - torch.arange(item.shape[1])).clamp(min=0)
        state = self.items(item) * math.sqrt(self.items.embedding_dim) + self.places(place)
        state = dropout(state, self.dropout, self.training)
        for block in self.blocks:
            state = block(state)
        return self.norm(state)


class _Block(nn.Module):
    """Causal self-attention, then a feed-forward layer at each position, both residual."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.attends, self.mixes = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.widens, self.narrows = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, state: Tensor) -> Tensor:
        rate = self.dropout if self.training else 0.0
        projected = self.attends(self.norms[0](state)).unflatten(2, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        state = state + dropout(self.mixes(mixed.transpose(1, 2).flatten(2)), rate)
        wide = dropout(gelu(self.widens(self.norms[1](state))), rate)
        return state + dropout(self.narrows(wide), rate)


def full_softmax(states: Tensor, table: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the softmax over all rows of a table: states `(n, d)`, table `(V, d)`, targets `(n,)`."""
    return _FullSoftmax.apply(states, table, target)  # type: ignore[no-untyped-call]


class _FullSoftmax(torch.autograd.Function):
    """Loss and gradient in one pass over `ROWS` states at a time, so that the logits `(n, V)` never exist at once."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, target: Tensor) -> Tensor:
        of_states, of_table, loss = torch.empty_like(states), torch.zeros_like(table), torch.zeros(())
        narrow = table.to(LEARNT_IN)
        for start in range(0, len(target), ROWS):
            rows = slice(start, start + ROWS)
            state, aim = states[rows].to(LEARNT_IN), target[rows]
            own = torch.arange(len(aim)), aim
            share = torch.softmax(state @ narrow.T, dim=1)
            loss -= share[own].float().log().sum()
            share[own] -= 1
            of_states[rows] = share @ narrow
            of_table += share.T @ state
        ctx.save_for_backward(of_states / len(target), of_table / len(target))
        return loss / len(target)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        of_states, of_table = ctx.saved_tensors
        return grad * of_states, grad * of_table, None
