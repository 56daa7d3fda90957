"""HTML is removed from the texts that are encoded, and nothing else is."""

import polars as pl
import pytest

from recsys.embedding.markup import strip_markup
from recsys.embedding.texts import item_texts
from recsys.types import Catalog


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ('<div class="a" title="1 > 0"><p>Aurora<br>tent <strong>big</strong>ger</p></div>', "Aurora tent bigger"),
        ("&lt;p&gt;Salt &amp;amp; pepper&lt;/p&gt;", "Salt & pepper"),
        ("<script>var x = '<b>';</script>Lamp<!-- hidden -->", "Lamp"),
        ("<a href='x>Broken</a> lamp", "Broken lamp"),
        ("caf&eacute; &#39;x&#39;&nbsp;y", "café 'x' y"),
        ("size < 3 and a<b, 5 > 2; I <3 AT&T", "size < 3 and a<b, 5 > 2; I <3 AT&T"),
        ("<Unknown> brand", "<Unknown> brand"),
    ],
)
def test_markup_goes_and_text_stays(written, plain):
    items = Catalog(pl.DataFrame({"item_id": ["x"], "title": [written]}))
    assert item_texts(items, ["title"]) == [plain]
    assert item_texts(items, ["title"], html="keep") == [" ".join(written.split())]


def test_the_texts_given_are_left_as_they_are():
    texts = pl.Series(["<b>Tea</b>", None, "plain"])
    assert strip_markup(texts).to_list() == ["Tea", None, "plain"]
    assert texts.to_list() == ["<b>Tea</b>", None, "plain"]
