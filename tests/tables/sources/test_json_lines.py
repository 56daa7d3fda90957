"""JSON lines: keys that come late, what Python writes, and lists of events."""

import json

import pytest
from raw_tables import RawTables

from recsys.errors import DataError


@pytest.fixture
def shop(tmp_path):
    return RawTables(tmp_path)


def load(shop, lines, **settings):
    path = shop.write(
        "events.jsonl", "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    )
    data = {key: settings.pop(key) for key in ("tolerated",) if key in settings}
    return shop.load(interactions={"source": "jsonl", "path": path} | settings, **data)


def event(n, **further):
    return {"user_id": f"u{n}", "item_id": "a", "timestamp": "2025-01-01"} | further


def test_a_key_counts_wherever_it_first_appears(shop):
    tables = load(shop, [*map(event, range(1_100)), event(1_100, event="buy")], tolerated=1)
    assert tables.report["interactions"]["kinds"] == {"buy": 1}
    assert tables.report["interactions"]["refused"] == {"event: missing": 1_100}


def test_a_byte_order_mark_is_no_part_of_the_first_line(shop):
    assert len(load(shop, ["\ufeff" + json.dumps(event(0)) + "\n", event(1)]).interactions) == 2


def test_numbers_that_json_has_not_are_missing(shop):
    tables = load(shop, [event(0, value=float("nan")), event(1, value=float("-inf")), event(2, value=2, note=": NaN")])
    assert (len(tables.interactions), tables.report["interactions"]["refused"]) == (3, {})


def test_a_list_of_events_is_exploded(shop):
    lines = [
        {"session": 1, "events": [{"aid": "a", "ts": 1659304800025}, {"aid": "b", "ts": 1659304904511}]},
        {"session": 2, "events": [{"aid": "c", "ts": 1659304904511}]},
        {"session": 3, "events": []},
    ]
    columns = {"user_id": "session", "item_id": "events.aid", "timestamp": "events.ts"}
    tables = load(shop, lines, explode="events", columns=columns)
    assert tables.user_ids.to_list() == [1, 2]
    assert tables.interactions.item.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"item_id is mapped to 'events.aid'.*set `explode: events` under data"):
        load(shop, lines, columns=columns)
    with pytest.raises(DataError, match=r"explode: 'session' is no list of objects; such keys: events"):
        load(shop, lines, explode="session", columns=columns)
