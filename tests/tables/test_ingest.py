"""What `load_tables` promises for tables of any shop, at the public door: a config and files in, Tables out."""

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_shop import SHOP, THEMES, make_shop, oracle_recall, write_shop
from raw_tables import HEAD, RawTables, events_of

from recsys.config import DataConfig
from recsys.errors import ConfigError, DataError
from recsys.tables.ingest import load_tables

DAY = 86_400_000_000


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


def micros(*when, tz=UTC):
    return int(datetime(*when, tzinfo=tz).timestamp()) * 1_000_000


# Shapes


def test_tables_are_coded_sorted_and_typed(shop):
    events = HEAD + "u2,b,2025-01-02\nu1,c,2025-01-03\nu1,a,2025-01-01\nu2,a,2025-01-01\nu1,b,2025-01-01\n"
    tables = shop.load(events=events)
    found = tables.interactions
    assert tables.user_ids.to_list() == ["u1", "u2"]
    assert found.user.tolist() == [0, 0, 0, 1, 1]
    assert found.item.tolist() == [0, 1, 2, 0, 1], "same time: file order"
    assert found.time.tolist() == [micros(2025, 1, d) for d in (1, 1, 3, 1, 2)]
    assert (found.user.dtype, found.item.dtype, found.time.dtype) == (np.int32, np.int32, np.int64)
    assert (found.weight.dtype, found.target.dtype) == (np.float32, np.bool_)
    assert found.weight.tolist() == [1.0] * 5
    assert found.target.all()
    assert tables.clock == "time"
    assert tables.catalog.frame.columns == ["item_id", "title", "description", "category", "brand", "price"]
    assert tables.catalog.frame["price"].to_list() == [1.0, 2.0, 3.0]


def test_report_counts_every_row_and_is_json(shop):
    events = HEAD + "u1,a,2025-01-01\nu1,a,2025-01-01\nu1,zz,2025-01-01\nu2,b,2025-01-02\n"
    report = json.loads(json.dumps(shop.load(events=events, tolerated=0.5).report))
    about = report["interactions"]
    assert (about["rows"], about["kept"], about["duplicates"], about["users"], about["items"]) == (4, 2, 1, 2, 2)
    assert about["refused"] == {"item_id: not in the catalogue": 1}
    assert about["kinds"] == {"interaction": 2}
    assert (about["first"], about["last"]) == ("2025-01-01T00:00:00+00:00", "2025-01-02T00:00:00+00:00")
    assert report["catalog"]["empty"]["brand"] == 3


def test_one_user_and_one_item_are_enough(shop):
    tables = shop.load(items="item_id\na\n")
    assert events_of(tables) == [("u1", "a", micros(2025, 1, 1))]
    assert tables.catalog.titles == ["a"]


def test_texts_of_any_script_and_length_survive(shop):
    long = " ".join(["word"] * 10_000)
    items = pl.DataFrame(
        {"item_id": ["a", "b", "c"], "title": [long, "龙井茶杯", "mug 🎁"], "category": ["茶>茶具", None, " > "]}
    )
    tables = shop.load(items=items, catalog={"category_separator": ">"})
    assert tables.catalog.frame["title"].to_list() == [long, "龙井茶杯", "mug 🎁"]
    assert tables.catalog.frame["category"].to_list() == ["茶 > 茶具", None, None]


def test_lists_of_strings_are_joined(shop):
    items = pl.DataFrame({"item_id": ["a"], "category": [["Home ", "", "Tea"]], "description": [["Warm.", "Round."]]})
    frame = shop.load(items=items).catalog.frame
    assert frame["category"].to_list() == ["Home > Tea"]
    assert frame["description"].to_list() == ["Warm. Round."]


def test_extra_columns_of_the_catalogue_keep_their_types(shop):
    csv = "item_id,stock,size,ean,colour,weight\na,true,1,007,red,1.5\nb,false,,12,,2\n"
    frame = shop.load(items=csv).catalog.frame
    assert frame["stock"].to_list() == [True, False]
    assert frame["size"].to_list() == [1, None]
    assert frame["ean"].to_list() == ["007", "12"], "a leading zero is no number"
    assert frame["colour"].to_list() == ["red", None]
    assert frame["weight"].to_list() == [1.5, 2.0]
    parquet = pl.DataFrame({"item_id": ["a"], "ean": ["12"], "tags": [["x", "y"]]})
    frame = shop.load(items=parquet).catalog.frame
    assert frame.select("ean", "tags").rows() == [("12", ["x", "y"])]


