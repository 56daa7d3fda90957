"""One contract for every retriever, on worlds whose right answers are provable."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import retriever_contract as contract
from answers import check_answer, grid
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    DAY,
    N_ITEMS,
    asks,
    checkerboard,
    lists_of,
    log_of,
    logs,
    queries,
    shop_state,
    state_of,
)

from recsys.errors import ArtifactError
from recsys.retrieval import tower_network
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.tower import Tower

PERSONAL = [name for name in RETRIEVERS if name != "popularity"]  # which answers every query alike
TEXTUAL = ["semantic", "tower", "text_covisitation", "lexical"]  # which know items by their texts
GENERAL = [name for name in PERSONAL if name != "repeat"]  # which only knows the query's own items
COUNTED = [name for name in RETRIEVERS if name != "tower"]  # which keeps what it learned in an update
ENOUGH = {"tower": {"epochs": 100}}  # to learn a small world
quick = settings(max_examples=20, deadline=None)
every_retriever = pytest.mark.parametrize("name", RETRIEVERS)


@pytest.fixture(autouse=True, scope="module")
def few_steps(one_torch_thread):
    """Except where a test says so, it does not matter how well the tower learns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tower_network, "MIN_STEPS", 3)
        yield


@every_retriever
def test_settings(name):
    assert RETRIEVERS[name].name == name
    contract.check_settings(RETRIEVERS[name])


@every_retriever
def test_lifecycle(name):
    contract.check_lifecycle(RETRIEVERS[name]())


@every_retriever
def test_a_retriever_of_no_depth_scores_as_one_that_proposes(name):
    old, _ = contract.old_and_new()
    histories, retriever = asks(contract.HISTORIES), RETRIEVERS[name]()
    one, other = retriever.fit(old), replace(retriever, depth=0).fit(old)
    assert other.index is None
    np.testing.assert_array_equal(*(grid(fitted.ask(histories), 5, 12) for fitted in (one, other)))


@pytest.mark.parametrize("name", ["semantic", "tower"])
def test_lifecycle_with_an_approximate_index(name):
    retriever = RETRIEVERS[name](index="IVF3,Flat", floor=1.0)  # which searches all three lists
    contract.check_lifecycle(retriever)
    old, _ = contract.old_and_new()
    fitted = retriever.fit(old)
    assert not fitted.index.exact
    arrays = fitted.arrays()
    with pytest.raises(ArtifactError, match=r"^retrievers/own/index is int32 \(\d+,\), and should be uint8 \(any\)"):
        retriever.check_arrays(contract.checks_of(arrays | {"index": arrays["index"].astype(np.int32)}, 12))


@every_retriever
def test_the_smallest_worlds(name):
    contract.check_ends(RETRIEVERS[name])


@pytest.mark.parametrize("name", COUNTED)
def test_an_update_counts_again(name):
    old, new = contract.old_and_new()
    retriever = RETRIEVERS[name]()
    old_row = np.concatenate([np.arange(12), np.full(3, -1)])
    carried = retriever.carry_over(retriever.fit(old).arrays(), old.vectors, new, old_row).arrays()
    fitted = retriever.fit(new).arrays()
    assert carried.keys() == fitted.keys()
    assert all(np.array_equal(carried[key], fitted[key]) for key in fitted)


def test_an_update_trains_no_tower(monkeypatch):
    old, new = contract.old_and_new()
    retriever = Tower(width=8)
    arrays = retriever.fit(old).arrays()
    monkeypatch.setattr(tower_network, "train", None)
    moved = retriever.carry_over(arrays, old.vectors, new, np.concatenate([np.arange(12), np.full(3, -1)])).arrays()
    np.testing.assert_allclose(moved["items"][:12], arrays["items"], atol=1e-6)
    assert all(np.array_equal(moved[key], arrays[key]) for key in arrays if key != "items")


def test_a_free_text_is_searched_among_text_vectors_only():
    old, _ = contract.old_and_new()
    fitted = {name: member().fit(old) for name, member in RETRIEVERS.items()}
    assert fitted["semantic"].text_index is fitted["semantic"].index is not None
    assert fitted["tower"].index is not None, "which is over learned vectors"
    assert [name for name, one in fitted.items() if one.text_index is not None] == ["semantic"]


def test_members_lie_in_modules_of_their_own():
    assert len({member.__module__ for member in RETRIEVERS.values()}) == len(RETRIEVERS)


