"""Sinks: stores that take shards of lists, and show a generation to readers once it is whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

import polars as pl

from recsys.connections import ENV, Connection
from recsys.errors import ConfigError
from recsys.registry import Family
from recsys.sinks.folder import Counts, Folder

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

Plan = Mapping[str, Any]


class Sink(Protocol):
    """One place for the lists of one model.

    A generation is what one plan writes: the model, its settings and the number of users. Readers see a generation
    whole or not at all.
    """

    @property
    def label(self) -> str:
        """What people and messages call it; holds no secret."""

    def open(self, plan: Plan) -> AbstractContextManager[Generation]:
        """Begin the generation of a plan, or go on with it.

        Raises:
            ArtifactError: the store cannot be reached or written, or something else is in the way.
        """


class Store(Sink, Protocol):
    """A sink that connection strings name. To add one, write a module beside this one with a registered class."""

    name: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]  # of the connection strings that mean this store

    @classmethod
    def connect(cls, connection: Connection, name: str) -> Store:
        """Say where to write; opens nothing yet.

        Args:
            connection: Where the store is.
            name: What readers call the lists there.

        Raises:
            ConfigError: a package is missing.
        """


class Generation(Protocol):
    """A generation that is being written."""

    def written(self) -> Mapping[int, Counts]:
        """What each shard holds that an earlier run wrote whole, by its number."""

    def write(self, number: int, shard: pl.DataFrame, counts: Counts, /) -> None:
        """Write one shard, whole or not at all."""

    def publish(self, summary: Mapping[str, Any]) -> None:
        """Show the generation to readers, all at once, and clear away those before it."""


SINKS: Family[type[Store]] = Family("sink", "recsys.sinks", group="recsys.sinks", skip=("base", "folder"))


def open_sink(to: str, name: str = "recommendations") -> Sink:
    """Find the sink that a person or a config means.

    Args:
        to: `env:NAME`, where that environment variable holds a connection string; a URL without a password, such as
            `s3://bucket/lists`; or a folder.
        name: What readers call the lists: the view in PostgreSQL, what keys begin with in Redis.

    Raises:
        ConfigError: the environment variable is not set, no sink takes such a URL, or the name is unfit.
    """
    if not ENV.fullmatch(to) and not re.match(r"[a-z][a-z0-9+.-]+:", to):
        return Folder(to)
    if not NAME.fullmatch(name):
        raise ConfigError(f"the name of the lists, {name!r}, must match {NAME.pattern}")
    connection = Connection.resolve(to)
    found = {scheme: sink for sink in SINKS.values() for scheme in sink.schemes}
    if connection.scheme not in found:
        raise ConfigError(
            f"{connection.name}: nothing writes to such a connection string; it should begin with one of "
            f"{', '.join(f'{scheme}:' for scheme in found)}, or be a folder"
        )
    return found[connection.scheme].connect(connection, name)


def generation_of(plan: Plan) -> str:
    """The name of the generation that a plan writes: the same for a run that goes on after a kill."""
    return hashlib.sha256(json.dumps(dict(plan), sort_keys=True).encode()).hexdigest()[:12]
