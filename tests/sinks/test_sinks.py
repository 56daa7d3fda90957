"""What every sink promises: readers see a whole generation, a killed run goes on, and what went before is cleared."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import database
import polars as pl
import pytest
from servers import S3, Postgres, RedisServer

from recsys.errors import ArtifactError, ConfigError
from recsys.sinks.base import SINKS, Sink, generation_of, open_sink
from recsys.sinks.folder import Counts

SHARDS = 3
FULL = Counts(rows=4, full=2)


def plan(model: str = "m1") -> dict[str, Any]:
    return {"model_version": model, "k": 2, "shard_users": 2, "users": 2 * SHARDS}


def shard(number: int, model: str = "m1") -> pl.DataFrame:
    """Two items for each of two users."""
    users = [f"u{2 * number}", f"u{2 * number}", f"u{2 * number + 1}", f"u{2 * number + 1}"]
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return pl.DataFrame(
        {"user_id": users, "item_id": [f"{model}a", "b"] * 2, "rank": [1, 2] * 2, "score": [0.5, 0.25] * 2,
         "probability": [0.5, None] * 2, "source": "popularity", "model_version": model, "generated_at": now},
        schema_overrides={"rank": pl.Int32, "score": pl.Float32, "probability": pl.Float32},
    )  # fmt: skip


def run(sink: Sink, model: str = "m1", stop: int | None = None) -> list[int]:
    """Write the shards that are missing, none from `stop` on; returns which were written."""
    written = []
    with sink.open(plan(model)) as generation:
        done = dict(generation.written())
        for number in range(SHARDS):
            if number == stop:
                return written
            if number not in done:
                generation.write(number, shard(number, model), FULL)
                written.append(number)
                done[number] = FULL
        assert done == dict.fromkeys(range(SHARDS), FULL)
        generation.publish(plan(model) | {"rows": 4 * SHARDS, "shards": SHARDS})
    return written


@dataclass(frozen=True)
class Place:
    """A sink, and its reader: the first item of each user, by user; None where a reader sees nothing."""

    sink: Sink
    read: Callable[[], dict[str, str] | None]
    of_one_model: bool = False


def first_items(frame: pl.DataFrame) -> dict[str, str]:
    return dict(frame.filter(pl.col("rank") == 1).select("user_id", "item_id").rows())


@pytest.fixture(params=["folder", *SINKS])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    name = re.sub(r"\W", "_", request.node.name).lower()[-30:].strip("_")
    name = f"t{name}"
    if request.param == "folder":
        out = tmp_path / "out"

        def in_folder() -> dict[str, str] | None:
            return first_items(pl.read_parquet(out / "*.parquet")) if (out / "_SUCCESS").exists() else None

        return Place(open_sink(str(out)), in_folder, of_one_model=True)
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv("LISTS", postgres.url)

        def in_postgresql() -> dict[str, str] | None:
            if not database.ask(postgres.url, f"SELECT 1 FROM pg_views WHERE viewname = '{name}'"):
                return None
            return dict(database.ask(postgres.url, f"SELECT user_id, item_id FROM {name} WHERE rank = 1"))

        return Place(open_sink("env:LISTS", name), in_postgresql)
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        monkeypatch.setenv("LISTS", server.url)

        def in_redis() -> dict[str, str] | None:
            from redis import Redis

            with Redis.from_url(server.url, decode_responses=True) as reader:
                generation = reader.get(f"{name}:current")
                if generation is None:
                    return None
                keys = list(reader.scan_iter(f"{name}:{generation}:*"))
                return {key.rpartition(":")[2]: json.loads(reader.get(key))["items"][0]["item_id"] for key in keys}  # type: ignore[arg-type]

        return Place(open_sink("env:LISTS", name), in_redis)
    s3: S3 = request.getfixturevalue("s3")
    for key, value in s3.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("LISTS", f"s3://shop/{name}")

    def in_bucket() -> dict[str, str] | None:
        from obstore.store import from_url

        there = {each["path"] for page in from_url(f"s3://shop/{name}").list() for each in page}
        return first_items(pl.read_parquet(f"s3://shop/{name}/*.parquet")) if "_SUCCESS" in there else None

    return Place(open_sink("env:LISTS"), in_bucket, of_one_model=True)


ALL = {f"u{n}": "m1a" for n in range(2 * SHARDS)}


def test_readers_see_a_generation_when_it_is_whole_and_a_stopped_run_goes_on(place: Place) -> None:
    assert run(place.sink, stop=2) == [0, 1]
    assert place.read() is None
    assert run(place.sink) == [2]
    assert place.read() == ALL
    assert run(place.sink) == []
    assert place.read() == ALL


def test_a_label_holds_no_connection_string(place: Place) -> None:
    assert "://" not in place.sink.label
    assert "127.0.0.1" not in place.sink.label


def test_a_new_model_replaces_the_lists_at_once(place: Place) -> None:
    run(place.sink)
    if place.of_one_model:
        message = "model_version was 'm1' and is 'm2'; choose an empty folder"
        with pytest.raises(ArtifactError, match=message):
            run(place.sink, "m2")
        assert place.read() == ALL
        return
    run(place.sink, "m2", stop=1)
    assert place.read() == ALL
    assert run(place.sink, "m2") == [1, 2]
    assert place.read() == dict.fromkeys(ALL, "m2a")
    # And back: of what was cleared nothing is taken for written.
    assert run(place.sink, "m1") == [0, 1, 2]
    assert place.read() == ALL


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from test_sinks import FULL, plan, shard
from recsys.sinks.base import open_sink
with open_sink("env:LISTS", sys.argv[1]).open(plan()) as generation:
    generation.write(0, shard(0), FULL)
    # The rows of shard 1 are sent; what would say that they are whole is not.
    holder = getattr(generation, "_session", None) or generation._server
    setattr(holder, "commit" if hasattr(generation, "_session") else "hset",
            lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    generation.write(1, shard(1), FULL)
"""


