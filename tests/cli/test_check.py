"""`recsys check`: what would stop a run, in a line each, before anything is encoded."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from shops import write_shop_config, write_tiny_config

from recsys import extras
from recsys.cli import main
from recsys.config import load_config

ITEMS = pl.DataFrame({"item_id": [f"i{n}" for n in range(4)], "title": ["soap", "comb", "lamp", "book"]})
ROWS = [(f"u{user}", f"i{(user + time) % 4}", time) for user in range(5) for time in range(4)]
EVENTS = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")
LAST = {"kind": "leave_last_out"}


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]):
    def run(config: Path, *options: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["check", str(config), *options])
        return int(stopped.value.code or 0), capsys.readouterr().out

    return run


def lines_of(out: str) -> dict[str, tuple[str, str]]:
    """Status and text by name."""
    split = [line.split(None, 1) for line in out.splitlines()]
    return {rest.partition(": ")[0]: (status, rest.partition(": ")[2]) for status, rest in split}


def test_a_run_that_will_do_is_described_and_nothing_is_encoded(check, tmp_path: Path, tiny_model: Path) -> None:
    config = write_shop_config(tmp_path, tiny_model)
    code, out = check(config)
    assert code == 0, out
    lines = lines_of(out)
    assert {status for status, _ in lines.values()} == {"OK"}
    assert lines["encoder"][1] == f"{tiny_model} in {tiny_model}"
    assert lines["catalog"][1] == "344 rows read, 344 kept"
    assert lines["interactions"][1] == "9,782 rows read, 9,782 kept"
    assert lines["log"][1].startswith("9,782 events of 600 users on 338 of 344 items, from 2025-01-01 to 2025-07-19; ")
    assert lines["evaluate"][1] == lines["train"][1] == "can be run"
    assert not load_config(config).vector_folder.exists()


def test_the_cuts_are_counted(check, tmp_path: Path, tiny_model: Path) -> None:
    config = write_tiny_config(tmp_path, tiny_model, ITEMS, EVENTS, split=LAST, rules={"seen": "keep"})
    code, out = check(config, "--json")
    found = {one["name"]: one for one in json.loads(out)}
    assert code == 0
    assert found["test cut"]["numbers"] == {"known": 15, "labels": 5, "users": 5, "new_users": 0}
    assert found["cut 1"]["numbers"] == {"known": 10, "labels": 5, "users": 5, "new_users": 0}
    assert found["log"]["numbers"] == {"users": 5, "items": 4, "items_with_events": 4, "events": 20, "targets": 20}
    expected = "before each user's last target event: 15 known events, 5 labels of 5 users"
    assert found["test cut"]["text"] == expected


def test_an_impossible_split_fails_with_the_code_of_data(check, tmp_path: Path, tiny_model: Path) -> None:
    config = write_shop_config(tmp_path, tiny_model, split={"kind": "time", "horizon_days": 10_000})
    code, out = check(config)
    lines = lines_of(out)
    assert code == 4
    for run in ("train", "evaluate"):
        status, text = lines[run]
        assert status == "FAIL"
        assert text.startswith("the split leaves 0 known events and 7838 labels of 9782 events: both sides need some")
    assert "test cut" not in lines


def test_a_log_that_trains_but_cannot_be_judged_says_which(check, tmp_path: Path, tiny_model: Path) -> None:
    few = EVENTS.filter(pl.col("timestamp") < 2)
    code, out = check(write_tiny_config(tmp_path, tiny_model, ITEMS, few, split=LAST))
    lines = lines_of(out)
    assert (code, lines["train"][0], lines["evaluate"][0]) == (4, "OK", "FAIL")
    assert lines["evaluate"][1].startswith("the split leaves 5 known events and 0 labels of 5 events")


def test_rows_left_out_by_rule_are_a_warning_with_their_number(check, tmp_path: Path, tiny_model: Path) -> None:
    strange = pl.DataFrame([(f"u{n}", "gone", 9) for n in range(5)], schema=EVENTS.schema, orient="row")
    path = write_tiny_config(tmp_path, tiny_model, ITEMS, pl.concat([EVENTS, strange]), split=LAST)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  clock: order\n", "  clock: order\n  unknown_items: drop\n"), encoding="utf-8")
    code, out = check(path)
    assert code == 0
    expected = "25 rows read, 20 kept; left out: 5 item_id: not in the catalogue; 5 of 25 rows (20%) are left out: "
    expected += "item_id: not in the catalogue; check that both tables write item ids alike"
    assert lines_of(out)["interactions"] == ("WARN", expected)


def test_a_missing_encoder_and_package_fail_with_the_code_of_config(check, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "train", ("scipy", "no_such_module"))
    code, out = check(write_tiny_config(tmp_path, Path("/nowhere/model"), ITEMS, EVENTS, split=LAST))
    lines = lines_of(out)
    assert code == 3
    assert lines["packages"] == ("FAIL", "no_such_module missing: pip install 'recsys[train]'")
    assert lines["encoder"] == ("FAIL", "embedding.model: the folder /nowhere/model does not exist")
    assert lines["train"] == ("OK", "can be run")


def test_a_name_that_only_the_hub_can_have_is_a_warning(check, tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path, Path("someone/some-bert"), ITEMS, EVENTS, split=LAST)
    status, text = lines_of(check(config)[1])["encoder"]
    assert status == "WARN"
    assert text.startswith("someone/some-bert is no folder and no installed package: a run looks for it on the Hugging")


def test_a_table_that_cannot_be_read_ends_as_in_every_run(check, tmp_path: Path, tiny_model: Path) -> None:
    config = write_tiny_config(tmp_path, tiny_model, ITEMS, EVENTS, split=LAST)
    (tmp_path / "events.parquet").unlink()
    assert check(config) == (4, "")
