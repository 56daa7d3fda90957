"""What a service asks of a bundle: lists, scores, neighbours, searches and histories, from any thread."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from publications import forge
from shops import Shop, write_tiny_config
from tiny_bert import build_tiny_bert

import recsys
from recsys import Recommender, train
from recsys.config import load_config
from recsys.embedding.texts import item_texts
from recsys.errors import ArtifactError, ConfigError, DataError, RecsysError, UnknownIdError
from recsys.ranking.features import FEATURES
from recsys.serving.recommendations import FILLED, Recommendations

USER = "u029"
USERS = ["u000", "u029", "u123", "u599"]


def ids_of(answer: Recommendations) -> list[object]:
    return [item.item_id for item in answer.items]


# Lists


@pytest.mark.parametrize("k", [1, 7, 10, 60, 200])
def test_a_list_has_exactly_k_distinct_items_best_first(recommender: Recommender, k: int) -> None:
    for user in [*USERS, "unknown"]:
        answer = recommender.recommend(user, k)
        assert len(set(ids_of(answer))) == k
        assert [item.rank for item in answer.items] == list(range(1, k + 1))
        scores = [item.score for item in answer.items]
        assert scores == sorted(scores, reverse=True)
        assert (answer.user_id, answer.model_version) == (user, recommender.version)
        titles = dict(recommender.catalog.frame.select("item_id", "title").iter_rows())
        assert all(item.title == titles[item.item_id] for item in answer.items)


def test_more_than_the_catalogue_holds_gives_all_of_it(recommender: Recommender) -> None:
    answer = recommender.recommend(USER, 10_000)
    assert sorted(ids_of(answer)) == sorted(recommender.catalog.ids)
    assert recommender.recommend_batch([USER], 10_000).height == len(recommender.catalog)


def test_a_batch_equals_one_by_one(recommender: Recommender) -> None:
    batch = recommender.recommend_batch(k=12)
    assert batch.height == 12 * 600
    assert batch["user_id"].unique().sort().to_list() == recommender.user_ids.to_list()
    for user in recommender.user_ids.gather_every(17):
        one, many = recommender.recommend(user, 12), batch.filter(pl.col("user_id") == user)
        assert ids_of(one) == many["item_id"].to_list()
        np.testing.assert_allclose([i.score for i in one.items], many["score"], rtol=1e-4, atol=1e-4)
        assert many["source"].to_list() == one.to_polars()["source"].to_list()
        assert many["rank"].to_list() == list(range(1, 13))


def test_a_batch_keeps_the_order_asked(recommender: Recommender) -> None:
    batch = recommender.recommend_batch(["u123", "u000", "u123"], 2)
    assert batch["user_id"].to_list() == ["u123"] * 2 + ["u000"] * 2 + ["u123"] * 2
    empty = recommender.recommend_batch([], 2)
    assert (empty.height, empty.schema) == (0, batch.schema)
    with pytest.raises(UnknownIdError, match="user 'u999' is not among the 600 users"):
        recommender.recommend_batch(["u000", "u999"])


def test_an_unknown_user_is_given_what_is_popular(recommender: Recommender) -> None:
    answer = recommender.recommend("nobody", 10)
    assert answer.fallback
    assert not recommender.recommend(USER, 10).fallback
    events = pl.read_csv(Path(recommender.config.data.interactions.path))["item_id"].value_counts()  # type: ignore[arg-type]
    popular = events.sort("count", descending=True)["item_id"].head(60).to_list()
    assert set(ids_of(answer)) <= set(popular)
    assert ids_of(answer) == ids_of(recommender.recommend("another", 10))
    with pytest.raises(UnknownIdError, match=r"user 'u02' is not among the 600 users of this bundle$"):
        recommender.recommend("u02", strict=True)


def test_sources_and_reasons(recommender: Recommender) -> None:
    config = recommender.config
    for item in recommender.recommend(USER, 20, explain=True).items:
        assert item.sources
        assert set(item.sources) <= set(config.retrievers)
        for name, place in item.sources.items():
            assert 1 <= place <= config.retrievers[name]["depth"]
        assert 1 <= len(item.reasons) <= 3
        assert {reason.split(".")[0] for reason in item.reasons} <= set(config.features) <= FEATURES.keys()
        sizes = [abs(value) for value in item.reasons.values()]
        assert sizes == sorted(sizes, reverse=True)


def test_the_reasons_of_all_features_sum_to_the_score(recommender: Recommender) -> None:
    model = recommender._model
    context = model.retrieval.context(recommender._lookup.histories(np.array([29])))
    x = model.featurizer.compute(context)
    mean = model.scorer.score(model.scorer.mean[None])
    np.testing.assert_allclose(model.scorer.contributions(x).sum(axis=1), model.scorer.score(x) - mean, atol=1e-3)


def test_an_answer_as_json_and_as_a_frame(recommender: Recommender) -> None:
    answer = recommender.recommend(USER, 5)
    told = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert [item["item_id"] for item in told["items"]] == ids_of(answer)
    assert told["items"][0]["sources"] == answer.items[0].sources
    schema = {
        "user_id": pl.String, "item_id": pl.String, "title": pl.String, "rank": pl.Int32, "score": pl.Float32,
        "probability": pl.Float32, "source": pl.String, "model_version": pl.String,
    }  # fmt: skip
    frame = answer.to_polars()
    assert dict(frame.schema) == schema
    assert frame["item_id"].to_list() == ids_of(answer)
    batch = recommender.recommend_batch([USER], 5)
    assert dict(batch.schema) == {name: dtype for name, dtype in schema.items() if name != "title"}
    assert recommender.recommend(USER, 0).to_polars().columns == list(schema)


# Scores


def test_a_score_means_the_same_as_in_a_list(recommender: Recommender) -> None:
    """Whatever else is asked along: other items must not move it."""
    everything = recommender.catalog.ids.to_list()
    for user in [*USERS, "unknown"]:
        listed = {item.item_id: item.score for item in recommender.recommend(user, 60).items if item.sources}
        for asked in (list(listed), everything):
            scored = dict(recommender.score(user, asked).select("item_id", "score").iter_rows())
            np.testing.assert_allclose([scored[i] for i in listed], list(listed.values()), rtol=1e-4, atol=1e-4)


def test_the_score_of_an_outsider_does_not_hang_on_the_others(recommender: Recommender) -> None:
    listed = {item.item_id for item in recommender.recommend(USER, 344).items if item.sources}
    outside = [item for item in recommender.catalog.ids if item not in listed][:20]
    assert outside
    together = recommender.score(USER, outside)["score"].to_list()
    alone = [recommender.score(USER, [item])["score"].item() for item in outside]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_scores_come_in_the_order_given(recommender: Recommender) -> None:
    asked = ["i300", "i001", "i300", "i150"]
    frame = recommender.score(USER, asked)
    assert frame["item_id"].to_list() == asked
    assert dict(frame.schema) == {"item_id": pl.String, "score": pl.Float32, "probability": pl.Float32}
    assert frame["score"][0] == frame["score"][2]
    assert recommender.score(USER, []).height == 0
    with pytest.raises(UnknownIdError, match="2 of 3 items are not in the catalogue of 344: 'x', 'i999'"):
        recommender.score(USER, ["x", "i001", "i999"])
    with pytest.raises(UnknownIdError, match="user 'nobody'"):
        recommender.score("nobody", asked, strict=True)


# Texts


def test_similar_items_are_the_nearest_by_cosine(recommender: Recommender) -> None:
    vectors, ids = np.array(recommender._bundle.arrays["vectors"]), recommender.catalog.ids.to_list()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for row in (0, 100, 343):
        found = recommender.similar_items(ids[row], 15)
        cosine = vectors @ vectors[row]
        cosine[row] = -2
        np.testing.assert_allclose(found["score"], np.sort(cosine)[::-1][:15], atol=1e-6)
        np.testing.assert_allclose([cosine[ids.index(i)] for i in found["item_id"]], found["score"], atol=1e-6)
        assert ids[row] not in found["item_id"]
    everything = recommender.similar_items(ids[0], 10_000)
    assert everything["item_id"].n_unique() == everything.height == 343
    with pytest.raises(UnknownIdError, match="1 of 1 items are not in the catalogue of 344: 'x'"):
        recommender.similar_items("x")


def test_search_finds_an_item_by_its_own_text(recommender: Recommender) -> None:
    texts = item_texts(recommender.catalog, recommender.config.embedding.text)
    for row in (0, 60, 250):
        found = recommender.search(texts[row], 3)
        assert recommender.catalog.ids[row] in found.filter(pl.col("score") > 0.999)["item_id"]
    assert dict(found.schema) == {"item_id": pl.String, "title": pl.String, "score": pl.Float32}


def test_search_refuses_another_encoder(shop: Shop, tmp_path: Path, tiny_model: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(shop.folder, root)
    version = root / "versions" / shop.version.name
    other = build_tiny_bert(tmp_path / "other", seed=1)
    forge(version, lambda manifest: manifest["config"]["embedding"].update(model=str(other)))
    with pytest.raises(ArtifactError, match=r"they must not mix; install the model .* or train again") as raised:
        Recommender.load(root).search("tea")
    assert str(other) in str(raised.value)
    precise = {"model": str(tiny_model), "precision": "bfloat16"}
    forge(version, lambda manifest: manifest["config"]["embedding"].update(precise))
    moved = Recommender.load(root)
    with pytest.raises(ArtifactError, match=r"'bfloat16' here: .*set embedding\.precision"):
        moved.search("tea")
    assert moved.recommend(USER, 3).items  # all the rest needs no encoder


# Histories


def test_history_comes_newest_first(recommender: Recommender) -> None:
    frame = recommender.history(USER)
    events = pl.read_csv(Path(recommender.config.data.interactions.path), try_parse_dates=True)  # type: ignore[arg-type]
    own = events.filter(pl.col("user_id") == USER).sort("timestamp", descending=True)
    assert frame["item_id"].to_list() == own["item_id"].to_list()
    assert frame["time"].is_sorted(descending=True)
    assert frame["time"].to_list() == own["timestamp"].dt.epoch("us").to_list()
    assert frame.columns == ["item_id", "title", "time"]
    with pytest.raises(UnknownIdError, match="user 'nobody' is not among"):
        recommender.history("nobody")


# Ids and rules: a shop with integer ids that never shows what was bought


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Recommender:
    """30 items and 40 users; user 7 had every item, user 8 all but items 3 and 5."""
    rng = np.random.default_rng(0)
    items = pl.DataFrame({"item_id": range(100, 130), "title": [f"soap {n}" for n in range(30)]})
    had = {1000 + u: rng.permutation(30)[: rng.integers(3, 12)] for u in range(40)}
    had |= {7: rng.permutation(30), 8: np.setdiff1d(np.arange(30), [3, 5])}
    rows = [(user, 100 + int(i), t) for user, own in had.items() for t, i in enumerate(own)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    folder = tmp_path_factory.mktemp("numbered")
    return Recommender.load(train(load_config(write_tiny_config(folder, tiny_model, items, events))))


def test_ids_may_be_text_or_numbers(numbered: Recommender) -> None:
    assert numbered.user_ids.dtype == pl.Int64
    answer = numbered.recommend(1005, 5)
    assert ids_of(answer) == ids_of(numbered.recommend("1005", 5))
    assert not answer.fallback
    assert isinstance(answer.items[0].item_id, int)
    json.dumps(answer.to_dict())
    assert numbered.similar_items("101", 3).equals(numbered.similar_items(101, 3))
    assert numbered.score("1005", ["101", 102]).equals(numbered.score(1005, [101, 102]))
    assert numbered.history("8")["item_id"].dtype == pl.Int64


@pytest.mark.parametrize(
    "user", [10**30, -(10**30), 2**63, "9" * 40, "", "a", "1e3", "1005.0", "٣", "8 ", "1_005", "\0", "🎁", "\udcff"]
)
def test_an_id_of_any_shape_is_unknown_at_worst(numbered: Recommender, recommender: Recommender, user: object) -> None:
    for loaded in (numbered, recommender):
        assert loaded.recommend(user, 3).fallback  # type: ignore[arg-type]
        with pytest.raises(UnknownIdError, match=re.escape(f"user {user!r} is not among")):
            loaded.recommend(user, 3, strict=True)  # type: ignore[arg-type]
        with pytest.raises(UnknownIdError, match="1 of 1 items are not in the catalogue"):
            loaded.similar_items(user)  # type: ignore[arg-type]


def test_dropped_items_are_never_shown(numbered: Recommender) -> None:
    for user in numbered.user_ids:
        had = set(numbered.history(user)["item_id"])
        shown = ids_of(numbered.recommend(user, 10))
        assert not had & set(shown)
        assert len(shown) == min(10, 30 - len(had))


def test_a_list_is_short_only_where_nothing_is_left(numbered: Recommender) -> None:
    assert sorted(ids_of(numbered.recommend(8, 10))) == [103, 105]
    nothing = numbered.recommend(7, 10)
    assert (nothing.items, nothing.fallback) == ([], False)
    assert nothing.to_polars().height == 0
    assert numbered.recommend_batch([7, 8], 10)["user_id"].to_list() == [8, 8]


def test_filled_items_say_so(numbered: Recommender) -> None:
    frame = numbered.recommend(1005, 25).to_polars()
    assert FILLED in frame["source"].to_list()
    place = frame["source"].to_list().index(FILLED)
    assert set(frame["source"][place:]) == {FILLED}
    assert frame["score"].is_sorted(descending=True)
    filled = numbered.recommend(1005, 25, explain=True).items[place]
    assert (filled.sources, filled.reasons) == ({}, {})


# Shared, read-only, light


def test_threads_get_the_answers_of_one(recommender: Recommender, shop: Shop) -> None:
    fresh = Recommender.load(shop.folder)  # nothing is cached yet, so the threads race for all of it
    users = recommender.user_ids.to_list()

    def ask(loaded: Recommender, thread: int) -> list[object]:
        told: list[object] = []
        for number in range(50):
            user, item = users[(thread * 7 + number * 11) % 600], f"i{(thread + number * 5) % 344:03d}"
            match number % 4:
                case 0:
                    told.append(loaded.recommend(user, 10))
                case 1:
                    told.append(loaded.similar_items(item, 5).rows())
                case 2:
                    told.append(loaded.score(user, [item, "i001"]).rows())
                case 3:
                    told.append(loaded.history(user).rows())
        told.append(loaded.search("tea pot", 3).rows())
        return told

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda thread: ask(fresh, thread), range(8)))
    assert together == [ask(recommender, thread) for thread in range(8)]


def test_nothing_that_is_asked_changes_the_bundle(shop: Shop) -> None:
    def digest() -> dict[str, str]:
        files = [path for path in shop.folder.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = digest()
    loaded = Recommender.load(shop.folder)
    answer = loaded.recommend(USER, 10)
    loaded.recommend_batch(k=20)
    loaded.score(USER, ["i001"])
    loaded.similar_items("i001")
    loaded.search("tea")
    loaded.history(USER)
    assert loaded.recommend(USER, 10) == answer
    assert digest() == before
    assert not any(array.flags.writeable for array in loaded._bundle.arrays.values() if array.size)


def _modules(script: str, *args: str) -> list[str]:
    command = [sys.executable, "-c", "import sys\n" + script + "\nprint(*sys.modules, file=sys.stderr)", *args]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=True)
    return ran.stderr.split()


def test_serving_loads_no_learning_library(shop: Shop) -> None:
    script = "from recsys import Recommender\nr = Recommender.load(sys.argv[1])\nassert r.recommend('u029', 5).items"
    script += "\nr.similar_items('i001')\nr.recommend_batch(k=3)\nr.score('u029', ['i001'])\nr.why_not('u029', 'i001')"
    script += "\nr.recommend('u029', 5, where='price <= 20', exclude=['i001'], history=['i002'], caps={'brand': 1})"
    script += "\nr.recommend('nobody', 5, candidates=['i001', 'i002'], pinned=['i003'], diversity=0.5, explain=True)"
    loaded = _modules(script, str(shop.folder))
    assert "numpy" in loaded
    assert not {"torch", "sklearn", "transformers", "sentence_transformers"} & set(loaded)


def test_importing_recsys_imports_nothing_else() -> None:
    loaded = _modules("import recsys\nassert dir(recsys)\nrecsys.errors.RecsysError")
    assert not {"numpy", "polars", "faiss", "pydantic", "yaml", "torch"} & set(loaded)


def test_what_recsys_exports() -> None:
    assert recsys.__all__ == [
        "Assistant",
        "Copywriter",
        "Recommender",
        "RecommenderHandle",
        "errors",
        "evaluate",
        "finetune",
        "fit",
        "forget",
        "train",
        "tune",
        "update",
    ]
    assert set(recsys.__all__) <= set(dir(recsys))
    assert recsys.errors.RecsysError is RecsysError
    assert callable(recsys.train)
    assert callable(recsys.evaluate)
    with pytest.raises(AttributeError, match="module 'recsys' has no attribute 'trian'; it has: Assistant, "):
        recsys.trian  # noqa: B018


# Bundles that are whole, but not of this library


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.pop("config"), "lacks a part (KeyError('config')); train again"),
        (lambda m: m.update(config=5), "lacks a part (TypeError"),
        (
            lambda m: m["config"].update(novelty=1),
            "this recsys cannot read the config in bundle .*novelty: unknown key",
        ),
        (lambda m: m["config"]["retrievers"].update(magic={}), "retrievers.magic: unknown retriever 'magic'"),
        (lambda m: m["config"]["retrievers"].update(ease={}), "lacks a part (KeyError"),
        (lambda m: m["files"].pop("vectors.npy"), "lacks a part (KeyError('vectors')); train again"),
        (lambda m: m["files"].pop("users.parquet"), "lacks a part (KeyError('users')); train again"),
        (lambda m: m["files"].pop("scorer/mean.npy"), "lacks a part (KeyError('scorer/mean')); train again"),
    ],
)
def test_a_bundle_that_lacks_a_part(shop: Shop, tmp_path: Path, change: object, told: str) -> None:
    version = tmp_path / "version"
    shutil.copytree(shop.version, version)
    forge(version, change)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match=re.escape(told).replace(r"\.\*", ".*").replace(r"\ ", " ")):
        Recommender.load(version)


# Tables as small and as odd as they come


def _tables(titles: list[str | None], users: int, events: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(titles))], "title": titles})
    rows = [(f"u{u}", f"i{(u + t) % len(titles)}", t) for u in range(users) for t in range(events)]
    return items, pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


ODD = [
    "红色口红",
    "💄🧴",
    "soap " * 10_000,
    None,
    "",
    " \t ",
    "<b>&amp;</b>",
    "a\0b",
    "🧑‍👩‍👧",
    "ｆｕｌｌ",
    "x" * 50_000,
]
SOME = [f"soap {n}" for n in range(8)]


@pytest.mark.parametrize(
    ("titles", "users", "events"),
    [
        pytest.param(ODD, 12, 5, id="odd titles"),
        pytest.param([None] * 6, 8, 4, id="no texts"),
        pytest.param(["soap"] * 6, 8, 4, id="equal texts"),
        pytest.param(SOME, 1, 6, id="one user"),
        pytest.param(["soap"], 8, 3, id="one item"),
        pytest.param(["soap"], 1, 1, id="one of each"),
        pytest.param(SOME, 8, 1, id="one event each"),
        pytest.param(SOME, 1, 2, id="two events"),
        pytest.param(SOME, 0, 0, id="no event"),
    ],
)
@pytest.mark.parametrize("seen", ["drop", "keep"])
def test_tiny_tables_work_or_say_why_not(
    tmp_path: Path, tiny_model: Path, titles: list[str | None], users: int, events: int, seen: str
) -> None:
    path = write_tiny_config(tmp_path, tiny_model, *_tables(titles, users, events))
    config = load_config(path)
    config = config.model_copy(update={"rules": config.rules.model_copy(update={"seen": seen})})
    try:
        loaded = Recommender.load(train(config))
    except (DataError, ConfigError) as error:
        told = str(error)
        assert len(told) > 20
        assert titles is not ODD
        return
    for user in [*loaded.user_ids, "nobody"]:
        answer = loaded.recommend(user, 5)
        assert all(np.isfinite(item.score) for item in answer.items)
    for item in loaded.catalog.ids:
        assert loaded.similar_items(item, 3).height == min(3, len(titles) - 1)
    assert loaded.search("口红 💄", 2).height == min(2, len(titles))
    assert loaded.score("nobody", loaded.catalog.ids.to_list())["score"].is_finite().all()
    try:
        report = recsys.evaluate(config)
    except DataError as error:
        told = str(error)
        assert len(told) > 20
    else:
        json.dumps(report, allow_nan=False)