@pytest.mark.parametrize("store", ["postgresql", "redis"])
def test_a_killed_process_leaves_no_half_shard(store: str, request: pytest.FixtureRequest,
                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    server: Postgres | RedisServer = request.getfixturevalue("postgres" if store == "postgresql" else "redis")
    monkeypatch.setenv("LISTS", server.url)
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, "killed", str(here), str(here.parent / "helpers")]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert run(open_sink("env:LISTS", "killed")) == [1, 2]
    if isinstance(server, Postgres):
        assert database.ask(server.url, "SELECT count(*), count(DISTINCT user_id) FROM killed") == [(12, 6)]


# Each store by itself


def test_old_tables_are_dropped_and_others_left(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTS", postgres.url)
    database.ask(postgres.url, "CREATE TABLE home_of_somebody (x int)")
    for model in ("m1", "m2", "m3"):
        run(open_sink("env:LISTS", "home"), model)
    tables = database.ask(
        postgres.url, "SELECT relname::text FROM pg_class WHERE relname LIKE 'home%' AND relkind = 'r'"
    )
    wanted = {"home_of_somebody", "home_shards", f"home_{generation_of(plan('m3'))}"}
    assert {name for (name,) in tables} == wanted
    ((about,),) = database.ask(postgres.url, "SELECT obj_description('home'::regclass)")
    assert json.loads(about)["model_version"] == "m3"
    indexes = database.ask(postgres.url, "SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'home_%_%' OR indexname "
                           "LIKE 'home%_key'")  # fmt: skip
    assert indexes[0][0] >= 1


def test_a_reader_in_a_transaction_keeps_its_lists(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    from adbc_driver_postgresql import dbapi

    from recsys.sinks import postgresql

    monkeypatch.setattr(postgresql, "LOCK_MS", 100)
    monkeypatch.setenv("LISTS", postgres.url)
    sink = open_sink("env:LISTS", "held")
    run(sink)
    with closing(dbapi.connect(postgres.url)) as session, session.cursor() as reader:
        reader.execute("SELECT DISTINCT model_version FROM held")
        assert reader.fetchall() == [("m1",)]
        with pytest.raises(ArtifactError, match=r"the view held cannot be replaced: .* due to lock timeout"):
            run(sink, "m2")
        reader.execute("SELECT DISTINCT model_version FROM held")
        assert reader.fetchall() == [("m1",)]
    assert run(sink, "m2") == []
    assert database.ask(postgres.url, "SELECT DISTINCT model_version FROM held") == [("m2",)]
    left = database.ask(postgres.url, f"SELECT 1 FROM pg_class WHERE relname = 'held_{generation_of(plan('m1'))}'")
    assert left == []


def test_two_writers_and_what_is_in_the_way(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTS", postgres.url)
    sink = open_sink("env:LISTS", "both")
    message = "env:LISTS: another process is writing both: wait until it is done, or stop it, and run again"
    with sink.open(plan()), pytest.raises(ArtifactError, match=message), sink.open(plan("m2")):
        pass
    database.ask(postgres.url, "CREATE TABLE taken (x int)")
    with pytest.raises(ArtifactError, match=r'env:LISTS: the view taken cannot be replaced: .*"taken" is not a view'):
        run(open_sink("env:LISTS", "taken"))


def test_superseded_keys_expire(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from redis import Redis

    from recsys.sinks.redis import GRACE_S

    monkeypatch.setenv("LISTS", redis.url)
    run(open_sink("env:LISTS", "home"), "m1")
    run(open_sink("env:LISTS", "home"), "m2")
    with Redis.from_url(redis.url, decode_responses=True) as reader:
        for model, left in {"m1": (1, GRACE_S), "m2": (-1, -1)}.items():
            keys = list(reader.scan_iter(f"home:{generation_of(plan(model))}:*"))
            assert len(keys) == 2 * SHARDS
            for key in [*keys, f"home:shards:{generation_of(plan(model))}"]:
                assert left[0] <= reader.ttl(key) <= left[1]  # type: ignore[operator]
        assert json.loads(reader.get("home:about"))["model_version"] == "m2"  # type: ignore[arg-type]


def test_a_damaged_or_strange_object(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in s3.environment.items():
        monkeypatch.setenv(key, value)
    from obstore.store import from_url

    sink = open_sink("s3://shop/damaged")
    run(sink, stop=2)
    store = from_url("s3://shop/damaged")
    store.put("part-00001.parquet", b"PAR1")
    with pytest.raises(
        ArtifactError, match=r"s3://shop/damaged/part-00001.parquet is damaged .*delete it and run again"
    ):
        run(sink)
    store.delete("_PLAN.json")
    with pytest.raises(
        ArtifactError, match="s3://shop/damaged holds Parquet files that this job did not write; choose"
    ):
        run(sink)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "postgresql://keeper:w0rd@127.0.0.1:1/shop",
            r'env:LISTS: cannot be reached: .*server at "\*\*\*", port \*\*\*',
        ),
        ("redis://:w0rd@127.0.0.1:1/0", r"env:LISTS: cannot be reached: Error 111 connecting to \*\*\*:\*\*\*"),
    ],
)
def test_a_store_that_is_down(url: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTS", url)
    with pytest.raises(ArtifactError, match=message) as caught:
        run(open_sink("env:LISTS"))
    assert "w0rd" not in str(caught.value)


def test_what_is_no_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"ftp://x: nothing writes to such a connection string; .*postgresql:.*redis:"
    ):
        open_sink("ftp://x")
    with pytest.raises(ConfigError, match="a password must not stand here: put the connection string into an env"):
        open_sink("redis://:s3cr3t@127.0.0.1/0")
    with pytest.raises(ConfigError, match="the environment variable LISTS is not set"):
        open_sink("env:LISTS")
    monkeypatch.setenv("LISTS", "redis://localhost")
    with pytest.raises(ConfigError, match=r"the name of the lists, 'a b', must match \[a-z\]"):
        open_sink("env:LISTS", "a b")