def test_columns_are_mapped(shop):
    events = "who,what,position,timestamp\nu1,a,3,junk\nu1,b,1,junk\n"
    columns = {"user_id": "who", "item_id": "what", "timestamp": "position"}
    tables = shop.load(events=events, interactions={"columns": columns}, clock="order")
    assert events_of(tables) == [("u1", "b", 1), ("u1", "a", 3)]


# Ids


@pytest.mark.parametrize("ids", [[3, 11, 2], ["x", "b", "a"]])
def test_user_ids_keep_their_dtype(shop, ids):
    events = pl.DataFrame({"user_id": ids, "item_id": ["a"] * 3, "timestamp": ["2025-01-01"] * 3})
    users = shop.load(events=events).user_ids
    assert users.to_list() == sorted(ids)
    assert users.dtype == (pl.Int64 if isinstance(ids[0], int) else pl.String)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["10", "9"], [9, 10]),
        (["010", "9"], ["010", "9"]),
        (["10", "x"], ["10", "x"]),
        (["1.0", "2.5"], ["1.0", "2.5"]),
    ],
)
def test_csv_ids_are_numbers_only_where_nothing_is_lost(shop, written, read):
    assert shop.load(events=HEAD + "".join(f"{u},a,2025-01-01\n" for u in written)).user_ids.to_list() == read


@pytest.mark.parametrize("in_catalog", [pl.Int32, pl.String, pl.Float64])
@pytest.mark.parametrize("in_events", [pl.Int64, pl.String, pl.Float64])
def test_item_ids_of_different_dtypes_meet(shop, in_catalog, in_events):
    def column(ids, dtype):
        return pl.Series(ids).cast(dtype) if dtype != pl.String else pl.Series(ids).cast(pl.String)

    items = pl.DataFrame({"item_id": column([7, 8], in_catalog)})
    events = pl.DataFrame({"user_id": ["u"], "item_id": column([8], in_events), "timestamp": ["2025-01-01"]})
    tables = shop.load(items=items, events=events)
    assert tables.interactions.item.tolist() == [1]
    assert tables.catalog.ids.dtype == (pl.String if in_catalog == pl.String else pl.Int64)


# Time


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("2025-01-02T03:04:05Z", "Asia/Tokyo", micros(2025, 1, 2, 3, 4, 5)),
        ("2025-01-02 03:04:05+02:00", "Asia/Tokyo", micros(2025, 1, 2, 1, 4, 5)),
        ("2025-01-02T03:04:05.5-0330", "UTC", micros(2025, 1, 2, 6, 34, 5) + 500_000),
        ("2025-01-02 03:04:05", "UTC", micros(2025, 1, 2, 3, 4, 5)),
        ("2025-01-02 03:04", "Asia/Tokyo", micros(2025, 1, 1, 18, 4)),
        ("2025-07-02", "Europe/London", micros(2025, 7, 1, 23)),
        ("2025-10-26 01:30:00", "Europe/London", micros(2025, 10, 26, 0, 30)),
        ("1735787045", "Asia/Tokyo", micros(2025, 1, 2, 3, 4, 5)),
        ("1735787045.25", "UTC", micros(2025, 1, 2, 3, 4, 5) + 250_000),
        ("1735787045000", "UTC", micros(2025, 1, 2, 3, 4, 5)),
        ("1735787045000000", "UTC", micros(2025, 1, 2, 3, 4, 5)),
        ("1735787045000000000", "UTC", micros(2025, 1, 2, 3, 4, 5)),
    ],
)
def test_times_as_text(shop, written, zone, expected):
    assert shop.load(events=HEAD + f"u1,a,{written}\n", timezone=zone).interactions.time.tolist() == [expected]


