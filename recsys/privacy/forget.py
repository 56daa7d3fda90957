"""Forgetting people: out of the bundle, the vector store, the quarantine and what was published; then a proof.

The order makes every instant safe to die at. The tombstone comes first, so nothing new can name the person. Vectors go
before the versions whose histories tell which they are. A version without the person is published before those with
them are deleted. Each file is written aside and renamed. Running again finds what is left and goes on.
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
from recsys.privacy.scan import USER, Hit, Scan, Wanted, files_of, named_users, scan
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

    `users` counts the people asked for, `new` those of them who were not forgotten before. `version` is the version
    published without them, None where the current one never named them; `pruned` are the deleted versions. `rows` are
    rows removed from tables by file, `vectors` those removed from the store, `leftovers` files and folders of dead
    processes. `source_rows` are rows that the shop's own tables still hold, None where nobody looked.
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
        root: the folder of a run, where its bundle is.
        user_ids: whom to forget.
        outputs: further folders (or files) that may name them; what lies below `root` is searched anyway.
        data: the shop's own tables, to tell how many rows of these people they still hold.

    Raises:
        UnknownIdError: an id that nothing names, neither here nor in `data`, and that was not forgotten before.
            Nothing is changed then.
        ArtifactError: a folder is missing or cannot be written, its bundle is damaged, a process is writing there, or
            a file still names somebody: one that recsys did not write, which is then told by name and place.
        DataError: the tables of `data` cannot be read.
    """
    root = Path(root)
    asked = [user_ids] if isinstance(user_ids, str | int) else user_ids
    users = list(dict.fromkeys(str(user).encode("utf-8", "replace").decode() for user in asked))
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
        told = _told(proof.hits)
        raise ArtifactError(
            f"{len(told)} places still name somebody, or cannot be searched: "
            + "".join(f"\n  {line}" for line in told[:SHOWN])
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
        mentions=tuple(_told(proof.mentions)),
        source_rows=None if in_source is None else sum(in_source.values()),
    )


def _told(hits: Sequence[Hit]) -> list[str]:
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
    """Delete what processes that died have left half written; return it."""
    files = [path for path, _ in atomic.asides(files_of(places))]
    for path in files:
        path.unlink(missing_ok=True)
    return files + versions.delete_leftovers(root)


def _holders(root: Path, found: Scan) -> list[Path]:
    """The versions that name somebody, or in which something cannot be read; oldest first."""
    folders = sorted(path for path in (root / VERSIONS).glob("[!.]*") if path.is_dir())
    hit = {parent for hit in found.hits for parent in hit.path.parents}
    return [folder for folder in folders if folder.resolve() in hit]


def _behaviours(versions: Sequence[Path], users: Sequence[str]) -> Keys:
    """Return the keys of every text that may have been encoded for some users, by what the versions remember.

    Runs encode the text of a history as it stood at some cut, so each beginning of a history has one.
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
        for row in np.flatnonzero(_named(loaded, users)):
            for beginnings in _beginnings(histories, int(row)):
                texts.update(behaviour_texts(beginnings, titles, newest))
    return keys_of(texts)


def _beginnings(histories: Histories, row: int) -> Iterator[Histories]:
    """One user's history as it was after each of its events, some hundred at a time."""
    start, length = int(histories.offsets[row]), int(histories.lengths[row])
    for first in range(1, length + 1, PREFIXES):
        lengths = np.arange(first, min(first + PREFIXES, length + 1))
        offsets = offsets_of(lengths)
        rows = start + places_of(offsets)
        query = np.full(len(lengths), row)
        yield Histories(query.astype(np.int32), offsets, histories.item[rows], histories.time[rows],
                        histories.weight[rows], histories.as_of[query])  # fmt: skip


def _named(loaded: Bundle, users: Sequence[str]) -> BoolArray:
    """Which rows of a version's users are these `(U,)`."""
    return loaded.tables["users"][USER].cast(pl.String).is_in(list(users)).to_numpy()


def _remove_rows(places: Sequence[Path], versions: Path, users: Sequence[str]) -> dict[str, int]:
    """Rewrite every Parquet table that names somebody without those rows; return how many went, by file.

    In a quarantine an id may also be what was wrong with another's row: then that cell goes, and counts as a row.
    A quarantine without `user_id`, as earlier versions of recsys wrote it, cannot tell whose its rows are: it goes.
    """
    removed, wanted = {}, Wanted(users, keys_of([]))
    for path in files_of(places):
        if versions.resolve() in path.parents or path.suffix != ".parquet":
            continue
        table = pl.scan_parquet(path)
        try:
            columns = table.collect_schema()
        except pl.exceptions.PolarsError:
            continue  # the scan tells of it
        refused = path.parent.name == QUARANTINE
        own = _named_in(USER, columns, wanted)
        amiss = _named_in("value", columns, wanted) if refused else pl.lit(False)
        rows, gone, cells = (
            table.select(pl.len(), own.sum().alias("own"), amiss.sum().alias("amiss"))
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
                left = left.with_columns(value=pl.when(~amiss).then("value"))
            with atomic.whole(path) as aside:
                left.sink_parquet(aside)
        if gone or cells:
            removed[str(path)] = gone + cells
    for path in files_of(places):
        if path.name == SUCCESS:
            _recount(path.parent)
    return removed


def _named_in(column: str, columns: pl.Schema, wanted: Wanted) -> pl.Expr:
    """Whether each cell of a column, if there is one, names somebody."""
    named = named_users(column, columns[column], wanted) if column in columns else None
    return pl.lit(False) if named is None else named.is_not_null()


def _recount(folder: Path) -> None:
    """Let `_PLAN.json` and `_SUCCESS` of published shards say what the shards hold now.

    Users whose list is empty are no longer among those counted: no row tells of them.
    """
    plan, success = folder / PLAN, folder / SUCCESS
    try:
        about, told = (json.loads(path.read_text(encoding="utf-8")) for path in (plan, success))
        before = int(told["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # not written by recsys
    shards = pl.scan_parquet(folder / "part-*.parquet")
    rows, users = shards.select(pl.len(), pl.col(USER).n_unique()).collect(engine="streaming").row(0)
    if rows != before:
        atomic.write(plan, json.dumps(about | {"users": users}))
        atomic.write(success, json.dumps(told | {"users": users, "rows": rows}))


def _publish_without(root: Path, holders: Sequence[Path], users: Sequence[str]) -> str | None:
    """Publish the current version again without some users, where it names one; return the new version's name.

    Everything else stays bit for bit: histories do not know the row of their user.
    """
    if not holders or not (root / POINTER).exists():
        return None
    loaded = bundle.load(root)
    if loaded.path not in holders:
        return None
    gone = _named(loaded, users)
    kept = load_histories(loaded).select(np.flatnonzero(~gone))
    tables = dict(loaded.tables) | {"users": loaded.tables["users"].filter(pl.Series(~gone))}
    about = loaded.about
    about["counts"] = dict(about["counts"]) | {"users": len(kept), "events": len(kept.item)}
    about["forgotten"] = int(about.get("forgotten", 0)) + int(gone.sum())
    return bundle.publish(root, dict(loaded.arrays) | history_arrays(kept), tables, about).name
