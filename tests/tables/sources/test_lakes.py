"""Delta Lake and Iceberg tables at a version, and files in an object store."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from servers import S3

from recsys.config import CatalogConfig, DataConfig
from recsys.errors import ConfigError, DataError
from recsys.tables.ingest import load_tables
from recsys.tables.sources.base import RawTable
from recsys.tables.sources.registry import read

ITEMS = pl.DataFrame({"item_id": ["a", "b"], "title": ["Ants", "Bees"]})
MORE = pl.DataFrame({"item_id": ["c"], "title": ["Cats"]})
EVENTS = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": ["2025-01-01", "2025-01-02"]})


def opened(**settings: object) -> RawTable:
    return read(CatalogConfig(**settings), "catalog")  # type: ignore[arg-type]


def ids(table: RawTable) -> list[str]:
    return sorted(table.frame.collect()["item_id"])


def test_delta_reads_the_newest_version_or_a_given_one(tmp_path: Path) -> None:
    path = str(tmp_path / "items")
    ITEMS.write_delta(path)
    MORE.write_delta(path, mode="append")
    newest, first = opened(source="delta", path=path), opened(source="delta", path=path, version=0)
    assert (newest.version, ids(newest)) == (1, ["a", "b", "c"])
    assert (first.version, ids(first)) == (0, ["a", "b"])
    frame = newest.frame.collect()
    assert sorted(frame["__recsys_row"]) == [1, 2, 3]
    assert frame["__recsys_file"].unique().to_list() == [path]
    with pytest.raises(DataError, match=r"items: version 7 cannot be read: "):
        opened(source="delta", path=path, version=7)
    with pytest.raises(DataError, match="none holds no Delta Lake table"):
        opened(source="delta", path=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"data.catalog.path: give the folder of one Delta Lake table, not 2 paths"):
        opened(source="delta", path=[path, path])


def test_the_report_says_which_version_was_read(tmp_path: Path) -> None:
    ITEMS.write_delta(str(tmp_path / "items"))
    EVENTS.write_parquet(tmp_path / "events.parquet")
    data = DataConfig(
        catalog={"source": "delta", "path": str(tmp_path / "items")},  # type: ignore[arg-type]
        interactions={"path": str(tmp_path / "events.parquet")},  # type: ignore[arg-type]
    )
    report = load_tables(data, tmp_path / "out").report
    assert report["catalog"]["version"] == 0  # type: ignore[index]
    assert "version" not in report["interactions"]  # type: ignore[operator]


def test_iceberg_reads_the_current_snapshot_or_a_given_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    url = f"sqlite:///{tmp_path}/catalog.db"
    catalog = SqlCatalog("recsys", uri=url, warehouse=f"file://{tmp_path}/lake")
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.items", ITEMS.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
    table.append(ITEMS.to_arrow(compat_level=pl.CompatLevel.oldest()))
    first = table.current_snapshot().snapshot_id  # type: ignore[union-attr]
    table.append(MORE.to_arrow(compat_level=pl.CompatLevel.oldest()))
    newest = opened(source="iceberg", connection=url, table="shop.items")
    assert ids(newest) == ["a", "b", "c"]
    assert newest.version == table.refresh().current_snapshot().snapshot_id  # type: ignore[union-attr]
    older = opened(source="iceberg", connection=url, table="shop.items", snapshot=first)
    assert (older.version, ids(older)) == (first, ["a", "b"])
    with pytest.raises(DataError, match=r"there is no table 'shop.item'; did you mean 'shop.items'\?"):
        opened(source="iceberg", connection=url, table="shop.item")
    with pytest.raises(DataError, match=rf"shop.items of sqlite.* has no snapshot 7; its newest: {first}, "):
        opened(source="iceberg", connection=url, table="shop.items", snapshot=7)
    with pytest.raises(ConfigError, match=r"data.catalog.path: an Iceberg catalogue has no path: leave it out"):
        opened(source="iceberg", connection=url, table="shop.items", path="x")
    monkeypatch.setenv("LAKE", f"sqlite:///{tmp_path}/nowhere/catalog.db")
    with pytest.raises(DataError, match=r"env:LAKE: the catalogue with shop.items cannot be read: ") as caught:
        opened(source="iceberg", connection="env:LAKE", table="shop.items")
    assert str(tmp_path) not in str(caught.value)


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    from obstore.store import from_url

    store = from_url("s3://shop/tables")
    for number, frame in enumerate((ITEMS, MORE)):
        frame.write_parquet(f"s3://shop/tables/items/part-{number}.parquet")
        store.put(f"csv/part-{number}.csv", frame.write_csv(separator=";").encode())
        store.put(f"json/part-{number}.jsonl", frame.write_ndjson().encode())
    store.put("items/_SUCCESS", b"")
    store.put("packed/items.csv.gz", gzip.compress(ITEMS.write_csv().encode()))
    return "s3://shop/tables"


@pytest.mark.parametrize(
    ("source", "path", "wanted"),
    [
        ("parquet", "items", "abc"),
        ("parquet", "items/", "abc"),
        ("parquet", "items/*-1.parquet", "c"),
        ("parquet", "items/part-0.parquet", "ab"),
        ("csv", "csv", "abc"),
        ("csv", "packed/items.csv.gz", "ab"),
        ("jsonl", "json/part-*.jsonl", "abc"),
    ],
)
def test_files_in_an_object_store(bucket: str, source: str, path: str, wanted: str) -> None:
    table = opened(source=source, path=f"{bucket}/{path}")
    assert ids(table) == list(wanted)
    assert all(file.startswith(f"{bucket}/{path.split('/')[0]}/") for file in table.files)


def test_a_delta_table_in_an_object_store(bucket: str) -> None:
    ITEMS.write_delta(f"{bucket}/lake", mode="overwrite")
    assert ids(opened(source="delta", path=f"{bucket}/lake")) == ["a", "b"]


def test_what_an_object_store_lacks_or_refuses(bucket: str, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"s3://shop/tables/item does not exist, or holds no file that ends in .parquet"
    ):
        opened(path=f"{bucket}/item")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "an0ther-k3y")
    with pytest.raises(DataError, match=r"s3://shop/tables/items: cannot be read: ") as caught:
        opened(path=f"{bucket}/items")
    assert "an0ther-k3y" not in str(caught.value)
    assert s3.key not in str(caught.value)
