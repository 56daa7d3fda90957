"""What every retriever must do, from `fit` to `carry_over`: a member that lacks something fails here."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import replace

import numpy as np
import pytest
from answers import check_answer, grid
from worlds import DAY, asks, lists_of, log_of, random_vectors, shop_state, state_of

from recsys.array_checks import ArrayChecks
from recsys.errors import ArtifactError
from recsys.retrieval.base import Answer, Fitted, Retriever
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.index import Index
from recsys.retrieval.index_spec import IndexSpec
from recsys.types import Catalog, Histories, State

N_OLD, N_ALL = 12, 15  # items that have events, and with those that joined later
HISTORIES = [[0, 1, 2], [], [5], [3, 3, 4], [11, 7]]


def old_and_new() -> tuple[State, State]:
    """A small shop, and the same with three items more that nobody had."""
    shop = shop_state()
    columns = {key: [*shop.catalog.frame[key], *shop.catalog.frame[key].head(3)] for key in ("category", "brand")}
    titles = [f"soap {n % 4} {'red' if n % 3 else 'blue'}" for n in range(N_ALL)]
    new = state_of(shop.interactions, N_ALL, shop.as_of, random_vectors(N_ALL, seed=5), title=titles, **columns)
    return State(Catalog(new.catalog.frame.head(N_OLD)), new.interactions, new.vectors[:N_OLD], new.as_of), new


def check_settings(member: type[Retriever]) -> None:
    """A frozen dataclass with a name, a docstring, and a default for each setting."""
    assert issubclass(member, Retriever)
    assert not inspect.isabstract(member), f"{member.__name__} lacks {set(member.__abstractmethods__)}"
    assert member.name
    assert member.name == member.name.lower()
    assert member.__doc__
    retriever = member()
    with pytest.raises(dataclasses.FrozenInstanceError):
        retriever.depth = 1  # type: ignore[misc]
    assert replace(retriever, depth=3).depth == 3
    assert hash(retriever) == hash(member()), "a run keeps fits by their settings"
    assert isinstance(retriever.refit_per_cut, bool)
    assert retriever.needs_user_text is None, "the defaults work without encoded behaviour"
    assert retriever.topic is None or retriever.topic


def check_lifecycle(retriever: Retriever) -> None:
    """Fit, ask, store, check, restore, grow, carry over: answers are sound at every step, and equal where they must."""
    old, new = old_and_new()
    histories = asks(HISTORIES)
    fitted = retriever.fit(old)
    assert isinstance(fitted, Fitted)
    check_answer(fitted.ask(histories), len(histories), N_OLD, 5)
    check_filtered(fitted.ask(histories), len(histories), N_OLD)
    check_support(fitted, histories)
    check_index(retriever, fitted, old, histories)
    arrays = _read_only(fitted.arrays())
    retriever.check_arrays(checks_of(arrays, N_OLD))
    check_damage(retriever, arrays)
    _same(fitted, retriever.restore(arrays, _read_only({"": old.vectors})[""]), histories, N_OLD)
    grown = _read_only(retriever.grow(arrays, new))
    retriever.check_arrays(checks_of(grown, N_ALL))
    larger = retriever.restore(grown, new.vectors)
    check_answer(larger.ask(histories), len(histories), N_ALL, 5)
    old_pairs = grid(larger.ask(histories), len(histories), N_ALL)[:, :N_OLD]
    np.testing.assert_allclose(old_pairs, grid(fitted.ask(histories), len(histories), N_OLD), rtol=1e-5, atol=1e-6)
    check_carried_over(retriever, arrays, old, new)


def check_filtered(answer: Answer, n_lists: int, n_items: int) -> None:
    """Under a filter, `top` is the best of what `score` says of the allowed items; spare items come on top."""
    mask = np.arange(n_items) % 3 > 0
    allowed = ItemFilter.of(mask, np.arange(n_items, dtype=np.int32)[::-1].copy())
    scores, hits = grid(answer, n_lists, n_items), answer.top(3, allowed, spare=1)
    for query, items in enumerate(lists_of(hits)):
        assert len(items) <= 4
        assert mask[items].all()
        worst = scores[query, items].min() if len(items) == 4 else 0
        left = np.setdiff1d(np.flatnonzero(mask), items)
        assert not (scores[query, left] > worst + 1e-5).any()


def check_support(fitted: Fitted, histories: Histories) -> None:
    """What supports an item is another item of the query's own history, or nothing."""
    n_items = N_OLD
    owner = np.repeat(np.arange(len(histories)), n_items)
    item = np.tile(np.arange(n_items, dtype=np.int32), len(histories))
    strongest = fitted.strongest_support(histories, owner, item)
    assert strongest.shape == owner.shape
    for query, wanted, past in zip(owner, item, strongest, strict=True):
        assert past == -1 or (past in HISTORIES[query] and past != wanted)


