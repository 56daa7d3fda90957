"""A first config from the tables of a shop's database."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.config import CatalogConfig
from recsys.errors import DataError
from recsys.jobs.init import Proposal, complete, data_section
from recsys.tables.profile import SAMPLE_ROWS, TableProfile
from recsys.tables.roles import find_roles
from recsys.tables.shapes.draft import Draft
from recsys.tables.sources.registry import read
from recsys.tables.sources.scanning import own_columns


def propose_tables(connection: str, tables: Sequence[str], name: str = "shop", output: str = "artifacts") -> Proposal:
    """Look at tables of a database, in any order, and propose a config for them; see `recsys.jobs.init.propose`.

    Args:
        connection: `env:NAME`, where that environment variable holds the connection string, or a URL without a
            password.
        tables: The log of behaviour and the table of items, `SCHEMA.NAME` outside the default schema.
        name: What the run is called.
        output: Where its bundles go.

    Returns:
        The proposal. It names the environment variable, and holds no part of the connection string.

    Raises:
        DataError: a table cannot be read, or none is a log of behaviour.
        ConfigError: a password is written out, or the environment variable is not set.
    """
    if not tables:
        raise DataError("no table was named: name the tables to look at, as in `--tables products,orders`")
    readers = {table: {"source": "database", "connection": connection, "table": table} for table in tables}
    profiles = []
    for table, reader in readers.items():
        frame = read(CatalogConfig.model_validate(reader), "catalog").frame
        head = frame.select(own_columns(frame)).head(SAMPLE_ROWS).collect(engine="streaming")
        profiles.append(TableProfile.of(table, head))
    drafts = {table: Draft(table, reader) for table, reader in readers.items()}
    data, notes = data_section(find_roles(profiles), drafts)
    return complete(data, notes, name, output)
