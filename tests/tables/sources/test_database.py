"""Tables of real databases: PostgreSQL, SQLite and DuckDB."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import traceback
from contextlib import closing
from pathlib import Path

import database
import polars as pl
import pytest
from servers import Postgres

from recsys.config import CatalogConfig, DataConfig, parse_config
from recsys.connections import Connection, redact
from recsys.errors import ArtifactError, ConfigError, DataError
from recsys.tables.ingest import load_tables
from recsys.tables.sources.registry import read

ITEMS = pl.DataFrame({"item_id": ["a", "b"], "title": ["Ants", "Bees"], "price": [1.5, None]})


def table(**settings: object) -> pl.DataFrame:
    return read(CatalogConfig(source="database", **settings), "catalog").frame.collect()  # type: ignore[arg-type]


def own(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(name for name in frame.columns if not name.startswith("__recsys"))


@pytest.fixture
def shop_db(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SHOP_DB", postgres.url)
    return postgres.url


def make(engine: str, folder: Path) -> str:
    """A database file with the table `items`; its URL."""
    path = folder / f"shop.{engine}"
    if engine == "sqlite":
        with closing(sqlite3.connect(path)) as session:
            session.execute("CREATE TABLE items (item_id TEXT, title TEXT, price REAL)")
            session.executemany("INSERT INTO items VALUES (?, ?, ?)", ITEMS.rows())
            session.commit()
    else:
        import duckdb

        with closing(duckdb.connect(path)) as session:
            session.execute("CREATE TABLE items (item_id TEXT, title TEXT, price DECIMAL(8, 2))")
            session.executemany("INSERT INTO items VALUES (?, ?, ?)", ITEMS.rows())
    return f"{engine}:///{path}"


@pytest.mark.parametrize("engine", ["sqlite", "duckdb"])
def test_a_database_file(engine: str, tmp_path: Path) -> None:
    url = make(engine, tmp_path)
    found = table(connection=url, table="items")
    assert own(found).equals(ITEMS)
    assert found["__recsys_row"].to_list() == [1, 2]
    assert found["__recsys_file"].unique().to_list() == [f"items of {url}"]
    assert own(table(connection=url, query="SELECT title AS name FROM items ORDER BY 1 DESC;")).rows() == [
        ("Bees",), ("Ants",),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"there is no table 'item'; did you mean 'items'\?"):
        table(connection=url, table="item")


def test_types_of_postgresql(shop_db: str) -> None:
    database.ask(shop_db, "CREATE TABLE kinds AS SELECT 7::int AS item_id, 'Tea'::varchar AS title, "
                 "12.50::numeric(8, 2) AS price, '0123abcd-0000-4000-8000-00000000000f'::uuid AS sku, true AS stock, "
                 "ARRAY['a', 'b'] AS tags, '{\"a\": 1}'::jsonb AS about, timestamptz '2025-01-01 10:00+01' AS added, "
                 "'\\x00'::bytea AS picture, interval '1 day' AS lasts")  # fmt: skip
    raw = read(CatalogConfig(source="database", connection="env:SHOP_DB", table="kinds"), "catalog")
    (row,) = own(raw.frame.collect()).rows(named=True)
    assert row.pop("added").isoformat() == "2025-01-01T09:00:00+00:00"
    assert row == {"item_id": 7, "title": "Tea", "price": "12.50", "sku": "0123abcd-0000-4000-8000-00000000000f",
                   "stock": True, "tags": ["a", "b"], "about": '{"a": 1}'}  # fmt: skip
    assert raw.types == {"price": pl.Float64()}
    assert raw.notes == ["kinds of env:SHOP_DB: no types for lasts, picture: left out; cast them in a query"]


def test_only_needed_columns_and_rows_are_asked_for(shop_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.tables.sources import database as source

    database.fill(shop_db, {"few": ITEMS})
    frame = read(CatalogConfig(source="database", connection="env:SHOP_DB", table="few"), "catalog").frame
    asked = []
    real = source._POSTGRESQL.open
    spying = source._POSTGRESQL._replace(open=lambda url, sql: asked.append(sql) or real(url, sql))
    monkeypatch.setitem(source.ENGINES, "postgresql", spying)
    frame = read(CatalogConfig(source="database", connection="env:SHOP_DB", table="few"), "catalog").frame
    asked.clear()
    assert frame.select("title").head(1).collect(engine="streaming").rows() == [("Ants",)]
    assert frame.filter(pl.col("item_id") == "b").select("price").collect().rows() == [(None,)]
    assert asked == ['SELECT "title" FROM "few" LIMIT 1', 'SELECT "item_id", "price" FROM "few"']


def test_memory_holds_a_batch_and_not_the_table(shop_db: str) -> None:
    """300 MB of text pass through a process that may grow by a third of that."""
    database.ask(shop_db, "CREATE TABLE long AS SELECT i AS item_id, repeat('x', 1000) AS title "
                 "FROM generate_series(1, 300000) i")  # fmt: skip
    code = """