def test_zones_may_be_mixed_in_one_column(shop):
    events = HEAD + "u1,a,2025-01-01T12:00:00+05:00\nu1,b,2025-01-01T12:00:00Z\nu1,c,2025-01-01 12:00:00\n"
    tables = shop.load(events=events, timezone="America/New_York")
    assert [int(t) for t in tables.interactions.time] == [micros(2025, 1, 1, h) for h in (7, 12, 17)]


def test_an_hour_that_the_clocks_skipped_is_refused(shop):
    events = HEAD + "u1,a,2025-03-30 01:30:00\nu1,a,2025-03-30 02:30:00\n"
    tables = shop.load(events=events, timezone="Europe/London", tolerated=0.5)
    assert events_of(tables) == [("u1", "a", micros(2025, 3, 30, 1, 30))]
    assert tables.report["interactions"]["refused"] == {"timestamp: not a time": 1}


@pytest.mark.parametrize(
    ("column", "zone"),
    [
        (pl.Series([datetime(2025, 1, 1, 12)]), "UTC"),
        (pl.Series([datetime(2025, 1, 1, 12)]).cast(pl.Datetime("ns")), "UTC"),
        (pl.Series([datetime(2025, 1, 1, 21)]), "Asia/Tokyo"),
        (pl.Series([datetime(2025, 1, 1, 7, tzinfo=timezone(timedelta(hours=-5)))]), "Asia/Tokyo"),
        (pl.Series([1735732800]), "Asia/Tokyo"),
        (pl.Series([1735732800.0, None]), "Asia/Tokyo"),
    ],
)
def test_times_of_other_dtypes(shop, column, zone):
    events = pl.DataFrame({"timestamp": column, "user_id": "u", "item_id": "a"})
    assert shop.load(events=events, timezone=zone, tolerated=0.5).interactions.time.tolist() == [micros(2025, 1, 1, 12)]


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_moments_that_no_calendar_holds_are_refused(shop, unit, zone):
    """Such as the ends of 64 bits, at which polars panics when it writes or converts them."""
    good = micros(2025, 1, 1, 12) * {"ms": 1, "us": 1_000, "ns": 1_000_000}[unit] // 1_000
    times = pl.Series([2**63 - 1, 1 - 2**63, good], dtype=pl.Int64).cast(pl.Datetime(unit, zone))
    events = pl.DataFrame({"timestamp": times, "user_id": "u", "item_id": "a", "seen": times})
    tables = shop.load(events=events, timezone=zone or "UTC", tolerated=0.9)
    assert tables.interactions.time.tolist() == [micros(2025, 1, 1, 12)]
    assert tables.report["interactions"]["refused"] == {"timestamp: in the future": 1, "timestamp: before 1970": 1}
    assert shop.quarantine("interactions").height == 2


def test_a_date_is_midnight_in_the_zone(shop):
    events = pl.DataFrame({"timestamp": [datetime(2025, 1, 1).date()], "user_id": "u", "item_id": "a"})
    assert shop.load(events=events, timezone="Asia/Tokyo").interactions.time.tolist() == [micros(2024, 12, 31, 15)]


def test_one_odd_number_does_not_change_the_unit(shop):
    events = HEAD + "".join(f"u{n},a,{1735787045 + n}\n" for n in range(9)) + "u9,a,1735787045000\n"
    tables = shop.load(events=events, tolerated=0.1)
    assert tables.report["interactions"]["refused"] == {"timestamp: in the future": 1}


def test_under_clock_order_any_integer_is_used_as_is(shop):
    tables = shop.load(events=HEAD + f"u1,a,{9 * 10**18}\nu1,b,-5\nu1,c,x\nu1,c,1.5\n", clock="order", tolerated=0.5)
    assert events_of(tables) == [("u1", "b", -5), ("u1", "a", 9 * 10**18)]
    assert tables.report["interactions"]["refused"] == {"timestamp: not a whole number": 2}
    assert tables.report["interactions"]["first"] == -5
    events = pl.DataFrame({"timestamp": [datetime(2025, 1, 1)], "user_id": "u", "item_id": "a"})
    with pytest.raises(DataError, match="1 of 1 rows were refused"):
        shop.load(events=events, clock="order")


