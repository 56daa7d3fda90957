"""`recsys init` on a database: a config that runs, and holds no part of the connection string."""

from __future__ import annotations

from pathlib import Path

import database
import pytest
from servers import Postgres
from typer.testing import CliRunner

from recsys.cli.app import app
from recsys.config import load_config
from recsys.errors import ConfigError, DataError
from recsys.jobs.init_database import propose_tables
from recsys.tables.ingest import load_tables


@pytest.fixture
def tables(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB", postgres.url)
    database.fill(postgres.url, {f"init_{name}": frame for name, frame in database.shop_tables().items()})


def test_the_command_writes_a_config_that_reads_the_tables(tables: None, postgres: Postgres, tmp_path: Path) -> None:
    out = tmp_path / "shop.yaml"
    ran = CliRunner().invoke(app, ["init", "env:SHOP_DB", "--tables", "init_orders, init_products", "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    text = out.read_text()
    assert [secret for secret in postgres.secrets if secret in text + ran.output] == []
    data = load_config(out).data
    assert data.catalog is not None
    assert data.catalog.options == {"connection": "env:SHOP_DB", "table": "init_products"}
    assert data.interactions.options == {"connection": "env:SHOP_DB", "table": "init_orders"}
    assert data.interactions.targets == ["purchase"]
    read = load_tables(data, tmp_path / "run")
    assert (len(read.interactions), len(read.catalog)) == (9782, 344)


def test_what_cannot_be_proposed(tables: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"env:SHOP_DB: there is no table 'init_order'; did you mean 'init_orders'\?"):
        propose_tables("env:SHOP_DB", ["init_order"])
    with pytest.raises(ConfigError, match="a password must not stand here") as caught:
        propose_tables("postgresql://keeper:s3cr3t@db/shop", ["orders"])
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(DataError, match="name the tables to look at, as in `--tables products,orders`"):
        propose_tables("env:SHOP_DB", [])
    ran = CliRunner().invoke(app, ["init", "env:A", "env:B", "--tables", "x", "--out", str(tmp_path / "a.yaml")])
    assert ran.exit_code == 2
    assert "--tables are those of one database, and 2 places were" in ran.output