import resource
import polars as pl
from recsys.config import CatalogConfig
from recsys.tables.sources.registry import read
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def count(table):
    frame = read(CatalogConfig(source="database", connection="env:SHOP_DB", query=table), "catalog").frame
    return frame.select(pl.col("title").str.len_bytes().sum()).collect(engine="streaming").item()
count("SELECT item_id, title FROM long LIMIT 20000")
before = peak()
assert count("SELECT item_id, title FROM long") == 300_000_000
print(peak() - before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 100
    database.ask(shop_db, "DROP TABLE long")


def test_a_run_over_a_database_counts_rows_as_over_files(shop_db: str, tmp_path: Path) -> None:
    tables = database.shop_tables()
    database.fill(shop_db, {f"again_{name}": frame for name, frame in tables.items()})
    source = {"source": "database", "connection": "env:SHOP_DB"}
    data = DataConfig(catalog=source | {"table": "again_products"}, interactions=source | {"table": "again_orders"})  # type: ignore[arg-type]
    report = load_tables(data, tmp_path).report
    assert report["interactions"]["kept"] == tables["orders"].height == 9782
    assert report["catalog"]["kept"] == 344


# Errors, without a part of the connection string


def test_what_cannot_be_read_is_one_sentence(shop_db: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    database.fill(shop_db, {"stock": ITEMS})

    def said(kind: type[Exception] = DataError, **settings: str) -> str:
        with pytest.raises(kind) as caught:
            table(connection="env:SHOP_DB", **settings)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        for secret in postgres.secrets:
            assert secret not in str(caught.value)
        return str(caught.value)

    assert said(table="stok") == "env:SHOP_DB: there is no table 'stok'; did you mean 'stock'?"
    assert "env:SHOP_DB: there is no table 'qqq'; its tables: " in said(table="qqq")
    assert "the query cannot be read" in said(query="SELECT nope FROM stock")
    assert 'column "nope" does not exist' in said(query="SELECT nope FROM stock")
    assert "the query cannot be read: " in said(query="SELECT 1 / (price - 1.5) AS x FROM stock")
    assert said(ConfigError) == "data.catalog: give `table` or `query`, one of them"
    assert said(ConfigError, table="a", query="SELECT 1") == "data.catalog: give `table` or `query`, one of them"
    assert said(ConfigError, query="DROP TABLE stock") == "data.catalog.query: it must be one SELECT"
    assert said(ConfigError, table="stock", path="x").startswith("data.catalog.path: a database has no path")
    refused = 'connection to server at "***", port *** failed: '
    monkeypatch.setenv("SHOP_DB", shop_db.replace(postgres.password, "other-word"))
    assert said(table="stock").endswith(refused + 'FATAL:  password authentication failed for user "***"')
    monkeypatch.setenv("SHOP_DB", shop_db.replace(f":{postgres.port}/", ":1/"))
    assert said(table="stock").endswith(refused + "Connection refused")
    monkeypatch.setenv("SHOP_DB", "paradox:keeper")
    assert "no driver is known for such a connection string; it should begin with one of postgres" in said(
        ConfigError, table="stock"
    )
    monkeypatch.setenv("SHOP_DB", " ")
    assert "env:SHOP_DB: the environment variable SHOP_DB is not set; it should hold" in said(
        ConfigError, table="stock"
    )


LITERAL = "postgresql://keeper:s3cr3t@db.shop.example/stockroom"


def minimal(**catalog: object) -> dict[str, object]:
    return {
        "name": "shop", "data": {"catalog": {"source": "database", **catalog}, "interactions": {"path": "x.parquet"}},
        "split": {"kind": "leave_last_out"}, "retrievers": {"popularity": {}}, "features": ["log_popularity"],
        "scorer": {"kind": "mlp"},
    }  # fmt: skip


def test_a_password_in_a_config_is_refused_with_the_remedy_and_not_shown() -> None:
    for catalog in ({"connection": LITERAL}, {"connection": "host=db password=s3cr3t"}):
        with pytest.raises(ConfigError) as caught:
            parse_config(minimal(table="t", **catalog))
        assert "data.catalog.connection: a password must not stand here: " in str(caught.value)
        assert "environment variable, such as SHOP_DB, and write env:SHOP_DB" in str(caught.value)
        assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ConfigError, match="connection: write env:NAME, where the environment variable NAME holds"):
        parse_config(minimal(table="t", connection="SHOP_DB"))
    wrong = minimal(table="t", connection="env:SHOP_DB")
    with pytest.raises(ConfigError) as caught:
        parse_config(wrong | {"data": LITERAL})
    assert "s3cr3t" not in str(caught.value)


def test_a_variable_in_a_config_stays_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    from recsys.config import load_config

    monkeypatch.setenv("SHOP_DB", LITERAL)
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(minimal(table="t", connection="${SHOP_DB}")))
    loaded = load_config(tmp_path / "shop.yaml")
    assert loaded.data.catalog is not None
    assert loaded.data.catalog.options == {"connection": "env:SHOP_DB", "table": "t"}


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("cannot open postgresql://keeper:pa/ss@w@host/db now", "cannot open postgresql://***@host/db now"),
        ("host=db password='x y' port=1", "host=db password=***"),
        ("api_key=abc&region=eu", "api_key=***&region=eu"),
        ("3 rows at http://host/path", "3 rows at http://host/path"),
    ],
)
def test_redact(text: str, hidden: str) -> None:
    assert redact(text).startswith(hidden)