def test_numbers_too_small_to_be_times_are_named(shop):
    with pytest.raises(DataError, match=r"first 3 is 7, too small for seconds since 1970: write `clock: order`"):
        shop.load(events=HEAD + "u1,a,7\nu1,b,8\nu2,b,0\n")
    with pytest.raises(DataError, match=r"first 1 is 20259931"):
        shop.load(events=HEAD + "u1,a,20259931\n")


def test_unknown_time_zone(shop):
    with pytest.raises(ConfigError, match=r"unknown time zone 'Europe/Londom'; did you mean 'Europe/London'"):
        shop.load(timezone="Europe/Londom")


# What the config leaves out


def test_unknown_items_can_be_dropped_instead(shop):
    events = HEAD + "u1,a,2025-01-01\nu1,zz,2025-01-01\nu1,zy,2025-01-01\n"
    tables = shop.load(events=events, unknown_items="drop")
    assert tables.report["interactions"]["dropped"] == {"item_id: not in the catalogue": 2}
    assert tables.report["interactions"]["refused"] == {}


KINDS = "user_id,item_id,timestamp,event,value\n" + (
    "u1,a,2025-01-01,view,\nu1,a,2025-01-01,buy,2\nu1,b,2025-01-02,buy,1\nu1,,2025-01-03,search,\n"
)


def test_kinds_are_weighed_targeted_and_left_out(shop):
    wanted = {"events": {"view": 0.5, "buy": 3}, "targets": ["buy"]}
    tables = shop.load(events=KINDS, interactions=wanted)
    assert tables.interactions.weight.tolist() == [0.5, 3.0, 3.0]
    assert tables.interactions.target.tolist() == [False, True, True]
    assert tables.report["interactions"]["dropped"] == {"event: search": 1}, "and its missing item refuses nothing"
    assert tables.report["interactions"]["kinds"] == {"buy": 2, "view": 1}


def test_min_value_leaves_out_low_values_and_keeps_those_without(shop):
    tables = shop.load(events=KINDS, interactions={"events": {"view": 1, "buy": 1}, "min_value": 2})
    assert tables.report["interactions"]["dropped"] == {"event: search": 1, "value: below 2": 1}
    assert len(tables.interactions) == 2


def test_values_that_are_not_finite_are_counted(shop):
    events = "user_id,item_id,timestamp,value\nu1,a,2025-01-01,nan\nu1,b,2025-01-01,inf\nu1,c,2025-01-01,1\n"
    assert shop.load(events=events).report["interactions"]["not_finite"] == {"value": 2}


def test_positions_may_be_floats_if_whole(shop):
    events = pl.DataFrame({"user_id": "u", "item_id": "a", "timestamp": [3.0, 1.5, None]})
    tables = shop.load(events=events, clock="order", tolerated=0.7)
    assert events_of(tables) == [("u", "a", 3)]
    assert tables.report["interactions"]["refused"] == {"timestamp: not a whole number": 1, "timestamp: missing": 1}


def test_an_empty_kind_is_refused(shop):
    tables = shop.load(events=KINDS.replace("view", ""), tolerated=0.5)
    assert tables.report["interactions"]["refused"] == {"event: missing": 1, "item_id: missing": 1}


def test_target_that_no_event_has(shop):
    with pytest.raises(
        ConfigError, match=r"no event kept is of kind 'bye'; did you mean 'buy'\?; kinds kept: buy, view"
    ):
        shop.load(events=KINDS, interactions={"events": {"view": 1, "buy": 1}, "targets": ["bye"]})


def test_nothing_left(shop):
    with pytest.raises(
        DataError, match=r"none of the 4 rows is left; refused: none; dropped: event: buy \(2\), event: "
    ):
        shop.load(events=KINDS, interactions={"events": {"purchase": 1}})


@pytest.mark.parametrize("name", ["items", "events"])
def test_a_table_without_rows(shop, name):
    head = {"items": "item_id,title\n", "events": HEAD}[name]
    with pytest.raises(DataError, match=rf"{name}.csv has no rows"):
        shop.load(**{name: head})


# Columns


