"""The item-to-item statistics against plain loops and closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
from answers import expected_scores, grid, keep_best
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
    lists_of,
    log_of,
    logs,
    queries,
    rows_of,
    shop_state,
    state_of,
    weights_of,
)

from benchmarks.speed import synthetic
from recsys.errors import ConfigError
from recsys.retrieval import similarity, slit, text_covisitation
from recsys.retrieval.covisitation import Covisitation
from recsys.retrieval.ease import Ease
from recsys.retrieval.item_knn import ItemKNN
from recsys.retrieval.lexical import Lexical
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.slit import Slit
from recsys.retrieval.text_covisitation import TextCovisitation

quick = settings(max_examples=20, deadline=None)


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
    found = fitted.matrix.toarray()
    np.testing.assert_allclose(np.sort(found), np.sort(keep_best(matrix, keep)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[found > 0], matrix[found > 0], rtol=1e-5)
    if keep == 500:
        expected = expected_scores(matrix, histories, 0.8, 30)
        np.testing.assert_allclose(grid(fitted.ask(histories), len(histories), N_ITEMS), expected, rtol=1e-4, atol=1e-6)


def test_text_covisitation_is_the_product_through_the_nearest():
    state = shop_state()
    cosine = state.vectors @ state.vectors.T
    weight = np.where(cosine >= 0.1, np.exp(5.0 * (cosine - 1)), 0)
    counts = Covisitation().fit(state).matrix.toarray()
    expected = weight @ counts @ weight.T
    np.fill_diagonal(expected, 0)
    found = TextCovisitation(alike=12, least=0.1).fit(state).matrix.toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_an_item_that_nobody_had_inherits_from_the_one_it_is_like():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 2, 1]]  # item 3 is new, and its text is that of item 1
    state = state_of(log_of([(user, item, item * DAY) for user in range(5) for item in (0, 1)]), 4, None, vectors)
    assert 3 not in lists_of(Covisitation().fit(state).ask(asks([[0]])).top(4))[0]
    assert set(lists_of(TextCovisitation(alike=2).fit(state).ask(asks([[0]])).top(4))[0]) == {1, 3}


def test_text_neighbours_of_a_large_catalogue_are_nearly_all_found(monkeypatch):
    vectors = synthetic.vectors(2_000, dimensions=16)
    exact = text_covisitation.text_neighbours(vectors, 10, 5.0, 0.3)
    monkeypatch.setattr(text_covisitation, "MAX_EXACT_ITEMS", 1_000)
    found = text_covisitation.text_neighbours(vectors, 10, 5.0, 0.3)
    assert found.multiply(exact > 0).nnz > 0.9 * exact.nnz
    both = found.multiply(exact > 0) - exact.multiply(found > 0)
    assert abs(both).max() < 1e-5


def test_lexical_is_the_cosine_of_rare_words():
    titles = ["Acme red soap", "ACME red balm", "other soap", "red", "", "薰衣草香皂", "玫瑰香皂"]
    state = state_of(log_of([(0, 0, 0)]), 7, title=titles, brand=[None, None, "Acme", None, None, None, None])
    found = Lexical().fit(state).matrix.toarray()
    words = [{"acme", "red", "soap"}, {"acme", "red", "balm"}, {"other", "soap", "acme"}, {"red"}, {"i4"},
             {"薰衣", "衣草", "草香", "香皂"}, {"玫瑰", "瑰香", "香皂"}]  # fmt: skip
    rarity = {word: math.log(8 / (1 + sum(word in own for own in words))) + 1 for own in words for word in own}
    for i, one in enumerate(words):
        for j, other in enumerate(words):
            norm = math.prod(math.sqrt(sum(rarity[word] ** 2 for word in own)) for own in (one, other))
            expected = 0 if i == j else sum(rarity[word] ** 2 for word in one & other) / norm
            assert found[i, j] == pytest.approx(expected, abs=1e-5), (i, j)
    assert not Lexical(most_items=1).fit(state_of(log_of([(0, 0, 0)]), 3, title=["a b"] * 3)).matrix.nnz


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
    expected = expected_scores(matrix, histories, 1.0, 5)
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
    np.testing.assert_allclose(fitted.matrix.toarray(), np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


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
    found = retriever.fit(state_of(log, N_ITEMS)).matrix.toarray()
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["covisitation", "item_knn", "ease", "slit"])
def test_only_the_greatest_values_are_kept(name):
    state = shop_state(n_users=80)
    whole = RETRIEVERS[name]().fit(state).matrix.toarray()
    cut = RETRIEVERS[name](neighbours=3).fit(state).matrix.toarray()
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
            small = kind().fit(state_of(bare, 12)).matrix.toarray()
            large = kind().fit(state_of(filler, 1100)).matrix.tocsr()
        np.testing.assert_allclose(large[places][:, places].toarray(), small, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [Covisitation, TextCovisitation, Lexical, ItemKNN, Slit])
def test_statistics_made_of_many_parts_are_the_same(kind, monkeypatch):
    """What is made of a few rows, or of a few baskets, at a time adds up to what is made at once."""
    state = shop_state(n_users=80)
    whole = kind().fit(state).matrix.toarray()
    monkeypatch.setattr(similarity, "BLOCK_WORK", 7)
    monkeypatch.setattr(slit, "BASKETS_PER_BLOCK", 7)
    monkeypatch.setattr(slit, "MIN_ZEROS", 10**9)
    np.testing.assert_allclose(kind().fit(state).matrix.toarray(), whole, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["covisitation", "text_covisitation", "lexical", "item_knn", "ease", "slit"])
@quick
@given(queries(12))
def test_the_strongest_support_is_the_greatest_weight_times_value(name, histories):
    fitted = RETRIEVERS[name]().fit(shop_state())
    matrix = fitted.matrix.toarray()
    owner, item = np.repeat(np.arange(len(histories)), 12), np.tile(np.arange(12, dtype=np.int32), len(histories))
    expected = np.zeros((len(histories), 12, 12))  # query, item, item of the history
    for query, past, weight in weights_of(histories, fitted.decay, fitted.newest):
        expected[query, :, past] = np.maximum(expected[query, :, past], weight * matrix[past])
    expected[:, np.arange(12), np.arange(12)] = 0
    strongest = fitted.strongest_support(histories, owner, item).reshape(-1, 12)
    for (query, wanted), past in np.ndenumerate(strongest):
        found = expected[query, wanted]
        assert found[past] == pytest.approx(found.max(), rel=1e-5) if past >= 0 else found.max() == 0


@quick
@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 3.0]), min_size=7, max_size=7)), st.integers(1, 5))
def test_top_k_of_a_row_are_its_greatest_values_and_the_first_of_equals(rows, k):
    matrix = sparse.csr_matrix(np.array(rows, np.float32).reshape(-1, 7))
    expected = np.zeros(matrix.shape, np.float32)
    for number, row in enumerate(rows):
        for place in sorted(range(7), key=lambda place: -row[place])[:k]:
            expected[number, place] = max(row[place], 0)
    found = similarity.keep_top_k(matrix, k)
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.has_sorted_indices
    assert (found.data > 0).all()


@pytest.mark.parametrize("name", ["ease", "slit"])
def test_a_penalty_that_is_too_small_is_a_config_error(name):
    state = state_of(log_of([(user, item, item) for user in range(3) for item in (0, 1)]), N_ITEMS)
    with pytest.raises(ConfigError, match=r"penalty -50\.0 is too small: the item counts cannot be inverted; try 100"):
        RETRIEVERS[name](penalty=-50.0).fit(state)
