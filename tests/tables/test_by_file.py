"""Ids, times and partitions are settled file by file: what one file holds never changes how another is read."""

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from raw_tables import HEAD, RawTables

from recsys.errors import DataError

NOON = int(datetime(2025, 1, 1, 12, tzinfo=UTC).timestamp())


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


def days(tables):
    return [
        datetime.fromtimestamp(int(time) / 1e6, UTC).strftime("%Y-%m-%d %H:%M") for time in tables.interactions.time
    ]


def log(users, **columns):
    return pl.DataFrame({"user_id": users} | {"item_id": "a", "timestamp": "2025-01-01"} | columns)


# Ids


def test_whole_numbers_are_the_same_ids_in_integer_and_float_shards(shop):
    folder = shop.folder_of({"1.parquet": log([7, 8, None]), "2.parquet": log([8.0, 9.0])})
    tables = shop.load(interactions={"source": "parquet", "path": folder}, tolerated=0.5)
    assert tables.user_ids.to_list() == [7, 8, 9]
    assert tables.user_ids.dtype == pl.Int64
    assert tables.report["interactions"]["refused"] == {"user_id: missing": 1}


def test_floats_too_large_to_be_exact_are_refused_and_large_integers_are_not_rounded(shop):
    large = 2**53 + 1
    folder = shop.folder_of({"1.parquet": log([large, large + 1]), "2.parquet": log([float(large), 5.0])})
    tables = shop.load(interactions={"source": "parquet", "path": folder}, tolerated=0.5)
    assert tables.user_ids.to_list() == [5, large, large + 1]
    assert tables.report["interactions"]["refused"] == {"user_id: a float too large to be exact": 1}
    alone = shop.load(events=log([float(2**60), 5.0]), tolerated=0.5)
    assert alone.user_ids.to_list() == [5]
    assert alone.report["interactions"]["refused"] == {"user_id: a float too large to be exact": 1}
    folder = shop.folder_of({"2.parquet": log([float(2**60), 5.0])})
    mixed = shop.load(interactions={"source": "parquet", "path": folder}, tolerated=0.5)
    assert mixed.report["interactions"]["refused"] == {"user_id: a float too large to be exact": 1}
    assert shop.quarantine("interactions")["column"].to_list() == ["user_id"]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pl.Series([7, 12_987_950_667_314_430_627], dtype=pl.UInt64), ["12987950667314430627", "7"]),
        (pl.Series([7, 9], dtype=pl.UInt64), [7, 9]),
        (pl.Series([Decimal("7.000000000"), Decimal("9.000000000")], dtype=pl.Decimal(38, 9)), [7, 9]),
    ],
)
def test_unsigned_and_decimal_ids_are_read(shop, ids, expected):
    assert shop.load(events=log(ids)).user_ids.to_list() == expected


def test_a_decimal_with_a_fraction_is_no_id(shop):
    ids = pl.Series([Decimal("7.5"), Decimal("9.0")], dtype=pl.Decimal(10, 1))
    tables = shop.load(events=log(ids), tolerated=0.5)
    assert tables.user_ids.to_list() == [9]
    assert tables.report["interactions"]["refused"] == {"user_id: not a whole number": 1}


def test_ids_that_passed_through_floats_meet_whole_numbers_of_other_text_files(shop):
    folder = shop.folder_of(
        {"1.csv": HEAD + "17,a,2025-01-01\n", "2.csv": HEAD + "17.0,b,2025-01-02\n18.0,b,2025-01-02\n"}
    )
    assert shop.load(interactions={"path": folder}).user_ids.to_list() == [17, 18]


def test_words_for_missing_are_no_ids_and_a_setting_keeps_them(shop):
    events = HEAD + "nan,a,2025-01-01\nNone,b,2025-01-01\nu1,c,2025-01-01\nu1,NULL,2025-01-01\n"
    tables = shop.load(events=events)
    assert tables.user_ids.to_list() == ["u1"]
    assert tables.report["interactions"]["dropped"] == {
        "user_id: a word such as nan or None": 2,
        "item_id: a word such as nan or None": 1,
    }
    kept = shop.load(events=events, missing=[], tolerated=0.5)
    assert kept.user_ids.to_list() == ["None", "nan", "u1"]


# Times


def test_each_file_has_a_unit_of_its_own(shop):
    folder = shop.folder_of(
        {"1.csv": HEAD + f"u1,a,{NOON}000\nu1,b,{NOON + 60}000\n", "2.csv": HEAD + f"u2,a,{NOON + 120}\n"}
    )
    assert days(shop.load(interactions={"path": folder})) == [
        "2025-01-01 12:00",
        "2025-01-01 12:01",
        "2025-01-01 12:02",
    ]


def test_a_number_of_another_unit_than_the_rest_is_refused(shop):
    events = HEAD + "".join(f"u{n},a,{NOON + n}000\n" for n in range(9)) + f"u9,a,{NOON}\n"
    tables = shop.load(events=events, tolerated=0.1)
    assert tables.report["interactions"]["refused"] == {"timestamp: decades before the rest": 1}
    assert shop.quarantine("interactions")["value"].to_list() == [str(NOON)]


