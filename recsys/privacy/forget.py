"""Forget people: remove them from the bundle, the vector store, the quarantine and published lists, then prove it.

The order makes it safe to die at any instant. The tombstone comes first, so nothing new can name the person. Vectors go
before the versions whose histories identify them. A version without the person is published before the versions with
them are deleted. Each file is written under a temporary name and renamed. The next run finishes what is left.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import BoolArray
from recsys.artifacts import bundle, versions
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.persistence import history_arrays, load_histories
from recsys.artifacts.versions import MANIFEST, POINTER, VERSIONS
from recsys.config import DataConfig
from recsys.embedding.store import Keys, VectorStore, keys_of
from recsys.embedding.texts import behaviour_texts
from recsys.errors import ArtifactError, UnknownIdError
from recsys.jobs.candidates import PLAN, SUCCESS
from recsys.parallel.forks import require_polars
from recsys.privacy.scan import USER, Hit, Scan, SearchTerms, files_of, named_users, scan
from recsys.ragged import offsets_of, places_of
from recsys.storage import atomic
from recsys.tables.ingest import rows_of
from recsys.tables.tombstones import Tombstones
from recsys.types import Catalog, Histories, Id

SHOWN = 10
QUARANTINE = "quarantine"
PREFIXES = 512


@dataclass(frozen=True)
class Forgotten:
    """What was removed, and what the scan afterwards read. It names nobody.

    Attributes:
        users: How many people were to be forgotten.
        new: How many of them were not forgotten before.
        version: The version published without them; None where the current one never named them.
        pruned: The deleted versions.
        rows: How many rows were removed from each table, by file.
        vectors: How many vectors were removed from the store.
        leftovers: Deleted files and folders of dead processes.
        files_scanned: How many files the scan read.
        bytes_scanned: How many bytes.
        hits: How many places still name one of them: 0.
        mentions: Places with the same characters that name no person (`Scan.mentions`).
        source_rows: How many rows of the shop's own tables still hold them; None where no tables were given.
    """

    users: int
    new: int
    version: str | None
    pruned: tuple[str, ...]
    rows: dict[str, int]
    vectors: int
    leftovers: tuple[str, ...]
    files_scanned: int
    bytes_scanned: int
    hits: int
    mentions: tuple[str, ...]
    source_rows: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: what `recsys forget --json` prints."""
        return asdict(self)


def forget(root: str | Path, user_ids: Id | Iterable[Id], outputs: Iterable[str | Path] = (),
           data: DataConfig | None = None) -> Forgotten:  # fmt: skip
    """Remove people from a bundle's root, from the vector store beside it and from folders of published lists.

    Args:
        root: The bundle root.
        user_ids: The people to forget.
        outputs: Further folders (or files) that may name them; what lies below `root` is searched anyway.
        data: The shop's own tables, to count how many rows of these people they still hold.

    Returns:
        What was removed.

    Raises:
        UnknownIdError: Nothing names one of the ids, neither here nor in `data`, and it was not forgotten before. Then
            nothing is changed.
        ArtifactError: A folder is missing or cannot be written, its bundle is damaged, a process is writing there, or
            a file that recsys did not write still names somebody; the message gives file and place.
        DataError: The tables of `data` cannot be read.
    """
    require_polars("forgetting people")
    root = Path(root)
    ids = [user_ids] if isinstance(user_ids, str | int) else user_ids
    users = list(dict.fromkeys(str(user).encode("utf-8", "replace").decode() for user in ids))
    store = VectorStore(root.parent / "vectors")
    published = [root, *map(Path, outputs)]
    _check(published)
    with versions.write_lock(root):
        return _forget(root, users, published, store, data)


