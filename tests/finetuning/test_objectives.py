"""What each objective learns from, by hand, and that an encoder learns by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny_bert import build_tiny_bert

from recsys.arrays import unit_rows
from recsys.embedding.pooling import load_pooled
from recsys.errors import ConfigError, DataError
from recsys.finetuning.base import Corpus, candidates_of
from recsys.finetuning.objectives.distillation import Distillation
from recsys.finetuning.objectives.masked_words import IGNORED, MaskedWords
from recsys.finetuning.objectives.next_item import NextItem
from recsys.finetuning.objectives.pairs import Pairs
from recsys.finetuning.registry import OBJECTIVES
from recsys.ragged import offsets_of
from recsys.types import Catalog, Interactions, State

CLS, SEP, MASK, PAD, FIRST = 1, 2, 3, 0, 10


def corpus_of(histories: Sequence[Sequence[int]], n_items: int, moments: Sequence[Sequence[int]] | None = None,
              **changes: Any) -> Corpus:  # fmt: skip
    """Items whose text is one word of their own; users who had them in order."""
    user = np.repeat(np.arange(len(histories)), [len(one) for one in histories]).astype(np.int32)
    item = np.concatenate([np.array(one, dtype=np.int32) for one in histories])
    time = np.concatenate([np.arange(len(one)) for one in histories] if moments is None else list(moments))
    n = len(item)
    events = Interactions(user, item, time.astype(np.int64), np.ones(n, np.float32), np.ones(n, bool), len(histories))
    frame = pl.DataFrame({"item_id": [f"i{row}" for row in range(n_items)]})
    vectors = unit_rows(np.random.default_rng(0).normal(size=(n_items, 8)).astype(np.float32))
    tokens = np.array([[CLS, FIRST + row, SEP] for row in range(n_items)]).ravel()
    state = State(Catalog(frame), events, vectors)
    corpus = Corpus(state, tokens, offsets_of(np.full(n_items, 3)), PAD, MASK, frozenset({CLS, SEP, MASK, PAD}),
                    FIRST + n_items, False)  # fmt: skip
    return replace(corpus, **changes)


def test_pairs_lie_within_the_distance_and_come_as_often_as_users_have_them() -> None:
    corpus = corpus_of([[0, 1, 2], [0, 1], [3]], 5)
    near = Pairs(distance=1, hard_negatives=0).examples(corpus, np.random.default_rng(0))
    assert sorted(map(tuple, near.tolist())) == [(0, 1), (0, 1), (1, 2)]
    wide = Pairs(distance=2, hard_negatives=0).examples(corpus, np.random.default_rng(0))
    assert sorted(map(tuple, wide.tolist())) == [(0, 1), (0, 1), (0, 2), (1, 2)]


def test_a_hard_negative_is_near_and_never_followed() -> None:
    corpus = corpus_of([[0, 1], [0, 2], [3, 0]], 6)
    found = Pairs(distance=1, hard_negatives=1).examples(corpus, np.random.default_rng(0))
    for left, _, negative in found.tolist():
        assert negative != left
        assert (left, negative) not in {(0, 1), (0, 2), (3, 0)}


def test_what_follows_is_never_a_negative() -> None:
    corpus = corpus_of([[0, 1], [0, 2], [3, 0]], 5)
    rows = np.array([[0, 1], [0, 2], [3, 0]])
    batch = Pairs(hard_negatives=0).collate(corpus, rows, np.random.default_rng(0))
    items = np.array([0, 1, 2, 3])  # in the order of the batch's texts
    assert batch["input_ids"].tolist() == [[CLS, FIRST + item, SEP] for item in items]
    assert batch["left"].tolist() == [0, 0, 3]
    assert items[batch["candidates"]].tolist() == [0, 1, 2]
    assert batch["target"].tolist() == [1, 2, 0]
    # Of item 0 its other follower and itself do not compete; nothing is hidden from item 3 but itself, which is absent.
    assert batch["blocked"].tolist() == [[True, False, True], [True, True, False], [False, False, False]]


def test_the_correction_is_the_chance_to_be_in_the_batch() -> None:
    corpus = corpus_of([[0, 0, 0, 1]], 3)
    items, correction = candidates_of(corpus, np.array([0, 1]), np.array([2]))
    assert items.tolist() == [0, 1, 2]
    assert correction[:2] == pytest.approx([-np.log(1 - 0.25**2), -np.log(1 - 0.75**2)], rel=1e-5)
    assert correction[2] == 0  # a negative that was chosen, not drawn


def test_a_basket_is_no_history_of_its_own() -> None:
    corpus = corpus_of([[0, 1, 2, 3]], 4, moments=[np.array([0, 0, 5, 5])])
    objective = NextItem(length=10)
    rows = objective.examples(corpus, np.random.default_rng(0))
    assert rows.tolist() == [[0, 2, 2], [0, 2, 3]]
    batch = objective.collate(corpus, rows, np.random.default_rng(0))
    assert batch["history"].tolist() == [[1, 0], [1, 0]]  # newest first
    assert batch["real"].all()
    assert batch["target"].tolist() == [2, 3]
    assert not batch["blocked"].any()
    dropped = objective.collate(replace(corpus, drop_seen=True), rows, np.random.default_rng(0))
    assert dropped["blocked"].tolist() == [[True, True, False, False]] * 2


def test_masked_words_hide_words_alone() -> None:
    corpus = corpus_of([[0, 1, 2, 3]], 5)
    objective = MaskedWords(share=0.5)
    rows = objective.examples(corpus, np.random.default_rng(0))
    assert rows.ravel().tolist() == [0, 1, 2, 3]  # item 4 has no event before the cut
    batch = objective.collate(corpus, np.repeat(rows, 500, axis=0), np.random.default_rng(1))
    wanted = batch["labels"] != IGNORED
    assert set(np.flatnonzero(wanted.any(axis=0))) == {1}  # never [CLS] or [SEP]
    assert wanted[:, 1].mean() == pytest.approx(0.5, abs=0.05)
    assert (batch["labels"][:, 1][wanted[:, 1]] == FIRST + np.repeat(rows.ravel(), 500)[wanted[:, 1]]).all()
    assert (batch["input_ids"][:, 1][wanted[:, 1]] == MASK).mean() == pytest.approx(0.8, abs=0.05)
    assert (batch["input_ids"][:, 1][~wanted[:, 1]] == FIRST + np.repeat(rows.ravel(), 500)[~wanted[:, 1]]).all()


def test_the_teacher_finds_alike_what_users_have_together() -> None:
    histories = [[0, 1]] * 6 + [[2, 3]] * 6
    corpus = corpus_of(histories, 5)
    objective = Distillation(width=3)
    rows = objective.examples(corpus, np.random.default_rng(0))
    assert rows.ravel().tolist() == [0, 1, 2, 3]
    teacher = objective.collate(corpus, rows, np.random.default_rng(0))["teacher"]
    likeness = np.abs(teacher @ teacher.T)
    assert likeness[0, 1] > 0.99
    assert likeness[2, 3] > 0.99
    assert likeness[:2, 2:].max() < 0.1


@pytest.mark.parametrize(
    ("objective", "histories", "changes", "said"),
    [
        (Pairs(), [[0], [1]], {}, "no user has two different items within 2 events"),
        (NextItem(), [[0], [1]], {}, "no user has an event before a target event"),
        (Distillation(), [[0, 1]], {}, "0 items have 5 events or more before the cut"),
        (MaskedWords(), [[0]], {"mask": None}, "has no mask token"),
    ],
)
def test_too_little_to_learn_from(objective: Any, histories: Any, changes: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        objective.examples(corpus_of(histories, 3, **changes), np.random.default_rng(0))


def test_a_teacher_must_be_item_to_item() -> None:
    corpus = corpus_of([[0, 1]] * 6, 3)
    objective = Distillation(teacher="popularity")
    with pytest.raises(ConfigError, match="'popularity' is no item-to-item retriever"):
        objective.collate(corpus, np.array([[0], [1]]), np.random.default_rng(0))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("objective", [Pairs(distance=1), NextItem(), Distillation(width=7), MaskedWords()])
def test_the_loss_falls_and_reaches_every_layer(objective: Any, bert: Path) -> None:
    """Each even item is always followed by the next odd one: words of their own, so only behaviour can tell."""
    histories = [[2 * row, 2 * row + 1] for row in range(8) for _ in range(6)]
    corpus = corpus_of(histories, 16)
    torch.manual_seed(0)
    encoder = load_pooled(bert, "mean").train()
    loss = objective.loss(corpus, encoder)
    rng = np.random.default_rng(0)
    rows = objective.examples(corpus, rng)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=3e-3)
    values = []
    for _ in range(30):
        batch = objective.collate(corpus, rng.permutation(rows)[:32], rng)
        optimizer.zero_grad()
        value = loss(**{name: torch.from_numpy(array) for name, array in batch.items()})["loss"]
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:3])
    named = encoder.transformer.named_parameters()
    assert not [name for name, one in named if "pooler" not in name and one.grad is None]


def test_the_family_lists_its_members() -> None:
    assert set(OBJECTIVES) == {"distillation", "masked_words", "next_item", "pairs"}