def check_index(retriever: Retriever, fitted: Fitted, state: State, histories: Histories) -> None:
    """An index is one of FAISS over as many items; with an exact one in its place, answers are the exact ones."""
    exact = fitted.with_exact_index()
    if fitted.index is None:
        assert fitted.text_index is None
        assert exact is fitted
    else:
        assert isinstance(fitted.index, Index)
        assert len(fitted.index.vectors) == len(state.catalog)
        assert exact.index is not None
        assert exact.index.exact
    check_answer(exact.ask(histories), len(histories), len(state.catalog), 5)
    np.testing.assert_array_equal(
        *(grid(f.ask(histories), len(histories), len(state.catalog)) for f in (fitted, exact))
    )
    if fitted.text_index is not None:
        rows, _ = fitted.text_index.search(state.vectors, 1)
        assert rows[:, 0].tolist() == list(range(len(state.catalog)))
    spec = retriever.index_spec(state)
    if spec is not None:
        assert isinstance(spec, IndexSpec)
        assert fitted.index is not None
        assert spec.build().factory == fitted.index.factory


def check_damage(retriever: Retriever, arrays: dict[str, np.ndarray]) -> None:
    """An array that has a value for each item, or a place in a list of them, is refused when one is missing."""
    for key, array in arrays.items():
        if len(array) in (N_OLD, N_OLD + 1):
            shorter = {**arrays, key: array[:-1]}
            with pytest.raises(ArtifactError, match=rf"^retrievers/own/{key} is \w+ \({len(array) - 1},"):
                retriever.check_arrays(checks_of(shorter, N_OLD))


def check_carried_over(retriever: Retriever, arrays: dict[str, np.ndarray], old: State, new: State) -> None:
    """Carried over to the same tables nothing changes; to others, every item is scored as soundly as after a fit."""
    histories = asks(HISTORIES)
    same = retriever.carry_over(arrays, old.vectors, old, np.arange(N_OLD))
    _same(retriever.restore(arrays, old.vectors), same, histories, N_OLD)
    old_row = np.concatenate([np.arange(2, N_OLD), np.full(3, -1)])  # items 0 and 1 are gone, three are new
    events = old.interactions.take(old.interactions.item >= 2)
    state = State(
        Catalog(new.catalog.frame[2:]), replace(events, item=events.item - np.int32(2)), new.vectors[2:], new.as_of
    )
    carried = retriever.carry_over(arrays, old.vectors, state, old_row)
    check_answer(carried.ask(histories), len(histories), N_ALL - 2, 5)
    retriever.check_arrays(checks_of(carried.arrays(), N_ALL - 2))


def check_ends(member: type[Retriever]) -> None:
    """One user and one item; no events at all for most items; no queries; empty histories."""
    single = member().fit(state_of(log_of([(0, 0, 0)]), 1))
    check_answer(single.ask(asks([[0], []])), 2, 1, 10)
    few = member().fit(state_of(log_of([(0, 0, 0), (0, 1, DAY), (1, 1, 0), (1, 0, DAY)]), 9))
    check_answer(few.ask(asks([[0], [8], [0, 8]])), 3, 9, 9)
    assert few.ask(asks([])).top(5).offsets.tolist() == [0]
    check_answer(few.ask(asks([[], []])), 2, 9, 5)


def checks_of(arrays: dict[str, np.ndarray], n_items: int) -> ArrayChecks:
    """The checks on arrays as if a bundle held them under `retrievers/own`."""
    extents = {key: (array.min(), array.max()) if array.size else (0, 0) for key, array in arrays.items()}
    whole = {f"retrievers/own/{key}": array for key, array in arrays.items()}
    spans = {f"retrievers/own/{key}": extent for key, extent in extents.items()}
    return ArrayChecks(whole, spans, n_items).within("retrievers/own/")


def _same(one: Fitted, other: Fitted, histories: Histories, n_items: int) -> None:
    first, second = one.ask(histories), other.ask(histories)
    for k in (1, 4, 50):
        for key in ("offsets", "item", "score"):
            assert getattr(first.top(k), key).tobytes() == getattr(second.top(k), key).tobytes()
    assert grid(first, len(histories), n_items).tobytes() == grid(second, len(histories), n_items).tobytes()


def _read_only(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies that nobody can write to, as a bundle maps them."""
    copies = {key: np.array(array) for key, array in arrays.items()}
    for array in copies.values():
        array.setflags(write=False)
    return copies
