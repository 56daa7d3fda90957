"""`recsys ask` and `recsys copy`: answers on stdout, sources on stderr, exit codes."""

from __future__ import annotations

import json

import polars as pl
import pytest
from shops import Shop

from recsys.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], shop: Shop):
    def call(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, args), "--bundle", str(shop.folder)])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def test_ask_answers_on_stdout_and_names_its_sources(run) -> None:
    code, out, err = run("ask", "How much is the Aurora tent?")
    assert (code, out) == (0, "Aurora tent costs 24.00.\n")
    assert "answered (price); sources: items i000" in err


def test_ask_as_json(run) -> None:
    code, out, _ = run("ask", "what did I buy last?", "--user", "u029", "--json")
    answer = json.loads(out)
    assert code == 0
    assert list(answer)[:6] == ["status", "text", "intent", "items", "orders", "facts"]
    assert (answer["status"], answer["items"]) == ("answered", ["i338"])
    assert answer["orders"][0]["order_id"] == "2025-07-19T23:57:57Z"


def test_ask_with_the_shops_own_words(run, tmp_path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text("currency: £\n", encoding="utf-8")
    assert run("ask", "How much is the Aurora tent?", "--questions", words)[1] == "Aurora tent costs £24.00.\n"
    code, out, err = run("ask", "x", "--questions", tmp_path / "none.yaml")
    assert (code, out) == (3, "")
    assert "none.yaml cannot be read" in err


def test_copy_of_an_item(run) -> None:
    code, out, err = run("copy", "i000", "--kind", "ad", "--currency", "$")
    assert code == 0
    assert out.startswith("Meet Aurora tent. tent, Camping. Price: $24.00.")
    assert "written by: template; sources: items i000" in err
    assert json.loads(run("copy", "i000", "--json")[1])["kind"] == "description"


def test_copy_of_the_catalogue_is_a_line_an_item(run, shop) -> None:
    code, out, err = run("copy", "--all")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["items"][0] for line in lines] == pl.read_csv("data/shop/items.csv")["item_id"].to_list()
    assert "344 texts: 344 templates, 0 by the model" in err


def test_copy_to_an_audience(run, tmp_path) -> None:
    readers = tmp_path / "readers.txt"
    readers.write_text("\n".join(f"u{n:03d}" for n in range(60)) + "\n", encoding="utf-8")
    code, out, _ = run("copy", "--kind", "email", "--audience", readers)
    assert code == 0
    assert out.startswith("Chosen for you\n\nHere is what we chose for you.")
    assert "of the 60 readers of this letter bought" in out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("copy",), 2, "give an ITEM_ID, or --all, or --audience FILE"),
        (("copy", "i000", "--all"), 2, "give an ITEM_ID"),
        (("copy", "--audience", "x"), 2, "--audience writes an e-mail: add --kind email"),
        (
            ("copy", "--kind", "email", "--audience", "/none"),
            4,
            "the audience /none cannot be read (FileNotFoundError)",
        ),
        (("copy", "nothing"), 6, "1 of 1 items are not in the catalogue"),
        (("copy", "i000", "--kind", "poem"), 7, "kind must be one of description, ad, email"),
        (("copy", "i000", "--endpoint", "http://localhost"), 3, "needs the name of a model"),
        (("ask", " "), 7, "a question must be words"),
    ],
)
def test_wrong_usage_has_its_exit_code(run, args, code, message) -> None:
    got, out, err = run(*args)
    assert (got, out) == (code, "")
    assert message in " ".join(err.split())
