"""From a database to a bundle and back to a database and a cache, as a shop runs it; no file tells how to connect."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import database
import polars as pl
import pytest
import yaml
from servers import Postgres, RedisServer
from shops import recsys_process, write_shop_config

from recsys import Recommender

K = 5
LISTS = "user_id, item_id, rank, model_version"


@dataclass(frozen=True)
class Run:
    """A run of the made-up shop from PostgreSQL: its folder, its config, and what the processes said."""

    folder: Path
    config: Path
    environment: dict[str, str]

    def recsys(self, *args: object, code: int = 0, **environment: str) -> str:
        """Run a command under --debug; what it says is kept in the folder. Returns stdout, or stderr if it fails."""
        ran = recsys_process(["--debug", *map(str, args)], cwd=self.folder, env=self.environment | environment)
        with (self.folder / "said.log").open("a") as log:
            log.write(ran.stdout + ran.stderr)
        assert ran.returncode == code, ran.stderr
        return ran.stderr if code else ran.stdout


@pytest.fixture(scope="module")
def run(
    postgres: Postgres, redis: RedisServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:  # fmt: skip
    tables = database.shop_tables()
    late = tables["orders"].head(2).with_columns(item_id=pl.lit("no such item"))  # goes to quarantine
    database.fill(postgres.url, {"products": tables["products"], "orders": pl.concat([tables["orders"], late])})
    folder = tmp_path_factory.mktemp("platform")
    path = write_shop_config(folder, tiny_model)
    raw = yaml.safe_load(path.read_text())
    for table, name in {"catalog": "products", "interactions": "orders"}.items():
        raw["data"][table] |= {"source": "database", "connection": "env:SHOP_DB", "table": name}
        del raw["data"][table]["path"]
    path.write_text(yaml.safe_dump(raw))
    environment = dict(os.environ) | {"SHOP_DB": postgres.url, "SHOP_CACHE": redis.url}
    run = Run(folder, path, environment)
    run.recsys("train", path)
    return run


def test_a_bundle_from_a_database_answers_as_one_from_files(run: Run, recommender: Recommender) -> None:
    ours = Recommender.load(run.folder / "artifacts" / "shop").recommend_batch(k=K)
    theirs = recommender.recommend_batch(k=K)
    assert ours.select("user_id", "item_id", "rank", "source").equals(
        theirs.select("user_id", "item_id", "rank", "source")
    )


def test_a_reader_of_postgresql_gets_the_lists(run: Run, postgres: Postgres) -> None:
    said = run.recsys("candidates", "--to", "env:SHOP_DB", "--config", run.config, "--k", K, "--shard-users", 250,
                      "--json")  # fmt: skip
    assert json.loads(said)["to"] == "recommendations of env:SHOP_DB"
    rows = database.ask(postgres.url, f"SELECT {LISTS} FROM recommendations ORDER BY user_id, rank")
    answered = Recommender.load(run.folder / "artifacts" / "shop").recommend_batch(k=K)
    assert rows == answered.select(LISTS.split(", ")).sort("user_id", "rank").rows()


def test_a_reader_of_redis_gets_the_lists(run: Run, redis: RedisServer) -> None:
    from redis import Redis

    run.recsys("candidates", "--to", "env:SHOP_CACHE", "--name", "home", "--config", run.config, "--k", K)
    answered = Recommender.load(run.folder / "artifacts" / "shop").recommend_batch(k=K)
    with Redis.from_url(redis.url, decode_responses=True) as reader:
        generation = reader.get("home:current")
        for (user,), wanted in answered.group_by("user_id"):
            found = json.loads(reader.get(f"home:{generation}:{user}"))  # type: ignore[arg-type]
            assert [item["item_id"] for item in found["items"]] == wanted["item_id"].to_list()
            assert found["model_version"] == wanted["model_version"][0]


def test_no_file_holds_a_part_of_a_connection_string(run: Run, postgres: Postgres, redis: RedisServer) -> None:
    wrong = postgres.url.replace(postgres.password, "wr0ng-w0rd")
    said = run.recsys("check", run.config, code=4, SHOP_DB=wrong).strip().splitlines()[-1]
    assert said.startswith("error: env:SHOP_DB: products cannot be read: ")
    assert said.endswith('server at "***", port *** failed: FATAL:  password authentication failed for user "***"')
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"manifest.json", "ingest.json", "said.log", "interactions.parquet"} <= names
    secrets = [*postgres.secrets, redis.url, redis.password, f":{redis.port}", "wr0ng-w0rd"]
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".parquet":  # what is packed is scanned unpacked
            content += pl.read_parquet(path).cast(pl.String, strict=False).write_csv().encode()
        assert [secret for secret in secrets if secret.encode() in content] == [], path
    assert b"Traceback" in (run.folder / "said.log").read_bytes()
