"""Quotes that do not end: the fast copy agrees with the reader that takes one record after the other."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_tables import HEAD, RawTables, events_of

from recsys.tables.sources import quotes
from recsys.tables.sources.dialect import Dialect
from recsys.tables.sources.quotes import OPEN_QUOTE, ends_open, mend, survey
from recsys.tables.sources.repair import records

LINE = st.lists(st.sampled_from(["a", "b c", '"x, y"', '"q ""in"" q"', '"', '27" wide', '"open', 'end"', "", '"two']),
                min_size=3, max_size=3).map(",".join)  # fmt: skip


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(LINE, min_size=1, max_size=8), block=st.sampled_from([1 << 22, 7]))
def test_the_copy_holds_the_records_that_are_read_one_by_one(tmp_path_factory, lines, block):
    folder = tmp_path_factory.mktemp("quotes")
    (folder / "raw.csv").write_text("\n".join(["k,l,m", *lines]) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotes, "BLOCK", block)
        mend(str(folder / "raw.csv"), Dialect(), 3, folder / "mended.csv")
    copy = list(csv.reader(io.StringIO((folder / "mended.csv").read_text(encoding="utf-8"), newline="")))
    # A line with an even number of quotes is copied as it lies, with a quote that opens no cell or two of them.
    expected = [
        ([*cells, reason] if reason else [cell.replace("\n", " ") for cell in cells])
        for cells, reason in records(str(folder / "raw.csv"), Dialect(), 3)
    ]
    even = [line for line in lines if ends_open(line, Dialect()) and line.count('"') % 2 == 0]
    if not even:
        assert [row[:3] + [cell for cell in row[3:] if cell == OPEN_QUOTE] for row in copy] == [
            row[:3] + [cell for cell in row[3:] if cell == OPEN_QUOTE] for row in expected
        ]


@pytest.mark.parametrize("last_note", ['"size 3"', "plain", '"a, b"', 'ends"', '""'])
def test_a_quote_that_does_not_end_takes_no_other_row_with_it(shop, last_note):
    notes = ['"no end', "one", "two", "three", last_note]
    rows = [f"u{n},b,2025-01-0{n},{note}" for n, note in enumerate(notes, start=1)]
    tables = shop.load(events=HEAD.strip() + ",note\n" + "\n".join(rows) + "\n", tolerated=0.9)
    assert tables.report["interactions"]["rows"] == 5
    assert tables.report["interactions"]["refused"][OPEN_QUOTE] == shop.quarantine("interactions").height
    assert shop.quarantine("interactions")["row"][0] == 1
    assert [user for user, *_ in events_of(tables)][:3] == ["u2", "u3", "u4"]


def test_a_text_with_commas_in_its_lines_is_one_cell(shop):
    text = "well, good, then\nred, blue\nplain\nsmall, round, cheap"
    assert shop.load(items=f'item_id,title,price\na,"{text}",1\nb,Bees,2\n').catalog.titles[0] == text.replace(
        "\n", " "
    )


def test_a_text_of_many_lines_is_one_cell(shop):
    text = "\n".join(f"line {number}" for number in range(900))
    tables = shop.load(items=f'item_id,title,price\na,"{text}",1\nb,Bees,2\n')
    assert tables.catalog.titles == [text.replace("\n", " "), "Bees"]


def test_what_a_pass_over_the_bytes_shows(shop):
    def found(text):
        seen = survey(shop.write("events.csv", text), Dialect())
        return seen.ascii, seen.open_quotes

    assert found('a,b\n"x",y\n') == (True, False)
    assert found('a,b\n"x\ny",z\n') == (True, True)
    assert found("a,b\né,y") == (False, False)
    assert found('a,b\nx,"y') == (True, True)
