"""A first config from a shop's files: what each is, which columns say what, and settings that suit the data."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys.config import CatalogConfig, Config, parse_config
from recsys.errors import DataError
from recsys.jobs.defaults import Choice, Facts, choose_settings
from recsys.parallel.forks import require_polars
from recsys.tables.ingest import load_tables
from recsys.tables.profile import SAMPLE_ROWS, TableProfile
from recsys.tables.roles import Roles, find_roles
from recsys.tables.sources.files import source_of
from recsys.tables.sources.registry import read
from recsys.tables.sources.scanning import DROPPED, FILE, REFUSED, ROW
from recsys.types import Tables

# Public exports that a source of their own reads: the columns that give them away.
EXPORTS = {
    "online_retail": {"InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"},
    "amazon_reviews": {"reviewerID", "asin", "unixReviewTime", "overall"},
    "amazon_meta": {"asin", "title", "also_buy"},
}
# What an event of a kind is worth, and which kinds are predicted where a log has several.
WORTH = {"view": 1.0, "click": 1.0, "detail": 1.0, "cart": 3.0, "add": 3.0, "favorite": 3.0, "wish": 3.0, "like": 3.0,
         "buy": 5.0, "purchase": 5.0, "order": 5.0, "transaction": 5.0}  # fmt: skip
BOUGHT = ("buy", "purchase", "order", "transaction")
UNDONE = ("return", "refund", "cancel", "remove", "dislike")


@dataclass(frozen=True, eq=False)
class Proposal:
    """A config for a shop's files, and how it came about.

    Attributes:
        raw: The config as plain values.
        reasons: Why a section is as it is, by its dotted name.
        notes: What was assumed and what is unclear, a line each.
        facts: What the settings hang on.
        tables: The shop's tables, read by that config.
    """

    raw: Mapping[str, Any]
    reasons: Mapping[str, str]
    notes: Sequence[str]
    facts: Facts
    tables: Tables

    @property
    def config(self) -> Config:
        """The same, checked."""
        return parse_config(self.raw, "the proposed config")

    def to_yaml(self) -> str:
        """Return the config as YAML, each section under a comment that says why."""
        import yaml

        lines = [
            "# Written by `recsys init`: each comment says what a section was concluded from. Change what is wrong."
        ]
        lines += [f"# - {note}" for note in self.notes]
        for key, value in self.raw.items():
            reason = self.reasons.get(key)
            lines += ["", *([f"# {reason}"] if reason else [])] if isinstance(value, Mapping | list) else []
            dump = yaml.safe_dump({key: _plain(value)}, sort_keys=False, allow_unicode=True,
                                  default_flow_style=None, width=110).rstrip()  # fmt: skip
            scalar = not isinstance(value, Mapping | list)
            lines.append(dump[1:-1] + (f"  # {reason}" if reason else "") if scalar else dump)
        return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def propose(files: Sequence[str | Path], name: str = "shop", output: str = "artifacts") -> Proposal:
    """Look at the files of a shop, in any order, and propose a config for them.

    Args:
        files: Parquet, CSV or JSON lines: a log of behaviour and a table of items, or a known public export.
        name: What the run is called.
        output: Where its bundles go.

    Returns:
        The proposal. Its tables were read as `recsys evaluate` will read them.

    Raises:
        DataError: a file is missing or cannot be read, or none is a log of behaviour.
        ConfigError: as `load_config` does.
    """
    if not files:
        raise DataError("no file was named: give the log of behaviour and the table of items, in any order")
    require_polars("reading tables")
    paths = [str(file) for file in files]
    readers = {path: {"source": source_of(path)} for path in paths}
    frames = {path: _open(path, readers[path]) for path in paths}
    schemas = {path: frame.collect_schema() for path, frame in frames.items()}
    data, notes = _known_export(schemas)
    if not data:
        nested = {path: key for path in paths
                  if readers[path]["source"] == "jsonl" and (key := _nested_key(schemas[path]))}  # fmt: skip
        for path, key in nested.items():
            readers[path] |= {"explode": key}
            frames[path] = _open(path, readers[path])
        profiles = [_profile(path, frame) for path, frame in frames.items()]
        data, notes = data_section(find_roles(profiles), readers)
        notes += [f"each line of {path} is a list of {key}: a row an entry" for path, key in nested.items()]
    return complete(data, notes, name, output)


def complete(data: Mapping[str, Any], notes: Sequence[str], name: str, output: str) -> Proposal:
    """Read the tables that a `data` section names, and choose everything else by what they hold."""
    minimal = {"name": name, "output": output, "data": data, "split": {"kind": "leave_last_out"},
               "retrievers": {"popularity": {}}, "features": ["log_popularity"], "scorer": {"kind": "mlp"}}  # fmt: skip
    with tempfile.TemporaryDirectory() as room:
        tables = load_tables(parse_config(minimal, "the proposed config").data, Path(room))
    facts = Facts.of(tables)
    choices: dict[str, Choice] = choose_settings(facts)
    raw = {"name": name, "seed": 7, "output": output, "data": data} | {key: one.value for key, one in choices.items()}
    return Proposal(raw, {key: one.reason for key, one in choices.items()}, notes, facts, tables)


def _open(path: str, reader: Mapping[str, Any]) -> pl.LazyFrame:
    """The rows of one file, as its source reads them."""
    return read(CatalogConfig(path=path, **reader), "catalog").frame


def _nested_key(schema: pl.Schema) -> str | None:
    """The key of a file of JSON lines that holds a list of objects, such as the events of a session."""
    lists = [name for name, dtype in schema.items()
             if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct)]  # fmt: skip
    return lists[0] if len(lists) == 1 else None


def _profile(path: str, frame: pl.LazyFrame) -> TableProfile:
    """Read the head of one file."""
    own = [name for name in frame.collect_schema() if name not in (FILE, ROW, REFUSED, DROPPED)]
    return TableProfile.of(path, frame.select(own).head(SAMPLE_ROWS).collect(engine="streaming"))


def _known_export(schemas: Mapping[str, pl.Schema]) -> tuple[dict[str, Any], list[str]]:
    """The `data` section for files that are a public export, as published; empty for others."""
    found = {
        path: next((name for name, wanted in EXPORTS.items() if wanted <= {*schema}), "")
        for path, schema in schemas.items()
    }
    of = {name: path for path, name in found.items() if name}
    if "online_retail" in of and len(schemas) == 1:
        table = {"source": "online_retail", "path": of["online_retail"]}
        return {"catalog": table, "interactions": table}, [
            "the file is UCI Online Retail: cancellations and fees are left out"
        ]
    if "amazon_reviews" in of and "amazon_meta" in of:
        return {
            "catalog": {"source": "amazon_meta", "path": of["amazon_meta"]},
            "interactions": {"source": "amazon_reviews", "path": of["amazon_reviews"]},
            "unknown_items": "drop",
        }, ["the files are Amazon reviews and product metadata of 2018"]
    return {}, []


def data_section(roles: Roles, readers: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return the `data` section for tables whose roles were found, and notes on what was assumed.

    Args:
        roles: What was found.
        readers: The source that reads each table and its settings, by the table's name.
    """
    notes = list(roles.notes)
    log = roles.interactions
    data: dict[str, Any] = {}
    if roles.catalog is None:
        notes.append(f"no file holds the items of {log.name}: they are those of its events")
    else:
        data["catalog"] = _table(roles.catalog.name, readers, roles.catalog_columns)
    columns = {**roles.interaction_columns} if roles.catalog else {**roles.interaction_columns, **roles.catalog_columns}
    data["interactions"] = _table(log.name, readers, columns)
    separator = _separator(roles)
    if separator is not None:
        data["catalog"]["category_separator"] = separator
    kinds = _kinds(roles, notes)
    data["interactions"] |= kinds
    if roles.clock == "order":
        data["clock"] = "order"
    elif not _zoned(roles):
        data["timezone"] = "UTC"
        notes.append("times carry no zone: UTC is assumed; set data.timezone to the shop's own")
    if roles.catalog is not None:
        data["unknown_items"] = "drop"
    if log.sampled or (roles.catalog is not None and roles.catalog.sampled):
        notes.append(f"columns were judged by the first {SAMPLE_ROWS:,} rows")
    return data, notes


