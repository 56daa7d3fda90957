"""The example service, asked over HTTP as a client would."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from fastapi.testclient import TestClient
from shops import Shop

from examples.ranking_service.app import Settings, create_app
from examples.ranking_service.exposures import shuffled
from examples.ranking_service.load_test import republish
from recsys import Recommender
from recsys.config import load_config
from recsys.tables.ingest import load_tables

USER = "u029"


@pytest.fixture(scope="module")
def root(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service") / "bundle"
    shutil.copytree(shop.folder, folder)
    return folder


@pytest.fixture(scope="module")
def exposures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "exposures"


@pytest.fixture(scope="module")
def client(root: Path, exposures: Path):
    with TestClient(create_app(Settings(root, exposures, timeout=3600))) as asked:
        wait_until(lambda: asked.get("/health").status_code == 200)
        yield asked


def wait_until(true, seconds: float = 3600) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def logged(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_ndjson(file) for file in sorted(folder.glob("*.jsonl"))])


def test_a_list_is_the_librarys_list(client: TestClient, recommender: Recommender) -> None:
    answer = client.post("/recommend", json={"user_id": USER, "k": 7, "explain": True}).json()
    own = recommender.recommend(USER, 7, explain=True).to_dict()
    assert answer["items"] == json.loads(json.dumps(own["items"]))
    assert answer["model_version"] == recommender.version
    where = {"user_id": USER, "k": 5, "where": "price <= 20", "exclude": [answer["items"][0]["item_id"]]}
    found = client.post("/recommend", json=where).json()["items"]
    kept = recommender.recommend(USER, 5, where="price <= 20", exclude=where["exclude"])
    assert [item["item_id"] for item in found] == [item.item_id for item in kept.items]


def test_reranking_orders_what_is_given(client: TestClient, recommender: Recommender) -> None:
    asked = ["i001", "i200", "i300"]
    answer = client.post("/rerank", json={"user_id": USER, "candidates": asked}).json()
    assert sorted(item["item_id"] for item in answer["items"]) == asked
    own = recommender.recommend(USER, 3, candidates=asked)
    assert [item["item_id"] for item in answer["items"]] == [item.item_id for item in own.items]


def test_neighbours_and_searches(client: TestClient, recommender: Recommender) -> None:
    near = client.get("/similar/i001", params={"k": 4}).json()["items"]
    assert [item["item_id"] for item in near] == recommender.similar_items("i001", 4)["item_id"].to_list()
    found = client.get("/search", params={"q": "tea pot", "k": 3}).json()["items"]
    assert [item["item_id"] for item in found] == recommender.search("tea pot", 3)["item_id"].to_list()


@pytest.mark.parametrize(
    ("route", "body", "status", "told"),
    [
        ("/recommend", {}, 422, "user_id"),
        ("/recommend", {"user_id": USER, "k": 0}, 422, "greater than or equal to 1"),
        ("/recommend", {"user_id": USER, "k": 501}, 422, "less than or equal to 500"),
        ("/recommend", {"user_id": USER, "wher": "x"}, 422, "Extra inputs are not permitted"),
        ("/recommend", {"user_id": USER, "where": "prise < 3"}, 422, "price"),
        ("/recommend", {"user_id": "nobody", "strict": True}, 404, "user 'nobody' is not among the 600 users"),
        ("/recommend", {"user_id": USER, "exclude": ["x"] * 1001}, 422, "at most 1000"),
        ("/rerank", {"user_id": USER, "candidates": []}, 422, "at least 1"),
        ("/rerank", {"user_id": USER, "candidates": ["x"]}, 404, "1 of 1 items are not in the catalogue of 344: 'x'"),
    ],
)
def test_what_is_wrong_is_told(client: TestClient, route: str, body: dict[str, object], status: int, told: str) -> None:
    answer = client.post(route, json=body)
    assert (answer.status_code, told in answer.text) == (status, True), answer.text


def test_long_bodies_are_refused_whether_their_length_is_told_or_not(client: TestClient) -> None:
    head = {"content-type": "application/json"}
    assert client.post("/recommend", content=b"x" * 300_000, headers=head).status_code == 413
    assert client.post("/recommend", content=(b"x" * 1000 for _ in range(300)), headers=head).status_code == 413
    assert client.post("/recommend", content=b"{", headers=head).status_code == 422
    assert client.get("/similar/none").status_code == 404


def test_figures_for_prometheus(client: TestClient, recommender: Recommender) -> None:
    client.post("/recommend", json={"user_id": USER})
    client.get("/no/such/route")
    page = client.get("/metrics").text
    assert f'recsys_model{{version="{recommender.version}"}} 1.0' in page
    assert "recsys_ready 1.0" in page
    assert 'recsys_requests_total{route="/recommend",status="200"}' in page
    assert "no/such" not in page


def test_exposures_tell_who_was_shown_what(client: TestClient, exposures: Path, recommender: Recommender) -> None:
    answer = client.post("/recommend", json={"user_id": USER, "k": 4}).json()
    rows = logged(exposures).filter(pl.col("request_id") == answer["request_id"])
    assert rows["item_id"].to_list() == [item["item_id"] for item in answer["items"]]
    assert rows["rank"].to_list() == [1, 2, 3, 4]
    assert set(rows["propensity"]) == {1.0}
    assert set(rows["model_version"]) == {recommender.version}
    assert set(rows["user_id"]) == {USER}


@pytest.mark.parametrize(
    ("events", "used"), [({"purchase": 3, "view": 1}, False), ({"purchase": 3, "view": 1, "exposure": 0.1}, True)]
)
def test_the_next_training_reads_exposures(client, exposures, recommender, shop, tmp_path, events, used) -> None:
    client.post("/recommend", json={"user_id": USER, "k": 5})
    shown = logged(exposures)
    raw = yaml.safe_load(Path(shop.config).read_text(encoding="utf-8"))
    table = pl.read_csv(raw["data"]["interactions"]["path"])
    table.write_ndjson(tmp_path / "events.jsonl")
    paths = [str(tmp_path / "events.jsonl"), str(exposures)]
    raw["data"]["interactions"] |= {"source": "jsonl", "path": paths, "events": events}
    (tmp_path / "next.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    plain = load_tables(load_config(shop.config).data, tmp_path)
    tables = load_tables(load_config(tmp_path / "next.yaml").data, tmp_path)
    assert len(tables.interactions) - len(plain.interactions) == (shown.height if used else 0)


def test_a_drawn_order_has_the_chance_that_is_told() -> None:
    """Of three scores each order comes as often as the product of its chances says; the pinned one stays."""
    rng, score, seen = np.random.default_rng(0), [9.0, 1.0, 0.5, -0.2], {}
    for _ in range(4000):
        order, chance = shuffled(score, 1, 0.8, rng)
        assert (order[0], chance[0], sorted(order)) == (0, 1.0, [0, 1, 2, 3])
        seen.setdefault(tuple(order), []).append(np.prod(chance))
    assert len(seen) == 6
    for chances in seen.values():
        told = chances[0]
        np.testing.assert_allclose(chances, told)
        assert abs(len(chances) / 4000 - told) < 4 * np.sqrt(told * (1 - told) / 4000)
    assert shuffled(score, 0, 0.0, rng) == ([0, 1, 2, 3], [1.0] * 4)
    assert shuffled([], 0, 1.0, rng) == ([], [])


def test_a_new_version_is_taken_up_while_requests_run(root: Path, client: TestClient) -> None:
    before = client.get("/health").json()["version"]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.post, "/recommend", json={"user_id": USER}) for _ in range(100)]
        republish(root)
        wait_until(lambda: client.get("/health").json()["version"] != before)
        asked += [pool.submit(client.post, "/recommend", json={"user_id": USER}) for _ in range(20)]
        answers = [future.result() for future in asked]
    assert {answer.status_code for answer in answers} == {200}
    after = client.get("/health").json()["version"]
    assert {answer.json()["model_version"] for answer in answers} == {before, after}
    assert answers[-1].json()["model_version"] == after


def test_without_a_bundle_it_is_not_ready_and_then_is(shop: Shop, tmp_path: Path) -> None:
    with TestClient(create_app(Settings(tmp_path / "bundle"))) as client:
        health = client.get("/health")
        assert health.status_code == 503
        assert not health.json()["ready"]
        assert client.post("/recommend", json={"user_id": USER}).status_code == 503
        assert "recsys_ready 0.0" in client.get("/metrics").text
        shutil.copytree(shop.folder, tmp_path / "bundle")
        wait_until(lambda: client.get("/health").status_code == 200)
        assert client.post("/recommend", json={"user_id": USER}).status_code == 200


def test_late_work_is_504_and_too_much_is_503(root: Path) -> None:
    with TestClient(create_app(Settings(root, workers=1, waiting=1, timeout=0.0005))) as client:
        wait_until(lambda: client.get("/health").status_code == 200)
        assert client.post("/recommend", json={"user_id": USER, "k": 300}).status_code == 504
    with TestClient(create_app(Settings(root, workers=1, waiting=0, timeout=3600))) as client:
        wait_until(lambda: client.get("/health").status_code == 200)
        with ThreadPoolExecutor(8) as pool:
            codes = list(
                pool.map(lambda _: client.post("/recommend", json={"user_id": USER, "k": 300}).status_code, range(64))
            )
        assert set(codes) == {200, 503}
        assert client.post("/recommend", json={"user_id": USER}).status_code == 200, "a refused request takes no place"


def test_a_full_disk_costs_no_answer(root: Path, tmp_path: Path) -> None:
    with TestClient(create_app(Settings(root, tmp_path / "log", timeout=3600))) as client:
        wait_until(lambda: client.get("/health").status_code == 200)
        shutil.rmtree(tmp_path / "log")
        assert client.post("/recommend", json={"user_id": USER}).status_code == 200
        assert "recsys_exposures_lost_total 1.0" in client.get("/metrics").text
