"""Two raw tables of a made-up shop, written as a test wants them, and what is read of them."""

from pathlib import Path

import polars as pl

from recsys.config import DataConfig
from recsys.tables.ingest import load_tables
from recsys.types import Tables

ITEMS = "item_id,title,price\na,Ants,1\nb,Bees,2\nc,Cats,3\n"
HEAD = "user_id,item_id,timestamp\n"


class RawTables:
    """Two tables in a folder, and the config that reads them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, items=ITEMS, events=HEAD + "u1,a,2025-01-01\n", catalog=(), interactions=(), **data):
        tables = {
            "catalog": {"source": "csv", "path": self.write("items.csv", items), **dict(catalog or ())},
            "interactions": {"source": "csv", "path": self.write("events.csv", events), **dict(interactions)},
        }
        if catalog is None:
            del tables["catalog"]
        for table in tables.values():
            if str(table["path"]).endswith(".parquet"):
                table["source"] = "parquet"
        return load_tables(DataConfig(**tables, **data), self.folder / "out")

    def folder_of(self, files):
        """Write the files of one table into a folder of its own, and return its path."""
        for name, content in files.items():
            path = self.folder / "parts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pl.DataFrame):
                content.write_parquet(path)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(self.folder / "parts")

    def write(self, name, table):
        if isinstance(table, pl.DataFrame):
            name = name.replace("csv", "parquet")
            table.write_parquet(self.folder / name)
        else:
            (self.folder / name).write_bytes(table if isinstance(table, bytes) else table.encode())
        return str(self.folder / name)

    def quarantine(self, table):
        return pl.read_parquet(self.folder / "out" / "quarantine" / f"{table}.parquet")


def events_of(tables: Tables) -> list[tuple[object, object, int]]:
    users, items = tables.user_ids.to_list(), tables.catalog.ids.to_list()
    found = tables.interactions
    return [(users[u], items[i], int(t)) for u, i, t in zip(found.user, found.item, found.time, strict=True)]
