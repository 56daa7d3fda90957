"""`recsys profile`: what is in the tables, counted by hand here."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from shops import write_tiny_config

from recsys.cli import main

DAY = 86_400
ITEMS = pl.DataFrame(
    {"item_id": [f"i{n}" for n in range(4)], "title": ["soap", "comb", None, ""], "price": [1.5, 2.0, 2.0, None]}
)
# u0 has six events, u1 two, u2 one; i0 six, i1 three, the others none; ten days pass without an event.
MOMENTS = [("u0", "i0", day) for day in range(5)] + [
    ("u0", "i1", 5),
    ("u1", "i0", 15),
    ("u1", "i1", 16),
    ("u2", "i1", 17),
]
START = 1_700_000_000


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [(user, item, START + day * DAY) for user, item, day in [*MOMENTS, MOMENTS[-1]]]  # the last one twice
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return write_tiny_config(tmp_path, Path("/nowhere/model"), ITEMS, events, "time", split={"kind": "leave_last_out"})


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["profile", *args])
    out, err = capsys.readouterr()
    assert not stopped.value.code, err
    return out


def test_columns_activity_time_and_duplicates(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, str(config), "--json"))
    columns = found["tables"]["catalog"]["columns"]
    facts = [{name: one[name] for name in ("name", "type", "missing", "distinct", "examples")} for one in columns]
    item_id, title, price = facts
    assert item_id == {"name": "item_id", "type": "text", "missing": 0, "distinct": 4, "examples": ["i0", "i1", "i2"]}
    assert title == {"name": "title", "type": "text", "missing": 0.5, "distinct": 2, "examples": ["soap", "comb"]}
    assert price == {"name": "price", "type": "number", "missing": 0.25, "distinct": 2, "examples": ["1.5", "2.0"]}
    assert [column["type"] for column in found["tables"]["interactions"]["columns"]] == ["text", "text", "time"]
    assert found["tables"]["interactions"]["rows"] == 10
    assert {band: count for band, count in found["users"]["bands"].items() if count} == {"1": 1, "2-4": 1, "5-9": 1}
    assert {band: count for band, count in found["items"]["bands"].items() if count} == {"0": 2, "2-4": 1, "5-9": 1}
    assert (found["users"]["most"], found["items"]["most"]) == (6, 6)
    assert found["items"]["top"] == pytest.approx(6 / 9)
    assert found["time"]["days"] == 17
    assert found["time"]["gaps"][0] == {"days": 10.0, "after": "2023-11-19T22:13:20+00:00",
                                        "before": "2023-11-29T22:13:20+00:00"}  # fmt: skip
    assert found["duplicates"] == {"rows": 1, "again": pytest.approx(4 / 9)}
    assert (found["facts"]["users"], found["facts"]["items"], found["facts"]["events"]) == (3, 4, 9)
    assert set(found["conclusions"]) >= {"split", "retrievers", "features", "rules", "scorer"}


def test_a_person_sees_tables_and_conclusions(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, str(config))
    flat = " ".join(out.split())
    assert "catalog: 4 rows" in flat
    assert "title text 50.0% 2 4 letters soap · comb" in flat
    assert "Most events of one user: 6; of one item: 6" in flat
    assert "2023-11-14 to 2023-12-01: 17.0 days" in flat
    assert "No event for 10.0 days from 2023-11-19T22:13 to 2023-11-29T22:13" in flat
    assert "1 row left out: same user, item, moment and kind as an earlier one" in flat
    assert "44% of the events repeat an earlier one of the same user and item" in flat


def test_where_only_order_is_known_there_are_no_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = pl.DataFrame(MOMENTS, schema=["user_id", "item_id", "timestamp"], orient="row")
    path = write_tiny_config(tmp_path, Path("/nowhere/model"), ITEMS, events, split={"kind": "leave_last_out"})
    assert "Only the order of events is known (clock: order)" in run(capsys, str(path))


def test_the_spread_and_the_common_values_of_columns(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, str(config), "--json"))
    item_id, title, price = found["tables"]["catalog"]["columns"]
    assert price["most_common"] == [{"value": "2.0", "count": 2}, {"value": "1.5", "count": 1}]
    assert price["histogram"]["of"] == "values"
    assert price["histogram"]["edges"][0] == pytest.approx(1.51)
    assert price["histogram"]["edges"][-1] == pytest.approx(2.0)
    assert (sum(price["histogram"]["counts"]), price["histogram"]["counts"][0]) == (3, 1)
    assert title["histogram"] == {"of": "letters", "edges": [4.0, 4.0], "counts": [2]}
    assert (item_id["most_common"], item_id["histogram"]["of"]) == ([], "letters")
    when = found["tables"]["interactions"]["columns"][2]["histogram"]
    assert when["of"] == "seconds"
    assert START <= when["edges"][0] < when["edges"][-1] <= START + 17 * DAY
    shown = run(capsys, str(config))
    assert "2.0 (2) · 1.5 (1)" in shown
    assert "2023-11-" in shown


def test_who_is_quicker_than_a_person_is_no_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One user clicks every ten seconds for an hour, one orders 400 lines at once, one clicks every fifteen seconds."""
    clicks = [("bot", f"i{n % 4}", START + 10 * n) for n in range(361)]
    order = [("buyer", f"i{n % 4}", START) for n in range(400)]
    person = [("person", f"i{n % 4}", START + 15 * n) for n in range(299)]
    events = pl.DataFrame(clicks + order + person, schema=["user_id", "item_id", "timestamp"], orient="row")
    path = write_tiny_config(tmp_path, Path("/nowhere/model"), ITEMS, events, "time", split={"kind": "leave_last_out"})
    found = json.loads(run(capsys, str(path), "--json"))
    assert found["bots"]["users"] == 1
    assert found["bots"]["share"] == pytest.approx(361 / (361 + 4 + 299))
    assert "1 user with events at 300 or more different moments within one hour" in run(capsys, str(path))


def test_activity_is_drawn(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, str(config), "--plot", str(tmp_path / "activity.svg"))
    assert "users" in (tmp_path / "activity.svg").read_text(encoding="utf-8")


def test_words_for_missing_are_those_of_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = ITEMS.with_columns(brand=pl.Series(["unknown", "Loom", "-", "nan"]))
    events = pl.DataFrame(
        [("u0", "i0", START), ("u0", "i1", START + DAY), ("u1", "i0", START), ("u1", "i1", START + DAY)],
        schema=["user_id", "item_id", "timestamp"], orient="row",
    )  # fmt: skip
    path = write_tiny_config(tmp_path, Path("/nowhere/model"), items, events, "time", split={"kind": "leave_last_out"})
    path.write_text(path.read_text(encoding="utf-8").replace("  clock: time", "  clock: time\n  missing: [Unknown]"),
                    encoding="utf-8")  # fmt: skip
    columns = json.loads(run(capsys, str(path), "--json"))["tables"]["catalog"]["columns"]
    brand = next(one for one in columns if one["name"] == "brand")
    assert (brand["missing"], brand["examples"]) == (0.5, ["Loom", "nan"])
