"""The handle of a long-lived service: whole swaps, no mixtures, and the old model where the new one fails."""

from __future__ import annotations

import gc
import logging
import re
import shutil
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from publications import forge
from shops import write_tiny_config
from tampering import change, put

from recsys import Recommender, RecommenderHandle, train
from recsys.artifacts.bundle import rollback
from recsys.artifacts.versions import POINTER, VERSIONS, prune, set_current
from recsys.config import Config, load_config
from recsys.errors import ArtifactError, ConfigError
from recsys.serving.recommendations import Recommendations

ITEMS = 12
SOON = 0.005
K = 3


def favourites(number: int) -> list[str]:
    """The items that the model of a number puts first."""
    return [f"i{(number + place) % ITEMS:02d}" for place in range(K)]


def ids_of(answer: Recommendations) -> list[object]:
    return [item.item_id for item in answer.items]


def config_of(folder: Path, model: Path, number: int) -> Config:
    """A tiny shop in which item `number` is the most popular, the one after it the next: an answer tells its model."""
    items = pl.DataFrame({"item_id": [f"i{n:02d}" for n in range(ITEMS)], "title": [f"soap {n}" for n in range(ITEMS)]})
    baskets = {user: [*range(ITEMS - user), 0] for user in range(12)}  # and each ends with the favourite
    rows = [
        (f"u{u}", f"i{(number + place) % ITEMS:02d}", t) for u, one in baskets.items() for t, place in enumerate(one)
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return load_config(
        write_tiny_config(
            folder, model, items, events, retrievers={"popularity": {"depth": ITEMS}},
            features=["log_popularity"], rules={"seen": "keep"},
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[Path]:
    """Four bundles, each of which answers with its own favourites."""
    folder = tmp_path_factory.mktemp("shelf")
    found = [train(config_of(folder / "data", tiny_model, number)) for number in range(4)]
    for number, version in enumerate(found):
        for user in ("u0", "u11", "nobody"):
            assert ids_of(Recommender.load(version).recommend(user, K)) == favourites(number)
    return found


@pytest.fixture
def names(shelf: list[Path], root: Path) -> list[str]:
    return [version.name for version in shelf]


@pytest.fixture
def root(shelf: list[Path], tmp_path: Path) -> Path:
    """A copy of the shelf, the first version current."""
    shutil.copytree(shelf[0].parent.parent, tmp_path / "root")
    set_current(tmp_path / "root", shelf[0].name)
    return tmp_path / "root"


@pytest.fixture
def handle(root: Path) -> Iterator[RecommenderHandle]:
    with RecommenderHandle(root, interval=SOON) as handle:
        yield handle


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 3600
    while not holds():
        assert time.monotonic() < end, "waited for an hour"
        time.sleep(SOON)


def serves(handle: RecommenderHandle, name: str) -> Callable[[], bool]:
    return lambda: handle.recommender.version == name


# Swaps


def test_it_follows_the_pointer_forth_and_back(handle: RecommenderHandle, root: Path, names: list[str]) -> None:
    assert handle.ready
    assert ids_of(handle.recommender.recommend("u0", K)) == favourites(0)
    for number in (3, 1, 2):
        set_current(root, names[number])
        until(serves(handle, names[number]))
        assert ids_of(handle.recommender.recommend("u0", K)) == favourites(number)
    rollback(root)
    until(serves(handle, names[1]))
    assert handle.last_error is None


def test_an_unchanged_pointer_loads_nothing(handle: RecommenderHandle, root: Path, names: list[str]) -> None:
    held = handle.recommender
    set_current(root, names[0])
    time.sleep(20 * SOON)
    assert handle.recommender is held


def test_what_is_held_goes_on_while_versions_are_deleted(
    handle: RecommenderHandle, root: Path, names: list[str]
) -> None:
    held = handle.recommender
    set_current(root, names[3])
    until(serves(handle, names[3]))
    assert prune(root, 1) == names[:3]
    assert ids_of(held.recommend("u5", K)) == favourites(0)
    assert held.recommend_batch(k=K).height == 12 * K


def test_nothing_of_an_old_model_stays_in_memory(handle: RecommenderHandle, root: Path, names: list[str]) -> None:
    old = weakref.ref(handle.recommender)
    set_current(root, names[1])
    until(serves(handle, names[1]))
    gc.collect()
    assert old() is None


def test_threads_during_swaps(handle: RecommenderHandle, root: Path, names: list[str]) -> None:
    """16 threads ask 1,000 times each while the pointer moves 20 times: each answer is of one model, and says which."""
    expected = {name: favourites(number) for number, name in enumerate(names)}
    swapped = threading.Event()

    def swap() -> None:
        try:
            for number in range(1, 21):
                name = names[number % len(names)]
                set_current(root, name)
                until(serves(handle, name))
        finally:
            swapped.set()

    def ask(thread: int) -> Counter[str]:
        told: Counter[str] = Counter()
        while told.total() < 1000 or not swapped.is_set():
            recommender = handle.recommender
            answer = recommender.recommend(f"u{(told.total() + thread) % 14}", K)  # u12 and u13 are unknown
            assert ids_of(answer) == expected[answer.model_version]
            assert recommender.version == answer.model_version
            told[answer.model_version] += 1
        return told

    with ThreadPoolExecutor(17) as pool:
        swapping = pool.submit(swap)
        told = list(pool.map(ask, range(16)))
        swapping.result()
    assert min(one.total() for one in told) >= 1000
    assert set(sum(told, Counter())) == set(names)
    assert handle.last_error is None


# What fails


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (lambda folder: (folder / "vectors.npy").unlink(), r"vectors\.npy is missing"),
        (lambda folder: (folder / "vectors.npy").write_bytes(b"x"), r"vectors\.npy has 1 bytes"),
        (lambda folder: change(folder, "popular", put(0, 99)), "popular names rows"),
        (lambda folder: change(folder, "scorer/weight0", put(..., 3e38)), "was tried out on 4 users"),
        (lambda folder: forge(folder, lambda m: m.update(schema_version=9)), "has schema version 9"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_version_that_fails_is_not_served(
    handle: RecommenderHandle, root: Path, names: list[str], breaks: Callable[[Path], object], told: str
) -> None:
    broken = root / VERSIONS / names[1]
    shutil.copytree(broken, root / "aside")
    breaks(broken)
    set_current(root, names[1])
    until(lambda: handle.last_error)
    assert isinstance(handle.last_error, ArtifactError)
    assert re.search(told, str(handle.last_error))
    assert names[1] in str(handle.last_error)
    assert handle.ready
    assert ids_of(handle.recommender.recommend("u0", K)) == favourites(0)
    # Its files are put right: no pointer moves, and it is served.
    shutil.rmtree(broken)
    shutil.move(root / "aside", broken)
    until(serves(handle, names[1]))
    until(lambda: handle.last_error is None)


def test_a_version_that_fails_is_tried_once(
    handle: RecommenderHandle, root: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (root / VERSIONS / names[1] / "popular.npy").unlink()
    with caplog.at_level(logging.INFO, "recsys"):
        set_current(root, names[1])
        until(lambda: handle.last_error)
        time.sleep(20 * SOON)
        set_current(root, names[0])  # back to what is served all along
        until(lambda: handle.last_error is None)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert f"goes on with version {names[0]}; the new one is not served: bundle file " in warned[0]
    assert not any("now serving" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("pointer", ["nonsense\n", "", None])
def test_a_pointer_to_nothing(handle: RecommenderHandle, root: Path, names: list[str], pointer: str | None) -> None:
    (root / POINTER).unlink() if pointer is None else (root / POINTER).write_text(pointer)
    until(lambda: handle.last_error)
    assert str(root / POINTER) in str(handle.last_error) or "CURRENT is missing" in str(handle.last_error)
    assert handle.recommender.version == names[0]
    set_current(root, names[2])
    until(serves(handle, names[2]))
    assert handle.last_error is None


# Beginning and end


def test_it_begins_with_a_model_or_not_at_all(root: Path, names: list[str], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere holds no bundle \(CURRENT is missing\)"):
        RecommenderHandle(tmp_path / "nowhere").start()
    handle = RecommenderHandle(root, interval=SOON)
    assert not handle.ready
    with pytest.raises(ArtifactError, match=r"the handle of .*root holds no model: start it, or use it in a `with` bl"):
        handle.recommender  # noqa: B018
    kept = (root / VERSIONS / names[0] / "popular.npy").read_bytes()
    (root / VERSIONS / names[0] / "popular.npy").write_bytes(b"")
    with pytest.raises(ArtifactError, match="has 0 bytes"):
        handle.start()
    assert not handle.ready
    (root / VERSIONS / names[0] / "popular.npy").write_bytes(kept)
    assert handle.start() is handle
    assert handle.start().recommender is handle.recommender  # once is enough
    held = handle.recommender
    threads = threading.active_count()
    handle.close()
    handle.close()
    assert threading.active_count() == threads - 1
    assert not handle.ready
    assert held.recommend("u0", K).items
    with handle:
        assert handle.recommender.version == names[0]


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_an_interval_that_is_none(root: Path, interval: float) -> None:
    with pytest.raises(ConfigError, match=f"every so many seconds, above 0, and was given {interval}"):
        RecommenderHandle(root, interval=interval)


def test_the_arrays_of_a_loaded_model_cannot_be_written(handle: RecommenderHandle) -> None:
    arrays = handle.recommender._bundle.arrays
    assert len(arrays) > 8
    for name, array in arrays.items():
        assert not array.flags.writeable, name
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            np.asarray(array).setflags(write=True)
