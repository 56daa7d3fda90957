"""What is asked of users and items that the bundle does not know: further items, free texts, short histories."""

from __future__ import annotations

import math
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import ROOT, write_shop_config, write_tiny_config
from worlds import DAY, asks, catalog_of, log_of, random_vectors, shop_state, state_of

from recsys import Recommender, train
from recsys.config import Config, load_config
from recsys.embedding.texts import item_texts
from recsys.embedding.transformer import TransformerEncoder
from recsys.embedding.whitening import Whitening
from recsys.engine.embeddings import Embeddings
from recsys.engine.plan import Plan
from recsys.engine.training import SHORTENED, scorer_lists
from recsys.errors import ArtifactError, DataError, RequestError
from recsys.ragged import offsets_of
from recsys.ranking.features import FEATURES
from recsys.ranking.fusion import standard_sum
from recsys.retrieval import tower_network
from recsys.retrieval.registry import RETRIEVERS
from recsys.retrieval.semantic import Semantic
from recsys.retrieval.tower import Tower
from recsys.types import State

OLD, ALL = 12, 15
LEARNT = "tower"  # two fits of it have nothing in common
EMPTY = "text_covisitation"  # knows nothing of a new item until the next update
every_retriever = pytest.mark.parametrize("name", RETRIEVERS)


def first_items(state: State, n: int) -> State:
    """The same interactions, and only the first items of the catalogue."""
    return State(type(state.catalog)(state.catalog.frame.head(n)), state.interactions, state.vectors[:n], state.as_of)


def larger_state() -> State:
    """Twelve items that users had, and three that nobody had."""
    old = shop_state()
    columns = {name: old.catalog.frame[name].to_list() + old.catalog.frame[name].head(3).to_list()
               for name in ("category", "brand", "price")}  # fmt: skip
    titles = [f"soap {n % 4} {'red' if n % 3 else 'blue'}" for n in range(ALL)]
    return state_of(old.interactions, ALL, old.as_of, random_vectors(ALL, seed=5), title=titles, **columns)