def _table(path: str, readers: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]) -> dict[str, Any]:
    mapped = {ours: theirs for ours, theirs in columns.items() if ours != theirs}
    return {"source": readers[path]["source"], "path": path, **readers[path]} | ({"columns": mapped} if mapped else {})


def _separator(roles: Roles) -> str | None:
    """What stands between the parts of a category path, where it is not ` > `."""
    if roles.catalog is None or "category" not in roles.catalog_columns:
        return None
    cells = roles.catalog.columns[roles.catalog_columns["category"]].values
    if cells.dtype.is_nested():
        return None
    texts = [str(cell) for cell in cells.head(1_000)]
    for mark in (" > ", ">", " / ", "/", "|", ";", ","):
        if sum(mark in text for text in texts) > 0.3 * len(texts):
            return None if mark == " > " else mark
    return None


def _kinds(roles: Roles, notes: list[str]) -> dict[str, Any]:
    """What each kind of event is worth and which are predicted, where the log has several."""
    name = roles.interaction_columns.get("event")
    if name is None:
        return {}
    kinds = [str(kind) for kind in roles.interactions.columns[name].values.unique().sort().to_list()]
    undone = [kind for kind in kinds if any(word in kind.lower() for word in UNDONE)]
    kept = [kind for kind in kinds if kind not in undone]
    if undone:
        notes.append(f"events that undo are left out: {', '.join(undone)}")
    worth = {kind: next((much for word, much in WORTH.items() if word in kind.lower()), 1.0) for kind in kept}
    bought = [kind for kind in kept if any(word in kind.lower() for word in BOUGHT)]
    unknown = [kind for kind in kept if not any(word in kind.lower() for word in WORTH)]
    if unknown and len(kept) > 1:
        notes.append(f"kinds of events of unknown worth count 1: {', '.join(unknown)}")
    settings: dict[str, Any] = {"events": worth}
    if bought and len(bought) < len(kept):
        settings["targets"] = bought
        notes.append(f"what is predicted: {', '.join(bought)}")
    return settings


def _zoned(roles: Roles) -> bool:
    """Whether the times say by themselves which instants they are: zoned, or numbers since 1970."""
    values = roles.interactions.columns[roles.interaction_columns["timestamp"]].values
    if getattr(values.dtype, "time_zone", None) or values.dtype.is_numeric():
        return True
    if values.dtype.is_temporal():
        return False
    return all(re.search(r"(Z|UTC|[+-]\d{2}:?\d{2})\s*$", str(cell)) for cell in values.head(100))