def test_topics():
    assert {name: member().topic for name, member in RETRIEVERS.items()} == {
        "repeat": "own",
        "semantic": "text",
        "lexical": "text",
        "popularity": "popular",
        "tower": "follows",
        "covisitation": "follows",
        "text_covisitation": "follows",
        "item_knn": "follows",
        "ease": "follows",
        "slit": "follows",
    }
    assert RETRIEVERS["popularity"](half_life_days=7).topic == "now"


def test_what_needs_encoded_behaviour_says_which_setting():
    assert RETRIEVERS["semantic"](query="text").needs_user_text == "query: 'text'"


@pytest.mark.parametrize("name", PERSONAL)
def test_every_recommendation_has_the_colour_of_the_query(name):
    world = checkerboard()
    answer = RETRIEVERS[name](**ENOUGH.get(name, {})).fit(world.state).ask(world.histories)
    hits = check_answer(answer, 24, 12, 5)
    for user, items in enumerate(lists_of(hits)):
        assert items, "the world answers everyone"
        assert {item % 2 for item in items} == {user % 2}
    if name in GENERAL:
        everything = lists_of(answer.top(6))
        assert all(item in items for item, items in zip(world.left_out, everything, strict=True))


@pytest.mark.parametrize("name", ["covisitation", "slit"])
def test_what_follows_in_the_ring_comes_first(name):
    world = checkerboard()
    answer = RETRIEVERS[name](newest=1).fit(world.state).ask(world.histories)
    assert [items[0] for items in lists_of(answer.top(1))] == world.left_out


@every_retriever
@quick
@given(logs(), queries(), st.integers(1, N_ITEMS + 2))
def test_top_is_the_best_of_what_score_says(name, log, histories, k):
    state = state_of(log, N_ITEMS)
    check_answer(RETRIEVERS[name]().fit(state).ask(histories), len(histories), N_ITEMS, k)


@every_retriever
def test_a_batch_answers_as_one_query_at_a_time_does(name):
    state = shop_state()
    histories = state.interactions.histories(np.arange(30), np.full(30, 60 * DAY), 50)
    fitted = RETRIEVERS[name]().fit(state)
    together = fitted.ask(histories)
    whole, every = lists_of(together.top(5)), grid(together, 30, 12)
    for user in range(30):
        alone = fitted.ask(histories.select(np.array([user])))
        assert lists_of(alone.top(5)) == [whole[user]]
        np.testing.assert_allclose(grid(alone, 1, 12)[0], every[user], rtol=1e-5, atol=1e-6)


@every_retriever
def test_threads_share_one_fitted_retriever(name):
    state = shop_state()
    fitted = RETRIEVERS[name]().fit(state)
    before = {key: array.tobytes() for key, array in (fitted.arrays() | {"vectors": state.vectors}).items()}
    batches = [asks([[user % 12, (user * 5) % 12], [user % 7]]) for user in range(40)]

    def answers(histories):
        answer = fitted.ask(histories)
        hits = answer.top(6)
        return hits.item.tobytes(), hits.score.tobytes(), grid(answer, 2, 12).tobytes()

    serial = [answers(histories) for histories in batches]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answers, batches)) == serial
    assert before == {key: array.tobytes() for key, array in (fitted.arrays() | {"vectors": state.vectors}).items()}


@every_retriever
def test_queries_without_history_and_no_queries_at_all(name):
    fitted = RETRIEVERS[name]().fit(shop_state())
    nobody, empty = fitted.ask(asks([])), fitted.ask(asks([[], []]))
    assert nobody.top(5).offsets.tolist() == [0]
    check_answer(empty, 2, 12, 5)
    if name in PERSONAL:
        assert empty.top(5).offsets.tolist() == [0, 0, 0]
        assert not grid(empty, 2, 12).any()


@every_retriever
def test_items_that_nobody_touched_do_no_harm(name):
    state = state_of(log_of([(0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1)]), 9)
    answer = RETRIEVERS[name]().fit(state).ask(asks([[0], [8], [0, 8]]))
    hits = check_answer(answer, 3, 9, 9)
    if name not in (*TEXTUAL, "repeat"):
        assert set(hits.item.tolist()) <= {0, 1}, "logs alone say nothing of items without events"


@pytest.mark.parametrize("name", [name for name in RETRIEVERS if name not in ("tower", "ease", "slit")])
def test_only_what_is_refitted_at_each_cut_depends_on_events(name):
    log = shop_state(n_users=80).interactions
    early = log.take(np.arange(len(log)) % 2 == 0)
    fits = [RETRIEVERS[name]().fit(replace(shop_state(), interactions=events)).arrays() for events in (early, log)]
    same = all(np.array_equal(array, fits[1][key]) for key, array in fits[0].items())
    assert same != RETRIEVERS[name].refit_per_cut