def test_an_error_hides_every_part_also_percent_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB", "postgresql://kee%40per:p%2Fw%3A@db.example:5433/stock?application_name=nightly")
    connection = Connection.resolve("env:SHOP_DB")
    assert repr(connection) == "Connection(name='env:SHOP_DB')"
    text = "user kee@per at db.example:5433 with p/w: or p%2Fw%3A, stock, nightly"
    assert connection.hide(text) == "user *** at ***:*** with *** or ***, ***, ***"
    with (
        pytest.raises(ArtifactError, match=r"^env:SHOP_DB: cannot be reached: no \*\*\*$"),
        connection.errors(ArtifactError, "cannot be reached"),
    ):
        raise OSError("no db.example")


def test_an_error_amid_the_rows_is_one_sentence(shop_db: str, postgres: Postgres, tmp_path: Path) -> None:
    source = {"source": "database", "connection": "env:SHOP_DB"}
    events = "SELECT 'u' AS user_id, 1 / (90000 - i) AS item_id, now() AS timestamp FROM generate_series(1, 100000) i"
    data = DataConfig(interactions=source | {"query": events})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"the query cannot be read: .*division by zero") as caught:
        load_tables(data, tmp_path)
    said = "".join(traceback.format_exception(caught.value))
    assert [secret for secret in postgres.secrets if secret in said] == []