def test_zones_types_and_units_of_shards_make_one_line_of_instants(shop):
    at = datetime(2025, 1, 1, 12)
    stamps = {
        "1.parquet": pl.Series([at]).dt.replace_time_zone("UTC"),
        "2.parquet": pl.Series([at]).dt.replace_time_zone("Asia/Tokyo"),
        "3.parquet": pl.Series([at]),
        "4.parquet": pl.Series([NOON]),
        "5.parquet": pl.Series(["2025-01-01 12:00:00 UTC"]),
        "6.parquet": pl.Series([date(2025, 1, 1)]),
    }
    frames = {name: log([f"u{name[0]}"]).with_columns(timestamp=stamp) for name, stamp in stamps.items()}
    tables = shop.load(interactions={"source": "parquet", "path": shop.folder_of(frames)}, timezone="America/New_York")
    assert days(tables) == [
        "2025-01-01 12:00", "2025-01-01 03:00", "2025-01-01 17:00", "2025-01-01 12:00", "2025-01-01 12:00",
        "2025-01-01 05:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2019-10-01 00:00:00 UTC", "2019-10-01 00:00"),
        ("2019-10-01T00:00Z", "2019-10-01 00:00"),
        ("20191001T083000Z", "2019-10-01 08:30"),
        ("2019-10-01T08:30:00,5+0200", "2019-10-01 06:30"),
        ("2019-10-01 08:30:00 -0400", "2019-10-01 12:30"),
        ("2019-10-01T08+02", "2019-10-01 06:00"),
        ("2019-274", "2019-10-01 00:00"),
        ("2019-W40-2", "2019-10-01 00:00"),
        ("2019/10/01 08:30:00", "2019-10-01 08:30"),
        ("20191001", "2019-10-01 00:00"),
        ("20191001083000", "2019-10-01 08:30"),
        ("9/19/2017 9:45", "2017-09-19 09:45"),
        ("31/01/2025 08:00", "2025-01-31 08:00"),
        ("01.02.2025 08:00", "2025-02-01 08:00"),
        ("1/31/2025 2:14:46 PM", "2025-01-31 14:14"),
        ("31-12-24", "2024-12-31 00:00"),
        ("Jan 31, 2025", "2025-01-31 00:00"),
        ("31-Jan-2025 10:05", "2025-01-31 10:05"),
        ("31 January 2025", "2025-01-31 00:00"),
        ("Fri Jan 31 10:05:00 2025", "2025-01-31 10:05"),
        ("31/Jan/2025:10:05:00", "2025-01-31 10:05"),
    ],
)
def test_notations_of_time(shop, written, expected):
    assert days(shop.load(events=f'{HEAD}u1,a,"{written}"\n')) == [expected]


def test_the_whole_column_tells_day_and_month_apart(shop):
    rows = "".join(f"u{n},a,{n % 9 + 1:02d}/05/2025\n" for n in range(12_000))
    assert days(shop.load(events=HEAD + rows + "v,a,31/05/2025\n"))[-1] == "2025-05-31 00:00"
    tables = shop.load(events=HEAD + "u1,a,01/02/2025\n", day_first=False)
    assert days(tables) == ["2025-01-02 00:00"]
    assert days(shop.load(events=HEAD + "u1,a,01/02/2025\n", day_first=True)) == ["2025-02-01 00:00"]


def test_day_and_month_that_nothing_tells_apart_are_refused_with_both_readings(shop):
    with pytest.raises(
        DataError,
        match=r"'01/02/2025' is day 1 of month 2 or day 2 of month 1, .*set `day_first: true` or `day_first: false`",
    ):
        shop.load(events=HEAD + "u1,a,01/02/2025\nu1,b,03/04/2025\n")


# Files


def test_partitions_are_columns(shop):
    part = pl.DataFrame({"user_id": ["u1"], "item_id": ["a"]})
    folder = shop.folder_of(
        {
            "event=view/timestamp=2025-01-01/part-0.parquet": part,
            "event=buy%20it/timestamp=2025-01-01/part-0.parquet": part,
        }
    )
    tables = shop.load(interactions={"source": "parquet", "path": folder})
    assert tables.report["interactions"]["kinds"] == {"buy it": 1, "view": 1}


def test_hidden_files_are_passed_over_and_named(shop, caplog):
    rows = HEAD + "u1,a,2025-01-01\n"
    folder = shop.folder_of(
        {"day.csv": rows, "_temporary/0/part.csv": rows, ".ipynb_checkpoints/day.csv": rows, "_SUCCESS": ""}
    )
    with caplog.at_level("WARNING", logger="recsys"):
        assert shop.load(interactions={"path": folder}).report["interactions"]["rows"] == 1
    assert "2 hidden files are passed over, such as .ipynb_checkpoints/day.csv" in caplog.text


@pytest.mark.parametrize("name", ["export [2024].csv", "all*.csv", "what?.csv"])
def test_a_path_that_exists_is_that_path(shop, name):
    folder = shop.folder_of({name: HEAD + "u1,a,2025-01-01\n", "other.csv": "junk\n"})
    assert len(shop.load(interactions={"path": f"{folder}/{name}"}).interactions) == 1


def test_columns_of_any_name_are_the_users_own(shop):
    names = ["_row", "_file", "_dropped", "_refused", "_reason", "_item_id", "_price", "row", "line", "index"]
    items = pl.DataFrame({"item_id": ["a"], "title": ["Ants"]} | {name: [f"my {name}"] for name in names})
    frame = shop.load(items=items.write_csv(), events=log(["u1"]).with_columns(_user_id=pl.lit("x"))).catalog.frame
    assert frame.select(names).row(0) == tuple(f"my {name}" for name in names)


def test_files_that_do_not_fit_together_are_refused(shop):
    folder = shop.folder_of({"1.parquet": log(["u1"], tags=[{"name": "x"}]), "2.parquet": log(["u2"], tags=[b"x"])})
    with pytest.raises(DataError, match=r"the files of one table do not fit together: "):
        shop.load(interactions={"source": "parquet", "path": folder})