def _forget(root: Path, users: list[str], published: list[Path], store: VectorStore,
            data: DataConfig | None) -> Forgotten:  # fmt: skip
    places = [*published, store.folder]
    tombstones = Tombstones.read(root)
    already_forgotten = tombstones.hold(pl.Series(users, dtype=pl.String))
    before = scan(places, users, keys_of([]))
    in_source = None if data is None else rows_of(data, users)
    known = {hit.user for hit in before.hits} | set(in_source or ())
    unknown = [user for user, was in zip(users, already_forgotten, strict=True) if not was and user not in known]
    if unknown:
        raise UnknownIdError(
            f"{len(unknown)} of {len(users)} users are named by nothing in {', '.join(map(str, places))}: "
            f"{', '.join(map(repr, unknown[:SHOWN]))}; nobody was forgotten"
        )
    tombstones.add(root, users)
    holders = _holders(root, before)
    keys = _behaviours(holders, users)
    try:
        vectors = store.forget(keys) if len(keys) else 0
        leftovers = _tidy(root, published)
        rows = _remove_rows(published, root / VERSIONS, users)
        version = _publish_without(root, holders, users)
        versions.delete_versions(root, [path.name for path in holders])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(
            f"could not forget everybody in {root}: {atomic.why_not_written(error, root)}; what is done stays done"
        ) from error
    proof = scan(places, users, keys)
    if proof.hits:
        lines = _describe(proof.hits)
        raise ArtifactError(
            f"{len(lines)} places still name somebody, or cannot be searched: "
            + "".join(f"\n  {line}" for line in lines[:SHOWN])
            + "\nRemove the file or what it says of them, and run again; what is done stays done"
        )
    return Forgotten(
        users=len(users),
        new=len(users) - int(already_forgotten.sum()),
        version=version,
        pruned=tuple(path.name for path in holders),
        rows=rows,
        vectors=vectors,
        leftovers=tuple(map(str, leftovers)),
        files_scanned=proof.files,
        bytes_scanned=proof.bytes,
        hits=len(proof.hits),
        mentions=tuple(_describe(proof.mentions)),
        source_rows=None if in_source is None else sum(in_source.values()),
    )


def _describe(hits: Sequence[Hit]) -> list[str]:
    return [f"{hit.path}: {hit.place}" for hit in hits]


def _check(places: Sequence[Path]) -> None:
    """Refuse, before any work, folders that are not there, and those in which a process is writing right now."""
    for folder in places:
        if not folder.exists():
            raise ArtifactError(f"{folder} does not exist: nothing to forget there")
    if (places[0] / MANIFEST).exists():
        raise ArtifactError(
            f"{places[0]} is one version of a bundle; name the bundle's folder, {places[0].parent.parent}"
        )
    for path, pid in atomic.asides(files_of(places)):
        if pid != os.getpid() and atomic.alive(pid) and time.time() - path.stat().st_mtime < atomic.ABANDONED_S:
            raise ArtifactError(f"process {pid} is writing {path}: wait for it or stop it, then run again")


def _tidy(root: Path, places: Sequence[Path]) -> list[Path]:
    """Delete what dead processes left half written; return the deleted paths."""
    files = [path for path, _ in atomic.asides(files_of(places))]
    for path in files:
        path.unlink(missing_ok=True)
    return files + versions.delete_leftovers(root)


def _holders(root: Path, found: Scan) -> list[Path]:
    """Return the versions that name somebody, or in which something cannot be read; oldest first."""
    folders = sorted(path for path in (root / VERSIONS).glob("[!.]*") if path.is_dir())
    hit = {parent for hit in found.hits for parent in hit.path.parents}
    return [folder for folder in folders if folder.resolve() in hit]


def _behaviours(versions: Sequence[Path], users: Sequence[str]) -> Keys:
    """Return the keys of every text that may have been encoded for users, from the histories in the versions.

    A run encodes the text of a history as it was at some cut, so each beginning of a history has a text.
    """
    texts: set[str] = set()
    for path in versions:
        try:
            loaded = bundle.load(path)
        except ArtifactError:
            continue  # what cannot be read is deleted; a damaged version that is current stops the run
        histories = load_histories(loaded)
        titles = Catalog(loaded.tables["catalog"]).titles
        newest = int(loaded.manifest["config"]["embedding"]["user_items"])
        for row in np.flatnonzero(_user_mask(loaded, users)):
            for beginnings in _beginnings(histories, int(row)):
                texts.update(behaviour_texts(beginnings, titles, newest))
    return keys_of(texts)


