"""One contract for every retriever on a world whose right answer is provable, and exact oracles in plain Python."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from threadpoolctl import threadpool_limits
from worlds import (
    DAY,
    N_ITEMS,
    N_USERS,
    asks,
    baskets_of,
    checkerboard,
    lists_of,
    log_of,
    logs,
    queries,
    random_vectors,
    rows_of,
    shop_state,
    state_of,
    weights_of,
)

from benchmarks.speed import synthetic
from recsys.arrays import unit_rows
from recsys.retrieval import similarity, tower_network
from recsys.retrieval.item_to_item import Covisitation, Ease, ItemKNN, Lexical, Slit, TextCovisitation
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.repeat import Repeat
from recsys.retrieval.semantic import Semantic
from recsys.retrieval.tower import Tower

PERSONAL = [name for name in RETRIEVERS if name != "popularity"]  # which says the same to everyone
TEXTUAL = ["semantic", "tower", "text_covisitation", "lexical"]  # which know items by their texts
LEARNT = [name for name in PERSONAL if name != "repeat"]  # which only knows the query's own items
quick = settings(max_examples=20, deadline=None)
every_retriever = pytest.mark.parametrize("name", RETRIEVERS)


def grid(answer, n_lists, n_items):
    """The score of every pair `(U, I)`."""
    owner, item = np.repeat(np.arange(n_lists), n_items), np.tile(np.arange(n_items, dtype=np.int32), n_lists)
    return answer.score(owner, item).reshape(n_lists, n_items)


def check(answer, n_lists, n_items, k):
    """`top` is the best of what `score` says: sorted, distinct, in range, at most `k`, nothing better left out."""
    hits, scores = answer.top(k), grid(answer, n_lists, n_items)
    assert np.isfinite(scores).all()
    assert scores.dtype == hits.score.dtype == np.float32
    assert hits.offsets[0] == 0
    assert len(hits.offsets) == n_lists + 1
    for user, items in enumerate(lists_of(hits)):
        told = hits.score[hits.offsets[user] : hits.offsets[user + 1]]
        assert len(items) == len(set(items)) <= k
        assert all(0 <= item < n_items for item in items)
        assert (np.diff(told) <= 0).all()
        np.testing.assert_allclose(told, scores[user, items], rtol=1e-5, atol=1e-6)
        left = np.delete(scores[user], items)
        worst = told[-1] if len(items) == k else 0
        assert not (left > worst + 1e-5).any(), "nothing with more evidence is left out"
    return hits


# The contract


@pytest.mark.parametrize("name", PERSONAL)
def test_every_recommendation_has_the_askers_colour(name):
    world = checkerboard()
    answer = RETRIEVERS[name]().fit(world.state).ask(world.histories)
    hits = check(answer, 24, 12, 5)
    for user, items in enumerate(lists_of(hits)):
        assert items, "the world answers everyone"
        assert {item % 2 for item in items} == {user % 2}
    if name in LEARNT:
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
    check(RETRIEVERS[name]().fit(state).ask(histories), len(histories), N_ITEMS, k)


@every_retriever
def test_restore_gives_identical_answers_from_arrays_it_cannot_change(name):
    state, retriever = shop_state(), RETRIEVERS[name]()
    histories = asks([[0, 1, 2], [], [5], [3, 3, 4]])
    fitted = retriever.fit(state)
    arrays = {key: array.copy() for key, array in fitted.arrays().items()}
    vectors = state.vectors.copy()
    for array in (*arrays.values(), vectors):
        array.setflags(write=False)  # as a bundle maps them
    one, other = fitted.ask(histories), retriever.restore(arrays, vectors).ask(histories)
    for k in (1, 4, 50):
        for key in ("offsets", "item", "score"):
            assert getattr(one.top(k), key).tobytes() == getattr(other.top(k), key).tobytes()
    assert grid(one, 4, 12).tobytes() == grid(other, 4, 12).tobytes()


@every_retriever
def test_a_batch_says_what_one_asker_at_a_time_is_told(name):
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

    def told(histories):
        answer = fitted.ask(histories)
        hits = answer.top(6)
        return hits.item.tobytes(), hits.score.tobytes(), grid(answer, 2, 12).tobytes()

    serial = [told(histories) for histories in batches]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(told, batches)) == serial
    assert before == {key: array.tobytes() for key, array in (fitted.arrays() | {"vectors": state.vectors}).items()}


@every_retriever
def test_askers_without_history_and_no_askers_at_all(name):
    fitted = RETRIEVERS[name]().fit(shop_state())
    nobody, empty = fitted.ask(asks([])), fitted.ask(asks([[], []]))
    assert nobody.top(5).offsets.tolist() == [0]
    check(empty, 2, 12, 5)
    if name in PERSONAL:
        assert empty.top(5).offsets.tolist() == [0, 0, 0]
        assert not grid(empty, 2, 12).any()


@every_retriever
def test_one_user_one_item(name):
    state = state_of(log_of([(0, 0, 0)]), 1)
    answer = RETRIEVERS[name]().fit(state).ask(asks([[0], []]))
    for items in lists_of(check(answer, 2, 1, 10)):
        assert items in ([0], [])


@every_retriever
def test_items_that_nobody_touched_do_no_harm(name):
    state = state_of(log_of([(0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1)]), 9)
    answer = RETRIEVERS[name]().fit(state).ask(asks([[0], [8], [0, 8]]))
    hits = check(answer, 3, 9, 9)
    if name not in (*TEXTUAL, "repeat"):
        assert set(hits.item.tolist()) <= {0, 1}, "logs alone say nothing of items without events"


# Exact oracles


def asked_grid(matrix, histories, decay, newest):
    """What the newest events sum to, each speaking with its row of the matrix."""
    expected = np.zeros((len(histories), matrix.shape[1]))
    for user, item, weight in weights_of(histories, decay, newest):
        expected[user] += weight * matrix[item]
    return expected


def keep_best(matrix, keep):
    kept = np.zeros_like(matrix)
    for row, values in enumerate(matrix):
        best = [j for j in np.argsort(-values, kind="stable")[:keep] if values[j] > 0]
        kept[row, best] = values[best]
    return kept


@quick
@given(queries(), st.sampled_from([0.3, 1.0]), st.integers(1, 6), st.integers(1, N_ITEMS))
def test_semantic_is_brute_force(histories, decay, newest, k):
    vectors = random_vectors(N_ITEMS, 4)
    state = state_of(log_of([(0, 0, 0)]), N_ITEMS, vectors=vectors)
    answer = Semantic(decay=decay, newest=newest).fit(state).ask(histories)
    query = asked_grid(vectors, histories, decay, newest)
    expected = unit_rows(query) @ vectors.T
    np.testing.assert_allclose(grid(answer, len(histories), N_ITEMS), expected, atol=1e-5)
    hits = answer.top(k)
    for user, items in enumerate(lists_of(hits)):
        assert len(items) == (k if query[user].any() else 0)
        best = np.sort(expected[user])[::-1][: len(items)]
        np.testing.assert_allclose(hits.score[hits.offsets[user] : hits.offsets[user + 1]], best, atol=1e-5)


def test_semantic_asks_with_the_behaviour_text_where_there_is_one():
    vectors = np.eye(4, dtype=np.float32)
    text = np.array([[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    state = state_of(log_of([(0, 0, 0)]), 4, vectors=vectors)
    histories = asks([[0], [1], []], text=text)
    by_text = Semantic(query="text").fit(state)
    assert [items[0] for items in lists_of(by_text.ask(histories).top(1))] == [2, 1, 3]
    assert lists_of(by_text.ask(replace(histories, text_vectors=None)).top(1)) == [[0], [1], []]
    assert lists_of(Semantic().fit(state).ask(histories).top(1)) == [[0], [1], []]


def test_a_retriever_of_no_depth_only_scores():
    world = checkerboard()
    full, scoring = Semantic().fit(world.state), Semantic(depth=0).fit(world.state)
    assert scoring.index is None
    assert scoring.ask(world.histories).top(5).offsets.tolist() == [0] * 25
    np.testing.assert_array_equal(*(grid(one.ask(world.histories), 24, 12) for one in (full, scoring)))


@quick
@given(logs(last=4), queries(), st.integers(1, 4), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([1, 2, 500]))
def test_covisitation_is_a_double_loop_over_baskets(log, histories, window, backward, keep):
    matrix, count = np.zeros((N_ITEMS, N_ITEMS)), np.zeros(N_ITEMS)
    for baskets in baskets_of(log):
        for a, one in enumerate(baskets):
            for item in one:
                count[item] += 1
            for b, other in enumerate(baskets):
                gap = b - a
                if abs(gap) > window:
                    continue
                worth = 1 if gap == 0 else 1 / gap if gap > 0 else backward / -gap
                for i in one:
                    for j in other - {i}:
                        matrix[i, j] += worth
    matrix /= np.sqrt(np.outer(count + 1, count + 1))
    fitted = Covisitation(window=window, backward=backward, neighbours=keep).fit(state_of(log, N_ITEMS))
    found = fitted.neighbours.toarray()
    np.testing.assert_allclose(np.sort(found), np.sort(keep_best(matrix, keep)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[found > 0], matrix[found > 0], rtol=1e-5)
    if keep == 500:
        expected = asked_grid(matrix, histories, 0.8, 30)
        np.testing.assert_allclose(grid(fitted.ask(histories), len(histories), N_ITEMS), expected, rtol=1e-4, atol=1e-6)


def test_text_covisitation_is_the_product_through_the_nearest():
    state = shop_state()
    cosine = state.vectors @ state.vectors.T
    weight = np.where(cosine >= 0.1, np.exp(5.0 * (cosine - 1)), 0)
    counts = Covisitation().fit(state).neighbours.toarray()
    expected = weight @ counts @ weight.T
    np.fill_diagonal(expected, 0)
    found = TextCovisitation(alike=12, least=0.1).fit(state).neighbours.toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_an_item_that_nobody_had_inherits_from_the_one_it_is_like():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 2, 1]]  # item 3 is new, and its text is that of item 1
    state = state_of(log_of([(user, item, item * DAY) for user in range(5) for item in (0, 1)]), 4, None, vectors)
    assert 3 not in lists_of(Covisitation().fit(state).ask(asks([[0]])).top(4))[0]
    assert set(lists_of(TextCovisitation(alike=2).fit(state).ask(asks([[0]])).top(4))[0]) == {1, 3}


def test_lexical_is_the_cosine_of_rare_words():
    titles = ["Acme red soap", "ACME red balm", "other soap", "red", "", "薰衣草香皂", "玫瑰香皂"]
    state = state_of(log_of([(0, 0, 0)]), 7, title=titles, brand=[None, None, "Acme", None, None, None, None])
    found = Lexical().fit(state).neighbours.toarray()
    words = [{"acme", "red", "soap"}, {"acme", "red", "balm"}, {"other", "soap", "acme"}, {"red"}, {"i4"},
             {"薰衣", "衣草", "草香", "香皂"}, {"玫瑰", "瑰香", "香皂"}]  # fmt: skip
    rarity = {word: math.log(8 / (1 + sum(word in own for own in words))) + 1 for own in words for word in own}
    for i, one in enumerate(words):
        for j, other in enumerate(words):
            norm = math.prod(math.sqrt(sum(rarity[word] ** 2 for word in own)) for own in (one, other))
            expected = 0 if i == j else sum(rarity[word] ** 2 for word in one & other) / norm
            assert found[i, j] == pytest.approx(expected, abs=1e-5), (i, j)
    assert not Lexical(most_items=1).fit(state_of(log_of([(0, 0, 0)]), 3, title=["a b"] * 3)).neighbours.nnz


@quick
@given(logs(), st.integers(1, 6))
def test_windows_of_the_tower_foretell_every_event_but_the_first_once(log, length):
    first, ends = tower_network.windows(log, length)
    assert (ends - first <= length + 1).all()
    assert (log.user[first] == log.user[ends - 1]).all()
    measure_on_test = sorted(row for start, end in zip(first, ends, strict=True) for row in range(start + 1, end))
    assert measure_on_test == [row for row in range(len(log)) if row not in log.offsets]


def test_the_tower_asks_what_its_net_says():
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    net = tower_network._net(random_vectors(N_ITEMS), 8, 5, 0.5).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    weights = tower_network._arrays(net, np.arange(N_ITEMS))
    histories = asks([[0, 1, 2, 3, 4, 5, 0], [2], [], [5, 5]])
    found = tower_network.queries(weights, histories) @ weights["items"].T
    everything = torch.arange(N_ITEMS)
    for user, items in enumerate([[2, 3, 4, 5, 0], [2], None, [5, 5]]):
        if items is None:
            assert not found[user].any()
            continue
        with torch.inference_mode():
            told = (net(torch.tensor([items]))[0, -1] @ net.rows(everything).T + net.bias).numpy()
        np.testing.assert_allclose(found[user], told - told.mean(), rtol=1e-4, atol=1e-5)


def test_the_tower_learns_what_follows_what_and_twice_the_same():
    rng = np.random.default_rng(0)
    starts = rng.integers(N_ITEMS, size=80)
    rows = [(user, (start + step) % N_ITEMS, step * DAY) for user, start in enumerate(starts) for step in range(8)]
    state = state_of(log_of(rows), N_ITEMS)
    fitted, again = (Tower(dropout=0.1, epochs=100).fit(state) for _ in range(2))
    told = lists_of(fitted.ask(asks([[(i - 1) % N_ITEMS, i] for i in range(N_ITEMS)])).top(1))
    assert told == [[(i + 1) % N_ITEMS] for i in range(N_ITEMS)]
    assert all(array.tobytes() == again.arrays()[name].tobytes() for name, array in fitted.arrays().items())


def test_the_tower_foretells_targets_only():
    log = log_of([(user, item, item * DAY) for user in range(30) for item in (0, 1, 2)])
    only = replace(log, target=log.item == 2)
    told = Tower(epochs=100).fit(state_of(only, 3)).ask(asks([[0]])).top(3)
    assert lists_of(told)[0][0] == 2
    assert lists_of(Tower(epochs=100).fit(state_of(log, 3)).ask(asks([[0]])).top(3))[0][0] == 1


@quick
@given(logs(), queries(), st.sampled_from([0.0, 10.0]))
def test_item_knn_is_the_cosine_of_user_sets(log, histories, shrink):
    users = [{row[0] for row in rows_of(log) if row[1] == item} for item in range(N_ITEMS)]
    matrix = np.zeros((N_ITEMS, N_ITEMS))
    for i, one in enumerate(users):
        for j, other in enumerate(users):
            if one & other:
                matrix[i, j] = len(one & other) / (np.sqrt(len(one) * len(other)) + shrink)
    answer = ItemKNN(shrink=shrink, newest=5).fit(state_of(log, N_ITEMS)).ask(histories)
    expected = asked_grid(matrix, histories, 1.0, 5)
    np.testing.assert_allclose(grid(answer, len(histories), N_ITEMS), expected, rtol=1e-4, atol=1e-6)


@quick
@given(logs(), st.sampled_from([1.0, 100.0]), st.integers(1, N_ITEMS))
def test_ease_is_the_closed_form(log, penalty, max_items):
    count = np.bincount(log.item, minlength=N_ITEMS)
    chosen = sorted(item for item in np.argsort(-count, kind="stable")[:max_items] if count[item])
    users = np.zeros((N_USERS, N_ITEMS))
    users[log.user, log.item] = 1
    users = users[:, chosen]
    inverse = np.linalg.inv(users.T @ users + penalty * np.eye(len(chosen)))
    expected = np.zeros((N_ITEMS, N_ITEMS))
    expected[np.ix_(chosen, chosen)] = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    fitted = Ease(penalty=penalty, max_items=max_items).fit(state_of(log, N_ITEMS))
    np.testing.assert_allclose(fitted.neighbours.toarray(), np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


@quick
@given(logs(last=5), st.sampled_from([1.0, 20.0]), st.integers(1, 3), st.integers(1, 4), st.integers(1, N_ITEMS))
def test_slit_is_the_ridge_from_the_past_to_the_next(log, penalty, ahead, span, max_items):
    count = np.bincount(log.item, minlength=N_ITEMS)
    chosen = sorted(item for item in np.argsort(-count, kind="stable")[:max_items] if count[item])
    past, coming, expected = [], [], np.zeros((N_ITEMS, N_ITEMS))
    for baskets in baskets_of(log):
        rows = np.array([[item in one for item in chosen] for one in baskets], float)
        for now in range(len(baskets)):
            past.append(sum(0.5**gap * rows[now - gap] for gap in range(min(span, now + 1))))
            later = rows[now + 1 : now + 1 + ahead]
            coming.append(sum((0.7**gap * row for gap, row in enumerate(later)), np.zeros(len(chosen))))
    source, target = np.array(past), np.array(coming)
    solved = np.linalg.solve(source.T @ source + penalty * np.eye(len(chosen)), source.T @ target)
    expected[np.ix_(chosen, chosen)] = solved
    retriever = Slit(penalty=penalty, ahead=ahead, span=span, max_items=max_items)
    found = retriever.fit(state_of(log, N_ITEMS)).neighbours.toarray()
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["covisitation", "item_knn", "ease", "slit"])
def test_only_the_strongest_neighbours_are_kept(name):
    state = shop_state(n_users=80)
    whole = RETRIEVERS[name]().fit(state).neighbours.toarray()
    cut = RETRIEVERS[name](neighbours=3).fit(state).neighbours.toarray()
    np.testing.assert_array_equal(np.sort(cut), np.sort(keep_best(whole, 3)))
    np.testing.assert_array_equal(cut[cut > 0], whole[cut > 0])


def test_statistics_over_more_items_than_a_block_are_the_same():
    """Blocks hold 1024 rows; the same log spread over 1100 items must give the same numbers at new places."""
    state = shop_state()
    places = np.sort(np.random.default_rng(1).choice(1100, 12, replace=False)).astype(np.int32)
    log = replace(state.interactions, item=places[state.interactions.item])
    filler = log_of(rows_of(log) + [(user + 30, user, 0) for user in range(1100)], 1130)
    bare = log_of(rows_of(state.interactions) + [(30 + n, n, 0) for n in range(12)], 1130)
    for kind in (Covisitation, ItemKNN, Ease, Slit):
        with threadpool_limits(1):  # else BLAS threads wait for each other on a busy machine
            small = kind().fit(state_of(bare, 12)).neighbours.toarray()
            large = kind().fit(state_of(filler, 1100)).neighbours.tocsr()
        np.testing.assert_allclose(large[places][:, places].toarray(), small, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [Covisitation, TextCovisitation, Lexical, ItemKNN, Slit])
def test_statistics_made_of_many_parts_are_the_same(kind, monkeypatch):
    """What is made of a few rows, or of a few baskets, at a time adds up to what is made at once."""
    state = shop_state(n_users=80)
    whole = kind().fit(state).neighbours.toarray()
    monkeypatch.setattr(similarity, "_WORK", 7)
    monkeypatch.setattr(similarity, "_DENSE", 10**9)
    np.testing.assert_allclose(kind().fit(state).neighbours.toarray(), whole, rtol=1e-3, atol=1e-5)


@quick
@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 3.0]), min_size=7, max_size=7)), st.integers(1, 5))
def test_the_strongest_of_a_row_are_its_greatest_and_the_first_of_equals(rows, k):
    matrix = sparse.csr_matrix(np.array(rows, np.float32).reshape(-1, 7))
    expected = np.zeros(matrix.shape, np.float32)
    for number, row in enumerate(rows):
        for place in sorted(range(7), key=lambda place: -row[place])[:k]:
            expected[number, place] = max(row[place], 0)
    found = similarity.strongest(matrix, k)
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.has_sorted_indices
    assert (found.data > 0).all()


def test_text_neighbours_of_a_large_catalogue_are_nearly_all_found(monkeypatch):
    vectors = synthetic.vectors(2_000, dimensions=16)
    exact = similarity.text_neighbours(vectors, 10, 5.0, 0.3)
    monkeypatch.setattr(similarity, "_EXACT", 1_000)
    found = similarity.text_neighbours(vectors, 10, 5.0, 0.3)
    assert found.multiply(exact > 0).nnz > 0.9 * exact.nnz
    both = found.multiply(exact > 0) - exact.multiply(found > 0)
    assert abs(both).max() < 1e-5


@pytest.mark.parametrize("name", [name for name in RETRIEVERS if name not in ("tower", "ease", "slit")])
def test_only_what_is_dated_hangs_on_the_moment(name):
    log = shop_state(n_users=80).interactions
    early = log.take(np.arange(len(log)) % 2 == 0)
    fits = [RETRIEVERS[name]().fit(replace(shop_state(), interactions=events)).arrays() for events in (early, log)]
    same = all(np.array_equal(array, fits[1][key]) for key, array in fits[0].items())
    assert same != RETRIEVERS[name].refit_per_cut


def test_the_tower_takes_no_more_steps_than_it_may(monkeypatch, caplog):
    state = state_of(log_of([(user, item, item) for user in range(600) for item in (0, 1)]), N_ITEMS)
    monkeypatch.setattr(tower_network, "MOST_STEPS", 4)  # a pass has three batches
    with caplog.at_level("INFO", logger="recsys"):
        Tower(width=8).fit(state)
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "tower: pass 1 of 2",
        "tower: pass 2 of 2",
    ]


@quick
@given(logs(), queries(), st.sampled_from([None, 2 / DAY]))
def test_popularity_counts_weights_that_halve_with_age(log, histories, half_life):
    count = np.zeros(N_ITEMS)
    for _, item, time, weight, _ in rows_of(log):
        count[item] += weight * (1 if half_life is None else 0.5 ** ((9 - time) / 2))
    answer = Popularity(half_life_days=half_life).fit(state_of(log, N_ITEMS, 9)).ask(histories)
    np.testing.assert_allclose(grid(answer, len(histories), N_ITEMS), np.tile(count, (len(histories), 1)), rtol=1e-5)
    best = [item for item in np.argsort(-np.float32(count), kind="stable") if count[item]]
    assert lists_of(answer.top(3)) == [best[:3]] * len(histories)


@quick
@given(queries(), st.integers(1, 4))
def test_repeat_is_the_decayed_history(histories, newest):
    answer = Repeat(decay=0.5, newest=newest).fit(state_of(log_of([]), N_ITEMS)).ask(histories)
    expected = asked_grid(np.eye(N_ITEMS), histories, 0.5, newest)
    np.testing.assert_allclose(grid(answer, len(histories), N_ITEMS), expected, rtol=1e-5)