def test_missing_column_says_what_to_write(shop):
    with pytest.raises(DataError) as caught:
        shop.load(events="user_id,item_id,timestmp\nu1,a,2025-01-01\n")
    message = str(caught.value)
    assert "events.csv has no column 'timestamp'; did you mean 'timestmp'?" in message
    assert "its columns: user_id, item_id, timestmp" in message
    assert "under data.interactions: `columns: {timestamp: timestmp}`" in message
    with pytest.raises(
        DataError, match=r"items.csv has no column 'item_id'; its columns: sku; .*`columns: {item_id: NAME_IN_FILE}`"
    ):
        shop.load(items="sku\na\n")


def test_mapped_column_that_the_file_lacks(shop):
    with pytest.raises(
        DataError, match=r"data.catalog.columns: title is mapped to 'nam', .*items.csv has no .*did you mean 'name'"
    ):
        shop.load(items="item_id,name\na,x\n", catalog={"columns": {"title": "nam"}})


def test_mapping_of_a_column_that_is_not_ours(shop):
    with pytest.raises(
        ConfigError, match=r"data.interactions.columns: 'usr_id' is no column of ours; did you mean 'user_id'"
    ):
        shop.load(interactions={"columns": {"usr_id": "user_id"}})


@pytest.mark.parametrize(
    ("column", "value", "held"),
    [
        ("item_id", ["a"], r"List\(String\)"),
        ("timestamp", timedelta(days=1), "Duration"),
        ("value", {"x": 1}, "Struct"),
    ],
)
def test_column_of_an_impossible_dtype(shop, column, value, held):
    row = {"user_id": "u", "item_id": "a", "timestamp": "2025-01-01"} | {column: value}
    with pytest.raises(DataError, match=rf"events.parquet: column '{column}' holds {held}.*, which {column} cannot be"):
        shop.load(events=pl.DataFrame([row]))


# Properties


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.sampled_from(["a", "b", "c", "zz", None]), st.integers(0, 3), st.sampled_from("vp")
        ),
        min_size=1,
        max_size=40,
    )
)
def test_every_row_is_counted_once_and_the_first_of_equals_stays_in_file_order(shop, rows):
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "event"], orient="row")
    frame = frame.cast({"item_id": pl.String})
    known = [row for row in rows if row[1] in ("a", "b", "c")]
    if not known:
        return
    tables = shop.load(events=frame, clock="order", tolerated=1)
    about = tables.report["interactions"]
    assert about["rows"] == len(rows)
    assert about["kept"] + about["duplicates"] + sum(about["refused"].values()) == len(rows)
    expected = sorted(dict.fromkeys(known), key=lambda row: (row[0], row[2]))
    assert events_of(tables) == [(u, i, t) for u, i, t, _ in expected]


# The made-up shop


def test_committed_shop_is_what_its_generator_writes(tmp_path):
    write_shop(tmp_path)
    for name in ("items.csv", "events.csv"):
        assert (tmp_path / name).read_bytes() == (SHOP / name).read_bytes()


def test_oracle_of_the_shop():
    shop = make_shop()
    assert oracle_recall(shop, 10) == pytest.approx((0.805, 0.803), abs=0.001)
    assert oracle_recall(shop, 10, seen="drop") == pytest.approx((0.625, 0.623), abs=0.001)
    assert all(visit.chances.sum() == pytest.approx(1) and visit.chances[visit.item] > 0 for visit in shop.last)


def test_the_shop_loads(tmp_path):
    data = DataConfig(
        catalog={"source": "csv", "path": str(SHOP / "items.csv")},
        interactions={
            "source": "csv",
            "path": str(SHOP / "events.csv"),
            "events": {"view": 1, "purchase": 3},
            "targets": ["purchase"],
        },
    )
    tables = load_tables(data, tmp_path)
    about = tables.report["interactions"]
    assert (about["rows"], about["users"], about["refused"], about["duplicates"]) == (9782, 600, {}, 0)
    assert about["kinds"] == {"purchase": 7838, "view": 1944}
    assert len(tables.catalog) == 344
    assert tables.catalog.frame["stock"].dtype == pl.Boolean
    assert set(THEMES) <= set(tables.catalog.frame["category"])
    last = {visit.user: f"i{visit.item:03d}" for visit in make_shop().last}
    found = tables.interactions.take(tables.interactions.target)
    ends = found.offsets[1:] - 1
    assert [tables.catalog.ids[int(i)] for i in found.item[ends]] == [last[user] for user in tables.user_ids]