def _beginnings(histories: Histories, row: int) -> Iterator[Histories]:
    """Yield the history of one user as it was after each of its events, up to `PREFIXES` at a time."""
    start, length = int(histories.offsets[row]), int(histories.lengths[row])
    for first in range(1, length + 1, PREFIXES):
        lengths = np.arange(first, min(first + PREFIXES, length + 1))
        offsets = offsets_of(lengths)
        rows = start + places_of(offsets)
        query = np.full(len(lengths), row)
        yield Histories(query.astype(np.int32), offsets, histories.item[rows], histories.time[rows],
                        histories.weight[rows], histories.as_of[query])  # fmt: skip


def _user_mask(loaded: Bundle, users: Sequence[str]) -> BoolArray:
    """Return which rows of a version's users are these `(U,)`."""
    return loaded.tables["users"][USER].cast(pl.String).is_in(list(users)).to_numpy()


def _remove_rows(places: Sequence[Path], versions: Path, users: Sequence[str]) -> dict[str, int]:
    """Remove the rows that name somebody from every Parquet table; return how many, by file.

    In a quarantine an id may also be the bad value of another user's row: then that cell goes, and counts as a row. A
    quarantine without `user_id`, as earlier versions of recsys wrote it, does not say whose its rows are: it goes.
    """
    removed, terms = {}, SearchTerms(users, keys_of([]))
    for path in files_of(places):
        if versions.resolve() in path.parents or path.suffix != ".parquet":
            continue
        table = pl.scan_parquet(path)
        try:
            columns = table.collect_schema()
        except pl.exceptions.PolarsError:
            continue  # the scan reports it
        refused = path.parent.name == QUARANTINE
        own = _names_user(USER, columns, terms)
        bad_value = _names_user("value", columns, terms) if refused else pl.lit(False)
        rows, gone, cells = (
            table.select(pl.len(), own.sum().alias("own"), bad_value.sum().alias("bad_value"))
            .collect(engine="streaming")
            .row(0)
        )
        if refused and path.name == "interactions.parquet" and USER not in columns:
            gone, cells = rows, 0
        if gone and gone == rows and refused:
            path.unlink()
            atomic.sync(path.parent)
        elif gone or cells:
            left = table.filter(~own)
            if cells:
                left = left.with_columns(value=pl.when(~bad_value).then("value"))
            with atomic.whole(path) as aside:
                left.sink_parquet(aside)
        if gone or cells:
            removed[str(path)] = gone + cells
    for path in files_of(places):
        if path.name == SUCCESS:
            _recount(path.parent)
    return removed


def _names_user(column: str, columns: pl.Schema, terms: SearchTerms) -> pl.Expr:
    """Return whether each cell of a column names somebody; false where there is no such column."""
    named = named_users(column, columns[column], terms) if column in columns else None
    return pl.lit(False) if named is None else named.is_not_null()


def _recount(folder: Path) -> None:
    """Correct the counts in `_PLAN.json` and `_SUCCESS` of published shards.

    Users whose list is empty are not counted any more: they have no row.
    """
    plan, success = folder / PLAN, folder / SUCCESS
    try:
        planned, done = (json.loads(path.read_text(encoding="utf-8")) for path in (plan, success))
        before = int(done["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # not written by recsys
    shards = pl.scan_parquet(folder / "part-*.parquet")
    rows, users = shards.select(pl.len(), pl.col(USER).n_unique()).collect(engine="streaming").row(0)
    if rows != before:
        atomic.write(plan, json.dumps(planned | {"users": users}))
        atomic.write(success, json.dumps(done | {"users": users, "rows": rows}))


def _publish_without(root: Path, holders: Sequence[Path], users: Sequence[str]) -> str | None:
    """Publish the current version again without some users, if it names one; return the name of the new version.

    Everything else stays the same to the bit: histories do not store the row of their user.
    """
    if not holders or not (root / POINTER).exists():
        return None
    loaded = bundle.load(root)
    if loaded.path not in holders:
        return None
    gone = _user_mask(loaded, users)
    kept = load_histories(loaded).select(np.flatnonzero(~gone))
    tables = dict(loaded.tables) | {"users": loaded.tables["users"].filter(pl.Series(~gone))}
    about = loaded.about
    about["counts"] = dict(about["counts"]) | {"users": len(kept), "events": len(kept.item)}
    about["forgotten"] = int(about.get("forgotten", 0)) + int(gone.sum())
    return bundle.publish(root, dict(loaded.arrays) | history_arrays(kept), tables, about).name
