"""Who is due: worlds whose rhythm is known, and a future that must not matter."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sold import sales_of, write_sold
from typer.testing import CliRunner

from recsys.business.reorders import find_reorders, study_reorders
from recsys.cli.app import app
from recsys.config import parse_config
from recsys.errors import ConfigError, DataError, UnknownIdError

WEEKLY, FORTNIGHTLY, GONE = "weekly", "fortnightly", "gone"


def rhythmic(until: int = 210) -> list[tuple[Any, ...]]:
    """Ten customers come each week for tea, ten every other week for cups, ten came weekly and stopped on day 100."""
    lines: list[tuple[Any, ...]] = []
    for number in range(10):
        lines += [(f"{WEEKLY}{number}", "tea", day, 6.0) for day in range(number % 7, until, 7)]
        lines += [(f"{FORTNIGHTLY}{number}", "cup", day, 2.0) for day in range(number % 14, until, 14)]
        lines += [(f"{GONE}{number}", "comb", day, 1.0) for day in range(number % 7, 100, 7)]
    return lines


def test_rhythms_become_probabilities() -> None:
    study = find_reorders(sales_of(rhythmic()), week=210)
    chance = dict(study.customers.select("user_id", "probability").iter_rows())
    assert study.week == date(1970, 7, 30)
    assert min(chance[f"{WEEKLY}{n}"] for n in range(10)) > 0.9
    assert max(chance[f"{GONE}{n}"] for n in range(10)) < 0.1
    # Of the fortnightly customers those are due whose 14 days end within the week: 210 = 15 * 14.
    due, not_due = [0, 1, 2, 3, 4, 5, 6], [7, 8, 9]
    assert min(chance[f"{FORTNIGHTLY}{n}"] for n in due) > max(chance[f"{FORTNIGHTLY}{n}"] for n in not_due) + 0.3
    assert study.measured["precision"] == pytest.approx(study.measured["came"] / 30)  # all 30 are among the 100
    assert study.measured["expected"] == pytest.approx(study.measured["came"], abs=1.5)


def test_items_have_their_usual_quantity_and_interval() -> None:
    lines = rhythmic()
    lines += [("weekly0", "soap", day, quantity) for day, quantity in ((0, 1.0), (21, 5.0), (56, 3.0))]
    items = find_reorders(sales_of(lines), week=210).of("weekly0").items
    assert items.select("item_id", "title", "quantity", "interval_days", "last").rows() == [
        ("tea", "Tea", 6.0, 7.0, date(1970, 7, 23)), ("soap", "Soap", 3.0, 28.0, date(1970, 2, 26)),
    ]  # fmt: skip
    assert items["probability"][0] > 0.8 > 0.2 > items["probability"][1]


def test_lines_of_one_day_are_one_purchase_of_their_sum() -> None:
    lines = [*rhythmic(), ("weekly0", "soap", 100, 2.0), ("weekly0", "soap", 100.5, 3.0), ("weekly0", "soap", 110, 5.0)]
    items = find_reorders(sales_of(lines), week=210).of("weekly0").items
    assert items.filter(item_id="soap").select("quantity", "interval_days").rows() == [(5.0, 10.0)]


def test_dropped_is_a_habit_that_stopped_while_the_customer_came() -> None:
    lines = rhythmic()
    lines += [("weekly1", "soap", day, 4.0) for day in range(1, 100, 7)]  # stopped on day 99, comes for tea
    lines += [("weekly2", "soap", day, 4.0) for day in (2, 9)]  # no habit
    lines += [("weekly3", "soap", day, 4.0) for day in (3, 73, 143)]  # 67 days of silence after gaps of 70
    dropped = find_reorders(sales_of(lines), week=210).dropped
    assert dropped.to_dicts() == [
        {"user_id": "weekly1", "item_id": "soap", "title": "Soap", "days": 15, "quantity": 4.0,
         "visits_since": 15, "interval_days": 7.0, "last": date(1970, 4, 10), "silent_days": 111},
    ]  # fmt: skip


def test_nothing_of_the_week_itself_is_known() -> None:
    known = rhythmic()
    rng = np.random.default_rng(3)
    later = [(f"gone{rng.integers(10)}", "tea", int(day), 9.0) for day in rng.integers(210, 400, 200)]
    one, other = find_reorders(sales_of(known), week=210), find_reorders(sales_of(known + later), week=210)
    for name in ("customers", "items", "dropped"):
        assert getattr(one, name).equals(getattr(other, name)), name
    assert one.measured == other.measured


def test_an_item_is_never_likelier_than_a_purchase() -> None:
    study = find_reorders(sales_of(rhythmic()))
    both = study.items.join(study.customers, on="user_id", suffix="_of_user")
    assert (both["probability"] <= both["probability_of_user"]).all()


@pytest.mark.parametrize(("lines", "said"), [
    ([("a", "tea", 0, 1.0), ("a", "tea", 30, 1.0)], "the log holds 31 days before 1970-02-01.*at least 42"),
    ([("a", "tea", 300, 1.0)], "no sale before the week.*at least 42 days"),
])  # fmt: skip
def test_too_short_a_log(lines: list[tuple[Any, ...]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        find_reorders(sales_of(lines), week=31 if len(lines) == 2 else 200)


def test_a_week_in_which_everybody_comes() -> None:
    everybody = [(f"u{n}", "tea", day, 1.0) for n in range(3) for day in range(0, 100, 7)]
    assert (find_reorders(sales_of(everybody)).customers["probability"] > 0.9).all()


def test_a_log_without_repeats() -> None:
    once = [(f"u{day}", "tea", day, 1.0) for day in range(100)]
    study = find_reorders(sales_of(once))
    assert (study.items.height, study.dropped.height, study.customers.height) == (0, 0, 100)
    assert study.customers["interval_days"].null_count() == 100


def test_representatives_and_the_command(tmp_path: Path) -> None:
    reps = {WEEKLY: "Ann", FORTNIGHTLY: "Bob", GONE: None}
    lines = [(*line, reps[line[0].rstrip("0123456789")]) for line in rhythmic()]
    config = write_sold(tmp_path, lines, ["rep"])
    study = study_reorders(parse_config(config), by="rep")
    assert study.by("Bob").customers.height == 10
    with pytest.raises(UnknownIdError, match="no customer is of 'Carl'; some that are there: Ann, Bob"):
        study.by("Carl")
    with pytest.raises(UnknownIdError, match="no customer 'x' bought anything before 1970-07-30"):
        study.of("x")
    with pytest.raises(DataError, match=r"has no column 'seller'.*its columns: .*rep"):
        study_reorders(parse_config(config), by="seller")
    path = tmp_path / "sold.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    called = CliRunner().invoke(app, ["reorders", str(path), "--by", "rep", "--only", "Ann", "-k", "3", "--json"])
    found = json.loads(called.stdout)
    assert [one["by"] for one in found["customers"]] == ["Ann"] * 3
    assert found["items"][0]["item_id"] == "tea"
    assert found["week"] == "1970-07-30"
    plain = CliRunner().invoke(app, ["reorders", str(path), "--user", "weekly3"])
    assert "weekly3" in plain.stdout
    assert "weekly4" not in plain.stdout
    alone = CliRunner().invoke(app, ["reorders", str(path), "--only", "Ann"])
    assert (alone.exit_code, "--only needs --by" in alone.stderr) == (2, True)


def test_a_log_without_times(tmp_path: Path) -> None:
    config = write_sold(tmp_path, rhythmic())
    config["data"]["clock"] = "order"
    with pytest.raises(ConfigError, match=r"data.clock is `order`: sales by day and week need a column of timestamps"):
        study_reorders(parse_config(config))


def test_quantities_are_those_of_the_log(tmp_path: Path) -> None:
    """A forgotten customer, a line twice, a quantity of zero and a further column, through the config's own reader."""
    from recsys.privacy.forget import forget
    from recsys.tables.sales import load_sales

    lines = [("a", "tea", 0, 2.0, 1.5), ("a", "tea", 0, 2.0, 1.5), ("a", "tea", 0, 3.0, 1.5), ("b", "cup", 1, 0.0, 4.0),
             ("c", "cup", 1, 1.0, -1.0)]  # fmt: skip
    loaded = parse_config(write_sold(tmp_path, lines, ["price"]))
    sales = load_sales(loaded.data, loaded.folder)
    assert sales.frame.select("user", "day", "quantity", "price").rows() == [
        (0, 0, 2.0, 1.5), (0, 0, 3.0, 1.5), (1, 1, None, 4.0), (2, 1, 1.0, None),
    ]  # fmt: skip
    (loaded.folder / "versions").mkdir(parents=True)
    forget(loaded.folder, ["a"], data=loaded.data)
    assert load_sales(loaded.data, loaded.folder).user_ids.to_list() == ["b", "c"]