def grid(fitted: Any, histories: Any) -> np.ndarray:
    lists = len(histories)
    owner, item = np.repeat(np.arange(lists), ALL), np.tile(np.arange(ALL, dtype=np.int32), lists)
    return fitted.ask(histories).score(owner, item).reshape(lists, ALL)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well a tower learns is no matter here."""
    monkeypatch.setattr(tower_network, "MIN_STEPS", 3)


# Retrievers


@every_retriever
def test_a_grown_retriever_is_one_fitted_on_the_larger_catalogue(name: str) -> None:
    whole = larger_state()
    state, retriever = first_items(whole, OLD), RETRIEVERS[name]()
    arrays = {key: np.array(array) for key, array in retriever.fit(state).arrays().items()}
    for array in arrays.values():
        array.setflags(write=False)
    before = {key: array.tobytes() for key, array in arrays.items()}
    grown = retriever.restore(retriever.grow(arrays, whole), whole.vectors)
    assert before == {key: array.tobytes() for key, array in arrays.items()}

    known = asks([[0, 1, 2], [], [5], [3, 3, 11]])
    owner, item = np.repeat(np.arange(4), OLD), np.tile(np.arange(OLD, dtype=np.int32), 4)
    old = retriever.restore(arrays, state.vectors).ask(known).score(owner, item).reshape(4, OLD)
    found = grid(grown, known)
    np.testing.assert_allclose(found[:, :OLD], old, rtol=1e-5, atol=1e-6, err_msg="old pairs keep their scores")
    with_new = asks([[0, 1, 2], [], [13], [3, 12, 14]])
    told, fresh = grid(grown, with_new), grid(retriever.fit(whole), with_new)
    if name == EMPTY:
        assert not told[:, OLD:].any()
        assert fresh[:, OLD:].any(), "an update knows more"
    elif name != LEARNT:
        np.testing.assert_allclose(told[:, OLD:], fresh[:, OLD:], rtol=1e-5, atol=1e-6)
    hits = grown.ask(with_new).top(ALL)
    if name in ("semantic", "tower", "lexical"):
        assert set(range(OLD, ALL)) & set(hits.item.tolist()), "a text retriever proposes what nobody had yet"


@pytest.mark.parametrize("name", [name for name in RETRIEVERS if name not in ("lexical",)])
def test_to_grow_twice_is_to_grow_once(name: str) -> None:
    """Lexical is left out: how rare a word is hangs on how many items there are."""
    whole, retriever = larger_state(), RETRIEVERS[name]()
    arrays = retriever.fit(first_items(whole, OLD)).arrays()
    once, twice = retriever.grow(arrays, whole), retriever.grow(arrays, first_items(whole, OLD + 1))
    twice = retriever.grow(twice, whole)
    assert once.keys() == twice.keys()
    for key in once:
        np.testing.assert_allclose(once[key], twice[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("index", ["HNSW8", "IVF2,Flat"])
def test_an_approximate_index_grows_and_is_measured_again(index: str) -> None:
    vectors = random_vectors(300, seed=1)
    whole = state_of(log_of([(0, 0, 0)]), 300, vectors=vectors)
    retriever = Semantic(index=index, search="nprobe=2" if "IVF" in index else "efSearch=300")
    arrays = retriever.fit(first_items(whole, 280)).arrays()
    grown = retriever.restore(retriever.grow(arrays, whole), vectors)
    query = Semantic(decay=1).fit(whole).ask(asks([[290]]))
    assert grown.ask(asks([[290]])).top(1).item.tolist() == query.top(1).item.tolist() == [290]
    strict = replace(retriever, floor=1.01)
    with pytest.raises(ArtifactError, match=rf"index '{index}' finds [01]\.\d+ of the true 100 .* floor of 1.01"):
        strict.grow(arrays, whole)


def test_the_tower_knows_of_a_new_item_what_it_knows_of_the_rarest() -> None:
    """Item 5 had no event: a new item of its text has its row, whatever the net made of it."""
    rows = [(user, (user + step) % 5, step) for user in range(20) for step in range(6)]
    vectors = np.concatenate([random_vectors(6), random_vectors(6)[[5, 2]]])
    whole = state_of(log_of(rows), 8, vectors=vectors)
    retriever = Tower(epochs=2, width=8)
    arrays = retriever.fit(first_items(whole, 6)).arrays()
    grown = retriever.grow(arrays, whole)
    np.testing.assert_allclose(grown["items"][6], grown["items"][5], rtol=1e-4, atol=1e-5)
    assert np.abs(grown["items"][7] - grown["items"][2]).max() > 0.001, "item 2 has a correction of its own"


def test_tower_rows_follow_their_items() -> None:
    state = shop_state()
    arrays = Tower(epochs=1, width=8).fit(state).arrays()
    place = np.array([3, -1, 0, 7])
    vectors = np.array(state.vectors[[3, 1, 0, 7]])
    vectors[2] = -vectors[2]
    moved = tower_network.move_to_catalog(arrays, state.vectors, vectors, place)
    np.testing.assert_array_equal(moved["items"][[0, 3]], arrays["items"][[3, 7]])
    told = arrays["items"][0, :-1] - 2 * state.vectors[0] @ arrays["projection"]
    np.testing.assert_allclose(moved["items"][2, :-1], told, rtol=1e-4, atol=1e-5)
    assert moved["items"][2, -1] == arrays["items"][0, -1]
    new = state.vectors[1] @ arrays["projection"] + arrays["newcomer"][:-1]
    np.testing.assert_allclose(moved["items"][1, :-1], new, rtol=1e-4, atol=1e-5)


def test_a_tower_of_an_earlier_recsys_cannot_grow() -> None:
    state = larger_state()
    arrays = dict(Tower(epochs=1, width=8).fit(first_items(state, OLD)).arrays())
    del arrays["projection"]
    with pytest.raises(ArtifactError, match=r"kept no projection of texts \(they hold after.scale, .*: train again"):
        Tower().grow(arrays, state)


@pytest.mark.parametrize("name", FEATURES)
def test_no_feature_asks_which_events_were_targets(name: str) -> None:
    """A bundle does not keep that, and a grown one prepares its features from what it keeps."""
    state = shop_state()
    other = replace(state, interactions=replace(state.interactions, target=~state.interactions.target))
    one, two = FEATURES[name].prepare(state), FEATURES[name].prepare(other)
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])


# Served copies


def everything(folder: Path, model: Path, items: pl.DataFrame, events: pl.DataFrame, **changes: Any) -> Config:
    """The made-up shop with every retriever and feature, over other tables; texts are not whitened."""
    folder.mkdir()
    path = write_shop_config(folder, model, **changes)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    items.write_csv(folder / "items.csv")
    events.write_csv(folder / "events.csv")
    raw["data"]["catalog"]["path"] = str(folder / "items.csv")
    raw["data"]["interactions"]["path"] = str(folder / "events.csv")
    raw["embedding"] |= {"whitening": False, "user_text": True}
    settings = {"tower": {"epochs": 1, "width": 8}, "popularity": {"depth": 20, "half_life_days": 7}}
    raw["retrievers"] = {name: settings.get(name, {"depth": 20}) for name in RETRIEVERS}
    raw["features"] = list(FEATURES)
    path.write_text(yaml.safe_dump(raw | changes, allow_unicode=True), encoding="utf-8")
    return load_config(path)


ITEMS = pl.read_csv(ROOT / "data" / "shop" / "items.csv")
EVENTS = pl.read_csv(ROOT / "data" / "shop" / "events.csv").filter(pl.col("user_id") < "u080")
NEW = ITEMS.tail(9)["item_id"].to_list()


def test_a_served_copy_is_a_bundle_of_the_larger_catalogue(tmp_path: Path, tiny_model: Path) -> None:
    """The oracle: a bundle trained on the same events with all the items, but for what is learnt or left empty."""
    events = EVENTS.filter(~pl.col("item_id").is_in(NEW))
    changes = {"split": {"kind": "time", "horizon_days": 14, "folds": 1}, "cold_share": 0}
    served = Recommender.load(train(everything(tmp_path / "old", tiny_model, ITEMS.head(-9), events, **changes)))
    whole = Recommender.load(train(everything(tmp_path / "all", tiny_model, ITEMS, events, **changes)))
    copy = served.add_items(whole.catalog.frame.tail(9))
    assert copy.catalog.frame.equals(whole.catalog.frame)
    found, told = copy._bundle.arrays, whole._bundle.arrays
    assert found.keys() == told.keys()
    for name, array in told.items():
        if not name.startswith(
            ("scorer/", "calibration/", f"retrievers/{LEARNT}/", f"retrievers/{EMPTY}/", "retrievers/lexical/")
        ):
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    assert all(copy.recommend(user, 5).items for user in ("u029", "nobody"))


def new_items(*titles: str) -> pl.DataFrame:
    return pl.DataFrame({"item_id": [f"new{n}" for n in range(len(titles))], "title": titles})


def test_new_items_join_a_copy_and_nothing_else_changes(recommender: Recommender, monkeypatch: Any) -> None:
    before = {name: array.tobytes() for name, array in recommender._bundle.arrays.items()}
    answer = recommender.recommend("u029", 20)
    recommender.search("tea")  # loads the encoder
    encoded: list[str] = []
    real = TransformerEncoder.encode
    monkeypatch.setattr(TransformerEncoder, "encode", lambda self, texts: encoded.extend(texts) or real(self, texts))
    copy = recommender.add_items(new_items("green soap", "red lipstick for hair"))
    assert encoded == ["green soap", "red lipstick for hair"]
    assert copy.version.startswith(f"{recommender.version}+2-")
    assert len(copy.catalog) == len(recommender.catalog) + 2 == 346
    assert copy.catalog.frame["price"].tail(2).to_list() == [None, None]
    assert recommender.recommend("u029", 20) == answer
    assert before == {name: array.tobytes() for name, array in recommender._bundle.arrays.items()}
    assert not any(array.flags.writeable for array in copy._bundle.arrays.values() if array.size)
    whitening = Whitening.from_arrays(recommender._bundle.group("whitening"))
    raw = real(recommender._encoder.space.encoder, ["green soap", "red lipstick for hair"])
    np.testing.assert_allclose(copy._model.retrieval.vectors[-2:], whitening.apply(raw), atol=1e-5)
    assert copy.search("green soap", 1)["item_id"].to_list() == ["new0"]
    assert "new1" in copy.similar_items("new0", 345)["item_id"]
    assert copy.score("u029", ["new0", "new1"])["score"].is_finite().all()
    for user in ("u029", "nobody"):
        assert len({item.item_id for item in copy.recommend(user, 346).items}) == 346
    more = copy.add_items(pl.DataFrame({"item_id": ["last"], "title": ["cream"]}))
    assert more.version.startswith(f"{recommender.version}+3-")
    assert recommender.add_items(new_items()) is recommender
    other = recommender.add_items(pl.DataFrame({"item_id": ["a", "b"], "title": ["green soap", "red soap"]}))
    assert other.version != copy.version


def test_a_new_item_is_shown_to_those_who_had_one_like_it(recommender: Recommender) -> None:
    """Twins by text of what a user had last: the semantic retriever must put one of them among the candidates."""
    last = recommender.history("u029").head(1)["item_id"].item()
    twin = recommender.catalog.frame.filter(pl.col("item_id") == last).with_columns(item_id=pl.lit("twin"))
    answer = recommender.add_items(twin).recommend("u029", 345)
    found = next(item for item in answer.items if item.item_id == "twin")
    assert found.sources["semantic"] <= 60
    assert found.score > answer.items[-1].score


def test_threads_may_share_copies(recommender: Recommender) -> None:
    frames = [pl.DataFrame({"item_id": [f"t{n}"], "title": [f"soap {n}"]}) for n in range(4)]
    serial = [recommender.add_items(frame).recommend("u029", 30).to_polars() for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda frame: recommender.add_items(frame).recommend("u029", 30).to_polars(), frames))
    assert all(one.equals(other) for one, other in zip(serial, together, strict=True))


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ({"item_id": ["n1", "i001"]}, r"1 of 2 items were refused.*: row 2: item_id: already in the catalogue: 'i001'"),
        ({"item_id": ["n1", "n1"]}, r"1 of 2 items .* row 2: item_id: duplicate: 'n1'"),
        ({"item_id": ["n1", None]}, r"row 2: item_id: missing"),
        ({"item_id": ["n1"], "price": ["cheap"]}, r"row 1: price: not a number: 'cheap'"),
        ({"item_id": ["n1"], "price": [-1.0]}, r"row 1: price: negative: '-1.0'"),
        ({"item_id": ["n1"], "titel": ["soap"]}, r"no column 'titel'; did you mean 'title'\?; its columns: item_id"),
        ({"title": ["soap"]}, r"the table has no column 'item_id'"),
    ],
)
def test_rows_that_no_catalogue_could_hold_add_nothing(recommender: Recommender, items: dict, told: str) -> None:
    with pytest.raises(DataError, match=told):
        recommender.add_items(pl.DataFrame(items))


def test_further_columns_and_number_ids(tmp_path: Path, tiny_model: Path) -> None:
    items = pl.DataFrame({"item_id": range(10), "title": [f"soap {n}" for n in range(10)], "stock": range(10)})
    rows = [(u, (u + t) % 10, t) for u in range(20) for t in range(5)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    shop = Recommender.load(train(load_config(write_tiny_config(tmp_path, tiny_model, items, events))))
    copy = shop.add_items(pl.DataFrame({"item_id": ["10", "11"], "stock": ["5", None]}))
    assert copy.catalog.frame.tail(2).select("item_id", "stock").rows() == [(10, 5), (11, None)]
    assert copy.catalog.frame.schema == shop.catalog.frame.schema
    with pytest.raises(DataError, match="row 1: item_id: already in the catalogue: '3'"):
        shop.add_items(pl.DataFrame({"item_id": ["3"]}))
    with pytest.raises(DataError, match=r"do not have the catalogue's types .*'item_id', Int64"):
        shop.add_items(pl.DataFrame({"item_id": ["x"]}))


# Free text


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6), min_size=1, max_size=3))
def test_a_fused_score_is_the_sum_of_standard_ones(lists: list[list[tuple[int, int]]]) -> None:
    pairs = np.array([pair for one in lists for pair in one], np.float32).reshape(-1, 2)
    offsets = offsets_of(np.array([len(one) for one in lists]))
    told = []
    for one in lists:
        sides = [[pair[side] for pair in one] for side in (0, 1)]
        told += [sum((pair[side] - statistics.mean(sides[side])) / (statistics.pstdev(sides[side]) or math.inf)
                     for side in (0, 1)) for pair in one]  # fmt: skip
    np.testing.assert_allclose(standard_sum(offsets, [pairs[:, 0], pairs[:, 1]]), told, rtol=1e-5, atol=1e-6)
    moved = standard_sum(offsets, [5 * pairs[:, 0] + 2, 0.1 * pairs[:, 1]])  # no scale and no origin counts
    np.testing.assert_allclose(moved, told, rtol=1e-3, atol=1e-4)


def test_a_text_is_blended_with_what_is_popular(recommender: Recommender) -> None:
    text = item_texts(recommender.catalog, recommender.config.embedding.text)[100]
    popular = recommender.recommend("nobody", 20)
    answer = recommender.recommend("nobody", 20, context={"text": text})
    assert (popular.fallback, answer.fallback, answer.cold) == (True, False, True)
    nearest = recommender.search(text, 20)["item_id"].to_list()
    shown = [item.item_id for item in answer.items]
    assert nearest[0] in shown
    assert set(shown) & set(nearest) != set(nearest)
    assert set(shown) & {item.item_id for item in popular.items}
    for item in answer.items:
        place = nearest.index(item.item_id) + 1 if item.item_id in nearest else None
        assert place is None or item.sources["context.text"] == place
    another = recommender.recommend("another", 20, context={"text": text})
    assert another.items == answer.items
    assert recommender.recommend("nobody", 20, context={}) == popular


def test_a_text_moves_the_list_of_a_known_user(recommender: Recommender) -> None:
    plain = [item.item_id for item in recommender.recommend("u029", 10).items]
    answer = recommender.recommend("u029", 344, context={"text": "green tea gift"})
    shown = [item.item_id for item in answer.items]
    assert len(set(shown)) == 344
    assert shown[:10] != plain
    assert set(shown[:20]) & set(plain), "what the user likes still counts"
    assert not answer.fallback
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)


def test_new_items_are_found_by_a_text(recommender: Recommender) -> None:
    copy = recommender.add_items(new_items("red lipstick for hair"))
    answer = copy.recommend("nobody", 5, context={"text": "red lipstick for hair"})
    assert next(item for item in answer.items if item.item_id == "new0").sources == {"context.text": 1}


def test_dropped_items_are_not_brought_back_by_a_text(tmp_path: Path, tiny_model: Path) -> None:
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": [f"soap {n}" for n in range(12)]})
    rows = [(f"u{u}", f"i{(u + t) % 12}", t) for u in range(24) for t in range(6)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    path = write_tiny_config(tmp_path, tiny_model, items, events, retrievers={"popularity": {"depth": 5}})
    shop = Recommender.load(train(load_config(path)))
    shown = [item.item_id for item in shop.recommend("u0", 12, context={"text": "soap 2"}).items]
    assert sorted(shown) == sorted(f"i{n}" for n in range(6, 12))


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ({"txt": "tea"}, r"context: unknown key 'txt'; did you mean 'text'\?; known: text"),
        ({"text": " "}, r"context: text must be words to look for, and is ' '"),
        ({"text": 5}, r"context: text must be words to look for, and is 5"),
    ],
)
def test_a_context_of_another_form_is_refused(recommender: Recommender, context: dict, told: str) -> None:
    with pytest.raises(RequestError, match=told) as raised:
        recommender.recommend("u029", context=context)
    assert raised.value.exit_code == 7


# Short histories in training


def lists_with(share: float, tmp_path: Path, tiny_model: Path) -> tuple[np.ndarray, ...]:
    items = pl.DataFrame({"item_id": ["i0"]})
    path = write_tiny_config(tmp_path / str(share), tiny_model, items, items, features=["history_length", "scores"],
                             split={"kind": "leave_last_out"}, rules={"seen": "keep"}, cold_share=share,
                             new_share=0)  # fmt: skip
    rows = [(user, (user + step) % 12, step * DAY) for user in range(80) for step in range(9)]
    return scorer_lists(Plan.of(load_config(path)), log_of(rows), Embeddings(random_vectors(12), catalog_of(12)), 0)


def test_a_share_of_users_is_asked_again_as_if_new(tmp_path: Path, tiny_model: Path) -> None:
    x, offsets, y = lists_with(0.5, tmp_path, tiny_model)
    plain, starts, labels = lists_with(0.0, tmp_path, tiny_model)
    events = np.rint(np.expm1(x[offsets[:-1], 0])).astype(int)
    assert np.array_equal(x[: starts[-1]], plain)
    assert np.array_equal(y[: starts[-1]], labels)
    assert set(events[: len(starts) - 1]) == {8}
    short = events[len(starts) - 1 :]
    assert set(short) <= set(SHORTENED)
    assert {1, 2, 5} <= set(short)
    assert all(0 < (short == n).sum() <= 80 * 0.5 / len(SHORTENED) for n in (1, 2, 5))


# New items in training


def lists_with_new(share: float, tmp_path: Path, tiny_model: Path) -> tuple[np.ndarray, ...]:
    bare = pl.DataFrame({"item_id": ["i0"]})
    path = write_tiny_config(tmp_path / str(share), tiny_model, bare, bare, rules={"seen": "drop"}, cold_share=0,
                             split={"kind": "leave_last_out"}, retrievers={"semantic": {"depth": 60}},
                             features=["log_popularity"], new_share=share)  # fmt: skip
    rows = [(user, (7 * user + step) % 40, step * DAY) for user in range(400) for step in range(9)]
    return scorer_lists(Plan.of(load_config(path)), log_of(rows), Embeddings(random_vectors(50), catalog_of(50)), 0)


def test_a_share_of_items_is_as_if_nobody_had_them_yet(tmp_path: Path, tiny_model: Path) -> None:
    """Forty items are had alike, ten never: with a share of a tenth four of the forty are chosen, with no event."""
    plain, _, labels = lists_with_new(0.0, tmp_path, tiny_model)
    assert labels[plain[:, 0] > 0].mean() > labels.mean() > labels[plain[:, 0] == 0].sum() == 0
    x, offsets, y = lists_with_new(0.1, tmp_path, tiny_model)
    assert len(offsets) - 1 == 400, "everybody is asked as before"
    assert y.sum() == 400
    assert y[x[:, 0] == 0].sum() == 40, "each of the items is the next one of ten users"
    unseen = np.add.reduceat(x[:, 0] == 0, offsets[:-1])
    assert set(unseen) == {14}, "ten that nobody ever had, and four"
