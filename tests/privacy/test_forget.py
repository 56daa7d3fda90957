"""Forgetting people, asked at the public doors; what is left is searched here by another, simpler scan."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import ROOT, recsys_process, write_shop_config, write_tiny_config
from typer.testing import CliRunner

from recsys import Recommender, errors, forget, train
from recsys.artifacts import bundle, versions
from recsys.cli.app import app
from recsys.config import Config, load_config
from recsys.jobs.candidates import write_candidates
from recsys.privacy.forget import Forgotten
from recsys.tables.tombstones import Tombstones

GONE, ALIKE = "u383", "u38"


@dataclass(frozen=True)
class Run:
    """A run's config and where it publishes."""

    config: Config
    path: Path

    @property
    def root(self) -> Path:
        return self.config.folder

    @property
    def vectors(self) -> Path:
        return self.root.parent / "vectors"

    def forget(self, *users: object, **rest: object) -> Forgotten:
        return forget(self.root, users, **rest)  # type: ignore[arg-type]

    def moved(self, folder: Path) -> Run:
        """Copy everything that the run wrote to another folder."""
        shutil.copytree(self.root.parent, folder / "artifacts")
        raw = yaml.safe_load(self.path.read_text(encoding="utf-8")) | {"output": str(folder / "artifacts")}
        path = folder / "shop.yaml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return Run(load_config(path), path)


def republished(root: Path, loaded: bundle.Bundle, users: pl.DataFrame | None = None) -> Path:
    """Publish a version again as a new one, or with other users in the rows."""
    about = {key: loaded.manifest[key] for key in ("name", "config", "encoder", "data_window", "counts", "seconds")}
    tables = dict(loaded.tables) if users is None else dict(loaded.tables) | {"users": users}
    return bundle.publish(root, loaded.arrays, tables, about)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    """The shop with behaviour texts, refused rows, two versions that name everybody, and published lists."""
    folder = tmp_path_factory.mktemp("forget")
    events = (ROOT / "data" / "shop" / "events.csv").read_text(encoding="utf-8")
    bad = [f"{GONE},i162,yesterday,purchase,3", f"{ALIKE},i162,tomorrow,purchase,3", f"u1,i162,{GONE},purchase,3",
           f"{GONE},i162,2025-01-01T00:00:00Z,click,3", ",i162,2025-01-01T00:00:00Z,purchase,3"]  # fmt: skip
    (folder / "events.csv").write_text(events + "\n".join(bad) + "\n", encoding="utf-8")
    path = write_shop_config(folder, tiny_model)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["embedding"]["user_text"] = True
    raw["data"]["interactions"]["path"] = str(folder / "events.csv")
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    config = load_config(path)
    train(config)
    version = republished(config.folder, bundle.load(config.folder))
    write_candidates(Recommender.load(version), config.folder / "candidates" / version.name, k=5, shard_users=200)
    return Run(config, path)


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    return made.moved(tmp_path)


def naming(folder: Path, user: str) -> list[Path]:
    """Files in which a user's id stands alone: Parquet cell by cell, everything else byte by byte."""
    alone = re.compile(rb"(?<![A-Za-z0-9])" + re.escape(user.encode()) + rb"(?![A-Za-z0-9])")
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            if any(user in column.cast(pl.String).to_list() for column in frame):
                found.append(path)
        elif alone.search(path.read_bytes()):
            found.append(path)
    return found


LOCKS = (".lock", ".turn")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in LOCKS}  # fmt: skip


def answers(recommender: Recommender, users: list[object]) -> list[object]:
    told = [recommender.recommend(user, k=20).to_dict() for user in users]
    return [{key: value for key, value in answer.items() if key not in ("model_version", "request_id")}
            for answer in told]  # fmt: skip


def store_keys(folder: Path) -> set[bytes]:
    shards = [np.load(path) for path in folder.glob("*/*.npy")]
    return {bytes(key) for shard in shards for key in shard["key"]}


def texts_of(recommender: Recommender, user: str, newest: int) -> set[bytes]:
    """Keys of the behaviour text after every event of a user, written down anew."""
    titles = recommender.history(user)["title"].to_list()[::-1]
    beginnings = (titles[:n] for n in range(1, len(titles) + 1))
    texts = {" ; ".join(list(dict.fromkeys(past[::-1]))[:newest]) for past in beginnings}
    return {hashlib.sha256(text.encode()).digest().rstrip(b"\0") for text in texts}


def test_a_person_is_gone_and_everybody_else_is_answered_as_before(run: Run) -> None:
    old = Recommender.load(run.root)
    others = [user for user in old.user_ids if user != GONE]
    before, keys = answers(old, others), store_keys(run.vectors)
    own = texts_of(old, GONE, run.config.embedding.user_items) & keys
    assert len(own) >= 2, "a training cut and the present have a text each"
    assert len(naming(run.root, GONE)) == 4, "two versions, quarantine, a shard, no other"
    rows = {path: pl.read_parquet(path) for path in run.root.glob("candidates/*/part-*.parquet")}

    told = run.forget(GONE)

    assert naming(run.root.parent, GONE) == []
    assert (told.users, told.new, told.hits, told.mentions) == (1, 1, 0, ())
    assert told.vectors == len(own)
    assert store_keys(run.vectors) == keys - own
    new = Recommender.load(run.root)
    assert new.version == told.version
    assert versions.versions(run.root) == [told.version]
    assert told.pruned == tuple(sorted(told.pruned))
    assert old.version in told.pruned
    assert len(told.pruned) == 2
    assert new.user_ids.to_list() == others
    assert answers(new, others) == before
    assert new.manifest["forgotten"] == 1
    assert new.manifest["counts"]["users"] == len(others)
    assert new.manifest["counts"]["events"] == old.manifest["counts"]["events"] - old.history(GONE).height
    assert {k: v for k, v in new.manifest.items() if k in ("config", "encoder", "data_window", "seconds")} == {
        k: v for k, v in old.manifest.items() if k in ("config", "encoder", "data_window", "seconds")}  # fmt: skip
    with pytest.raises(errors.UnknownIdError, match=GONE):
        new.recommend(GONE, strict=True)
    for path, frame in rows.items():
        assert pl.read_parquet(path).equals(frame.filter(pl.col("user_id") != GONE))
    for name in ("_PLAN.json", "_SUCCESS"):
        [path] = run.root.glob(f"candidates/*/{name}")
        assert json.loads(path.read_text())["users"] == len(others)
    assert json.loads(path.read_text())["rows"] == 5 * len(others)
    quarantine = pl.read_parquet(run.root / "quarantine" / "interactions.parquet")
    assert quarantine.select("user_id", "value").rows() == [(ALIKE, "tomorrow"), ("u1", None), (None, None)]
    files = [path for place in (run.root, run.vectors) for path in place.rglob("*") if path.is_file()]
    assert (told.files_scanned, told.bytes_scanned) == (len(files), sum(path.stat().st_size for path in files))


def test_later_runs_respect_the_tombstone(run: Run) -> None:
    first = json.loads((run.root / "ingest.json").read_text())["interactions"]
    had = Recommender.load(run.root).history(GONE).height
    run.forget(GONE)
    told = (run.root / "forgotten.json").read_text()
    assert GONE not in told
    assert len(json.loads(told)["users"]) == 1

    version = train(run.config)

    assert naming(run.root.parent, GONE) == []
    assert GONE not in Recommender.load(version).user_ids
    then = json.loads((run.root / "ingest.json").read_text())["interactions"]
    assert then["rows"] == first["rows"]
    # One more row was refused, one dropped for its kind: that is counted as before.
    assert then["dropped"] == {**first["dropped"], "forgotten": had + 1}
    assert sum(then["refused"].values()) == sum(first["refused"].values()) - 1
    assert then["kept"] == first["kept"] - had
    again = run.forget(GONE)
    assert (again.new, again.version, again.pruned, again.rows, again.vectors) == (0, None, (), {}, 0)


def test_versions_that_never_named_anybody_asked_stay(run: Run) -> None:
    all_of_them = bundle.load(run.root)
    free = run.forget(GONE).version
    assert free is not None
    naming_them = republished(run.root, all_of_them).name
    told = run.forget(GONE)
    assert told.pruned == (naming_them,)
    assert versions.versions(run.root) == [free, told.version]
    naming_them = republished(run.root, all_of_them).name
    versions.point(run.root, free)
    told = run.forget(GONE)
    assert (told.version, told.pruned) == (None, (naming_them,))
    assert Recommender.load(run.root).version == free


def test_outputs_elsewhere(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "published"
    write_candidates(Recommender.load(run.root), out / "lists", k=3, shard_users=1000)
    told = run.forget(GONE, outputs=[out])
    assert told.rows[str((out / "lists" / "part-00000.parquet").resolve())] == 3
    assert naming(out, GONE) == []
    assert json.loads((out / "lists" / "_SUCCESS").read_text())["rows"] == 3 * 599


def test_integers_and_ids_inside_others(tmp_path: Path, tiny_model: Path) -> None:
    ids = [-77, -7, 7, 70, 77, 777]
    path = _tiny(tmp_path, tiny_model, ids)
    root = load_config(path).folder
    write_candidates(Recommender.load(root), root / "lists", k=2)
    old = answers(Recommender.load(root), [-77, 7, 70, 777])
    ran = recsys_process(["forget", "--config", str(path), "--json", "--", "-7", "77"])
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["users"], told["new"], told["hits"], told["source_rows"]) == (2, 2, 0, 8)
    assert Recommender.load(root).user_ids.to_list() == [-77, 7, 70, 777]
    assert answers(Recommender.load(root), [-77, 7, 70, 777]) == old
    assert pl.read_parquet(root / "lists" / "part-00000.parquet")["user_id"].unique().sort().to_list() == [
        -77, 7, 70, 777]  # fmt: skip
    assert Recommender.load(train(load_config(path))).user_ids.to_list() == [-77, 7, 70, 777]
    with pytest.raises(errors.UnknownIdError, match=r"1 of 2 users are named by nothing in .*: '007'; nobody"):
        forget(root, ["7", "007"])


def _tiny(folder: Path, model: Path, ids: list[int] | list[str]) -> Path:
    rng = np.random.default_rng(1)
    items = pl.DataFrame({"item_id": [7, 70, 77, 8, 9, 10], "title": ["soap", "cream", "nail", "hair", "face", "lip"],
                          "category": ["a", "b"] * 3, "brand": ["x", "y", "y"] * 2})  # fmt: skip
    rows = [(user, item, time) for user in ids for time, item in enumerate(rng.permutation(items["item_id"])[:4])]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    path = write_tiny_config(folder, model, items, events, rules={"seen": "keep"})
    train(load_config(path))
    return path


# Ids that are parts of each other, short numbers, words that a bundle is full of, other alphabets.
IDS = st.one_of(
    st.text(alphabet="u1-0é爱_.@", min_size=1, max_size=5),
    st.sampled_from(["item", "users", "manifest", "shop", "kept", "logistic", "soap", "u1", "u10", "u1-0", "7", "-7",
                     "007", "rows", "null", "💅💅💅💅", "O'Hara \"x\"", "a\nb,c;d", "123456", "1234567"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("small")
    return load_config(_tiny(folder, tiny_model, [f"u{n}" for n in range(8)])).folder


@settings(max_examples=10, deadline=None)
@given(ids=st.lists(IDS, min_size=8, max_size=8, unique=True), gone=st.sets(st.integers(0, 7), min_size=1))
def test_whoever_is_asked_for_and_nobody_else(
    ids: list[str], gone: set[int], small: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("ids") / "shop"
    loaded = bundle.load(small)
    ids = pl.Series(ids).sort().to_list()
    republished(root, loaded, pl.DataFrame({"user_id": ids}))
    shutil.copy(small / "ingest.json", root)
    old = Recommender.load(root)
    write_candidates(old, root / "lists", k=2, shard_users=3)
    asked = [ids[row] for row in sorted(gone)]
    others = [user for user in ids if user not in asked]
    told = forget(root, asked)
    assert told.hits == 0
    assert told.new == len(asked)
    new = Recommender.load(root)
    assert new.user_ids.to_list() == others
    assert answers(new, others) == answers(old, others)
    lists = pl.concat(pl.read_parquet(path) for path in sorted(root.glob("lists/*.parquet")))
    assert lists["user_id"].unique(maintain_order=True).to_list() == others
    assert Tombstones.read(root).hold(pl.Series(ids)).to_list() == [user in asked for user in ids]
    assert forget(root, asked).new == 0


def test_an_unknown_user_changes_nothing(run: Run) -> None:
    before = contents(run.root.parent)
    told = r"2 of 3 users are named by nothing in .*: 'u999', ''; nobody was forgotten"
    with pytest.raises(errors.UnknownIdError, match=told):
        run.forget("u999", GONE, "")
    assert contents(run.root.parent) == before


def test_a_user_whom_only_the_quarantine_or_the_source_names(run: Run) -> None:
    path = run.root / "quarantine" / "interactions.parquet"
    frame = pl.read_parquet(path)
    pl.concat([frame, frame.head(1).with_columns(user_id=pl.lit("stray"))]).write_parquet(path)
    told = run.forget("stray")
    assert (told.version, told.pruned, list(told.rows.values())) == (None, (), [1])
    assert pl.read_parquet(path).equals(frame)
    ours = run.config.data.interactions
    source = Path(str(ours.path)).parent / "more.csv"
    source.write_text("user_id,item_id,timestamp,event\nfresh,i162,2025-01-01,purchase\n", encoding="utf-8")
    data = run.config.data.model_copy(
        update={"interactions": ours.model_copy(update={"path": [ours.path, str(source)]})}
    )
    told = run.forget("fresh", data=data)
    assert (told.new, told.rows, told.source_rows) == (1, {}, 1)


def test_a_quarantine_that_does_not_say_whose_its_rows_are_goes(run: Run) -> None:
    path = run.root / "quarantine" / "interactions.parquet"
    frame = pl.read_parquet(path)
    frame.drop("user_id").write_parquet(path)
    assert run.forget(GONE).rows[str(path.resolve())] == frame.height
    assert not path.exists()


PLANTED = {
    "report.json": (b'{"a": [1, {"b": "for u383!"}]}', r"report.json: a\[1\].b"),
    "keys.json": (b'{"a": {"u383": 1}}', "keys.json: a: a key"),
    "evaluation.json": (b'{"u383": 1}', "evaluation.json: : a key"),
    "lines.jsonl": (b'{"a": 1}\n{"user": "u383"}\n', "lines.jsonl: line 2 .user"),
    "broken.json": (b"{u383", "broken.json: line 1"),
    "table.csv": (b"who,item_id\nx,u383\nu383,y\n", "table.csv: column who, 1 rows"),
    "notes.txt": ("ärger\n mit u383, u3830\n".encode(), "notes.txt: line 2"),
    "packed.txt.gz": (gzip.compress(b"of u383."), "packed.txt.gz: line 1"),
    "binary.dat": (b"\xff\x00\x07u383\x00", "binary.dat: byte 3"),
    "u383.txt": (b"", "u383.txt: its name"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_scan_names_the_file_and_the_place(run: Run, name: str) -> None:
    content, place = PLANTED[name]
    (run.root / name).write_bytes(content)
    with pytest.raises(errors.ArtifactError, match="^1 places still name .*\n  .*" + place.replace(".", r"\.")):
        run.forget(GONE)
    (run.root / name).unlink()
    told = run.forget(GONE)
    assert (told.new, told.version, told.hits) == (0, None, 0), "all else was done already"


@pytest.mark.parametrize("name", PLANTED)
def test_the_scan_does_not_take_another_user_for_this_one(run: Run, name: str) -> None:
    for other in ("u3830", "u383-a", "u383@x.example", "xu383", "u383.b"):
        content = gzip.decompress(PLANTED[name][0]) if name.endswith(".gz") else PLANTED[name][0]
        content = re.sub(b"u383\\b", other.encode(), content)
        path = run.root / name.replace("u383", other)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        kept = path.read_bytes()
        assert forget(run.root, [GONE]).hits == 0
        assert path.read_bytes() == kept


def test_the_scan_reads_tables_and_arrays(run: Run) -> None:
    out = run.root / "exports"
    out.mkdir()
    nested = pl.DataFrame({"who": [[{"name": "u1"}, {"name": GONE}]], "n": [1]})
    nested.write_parquet(out / "nested.parquet")
    pl.DataFrame({"customer": ["u1", GONE, GONE]}, schema={"customer": pl.Categorical}).write_parquet(out / "c.parquet")
    np.save(out / "names.npy", np.array(["u1", GONE]))
    np.save(out / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (out / "cut.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(errors.ArtifactError) as caught:
        run.forget(GONE)
    told = str(caught.value)
    assert told.startswith("5 places still name somebody, or cannot be searched:")
    for place in ("nested.parquet: column who, 1 rows", "c.parquet: column customer, 2 rows", "names.npy: 1 entries",
                  "objects.npy: it cannot be read", "cut.parquet: it cannot be read"):  # fmt: skip
        assert place in told
    assert naming(run.root / "versions", GONE) == []


def test_a_user_called_like_a_brand_or_a_setting(run: Run) -> None:
    loaded = bundle.load(run.root)
    brand = loaded.tables["catalog"]["brand"].drop_nulls()[0]
    users = loaded.tables["users"].with_columns(pl.col("user_id").replace({GONE: brand, "u384": "logistic"}))
    order = users["user_id"].arg_sort()
    assert order.to_list() != list(range(len(order))), "the rows move"
    shutil.rmtree(run.root)
    republished(run.root, loaded, users.sort("user_id"))
    told = run.forget(brand, "logistic")
    assert told.hits == 0
    assert len(told.mentions) == 2
    assert any("catalog.parquet: column brand" in mention for mention in told.mentions)
    assert any("manifest.json: config.scorer.kind" in mention for mention in told.mentions)
    assert Recommender.load(run.root).user_ids.len() == 598


KILLER = """
import os, signal, sys
from pathlib import Path
from recsys import forget
from recsys.embedding import store
left = int(sys.argv[2])

def hook(event, args):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

import polars, numpy
sys.addaudithook(hook)
forget(sys.argv[1], ["u383"])
print(int(sys.argv[2]) - left)
"""


def _forget_until(run: Run, changes: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLER, str(run.root), str(changes)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)


def test_killed_at_any_instant_it_is_finished_by_the_next_run(made: Run, tmp_path: Path) -> None:
    whole = _forget_until(made.moved(tmp_path / "whole"), 10**6)
    assert whole.returncode == 0, whole.stderr
    changes = int(whole.stdout)
    assert changes > 40
    before = answers(Recommender.load(made.root), ["u001", "u384", "u599"])
    # The lock comes first, then the tombstone; the last changes delete the versions.
    for instant in (0, 2, 3, changes // 2, changes - 1):
        run = made.moved(tmp_path / str(instant))
        killed = _forget_until(run, instant)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert answers(Recommender.load(run.root), ["u001", "u384", "u599"]) == before, (
            "somebody can always be answered"
        )
        if instant > 2:
            assert Tombstones.read(run.root).hold(pl.Series([GONE, ALIKE])).to_list() == [True, False]
        told = run.forget(GONE)
        assert told.hits == 0
        assert naming(run.root.parent, GONE) == []
        assert not [path for path in run.root.parent.rglob(".*") if path.name not in LOCKS], "nothing half written"
        assert Recommender.load(run.root).user_ids.len() == 599
        keys = texts_of(Recommender.load(made.root), GONE, made.config.embedding.user_items)
        assert not keys & store_keys(run.vectors)
        [success] = run.root.glob("candidates/*/_SUCCESS")
        assert json.loads(success.read_text())["rows"] == 5 * 599


def test_what_dead_processes_left_goes_and_a_living_one_is_waited_for(run: Run) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    [folder] = run.root.glob("candidates/*")
    shard = folder / f".part-00009.parquet.1.{child.pid}"
    shard.write_bytes(b"half of u383")
    drafts = [run.root / name for name in (f"quarantine/.items.parquet.1.{child.pid}", f".CURRENT.1.{child.pid}")]
    half = run.root / "versions" / ".20250101T000000000000-01234567"
    shutil.copytree(run.root / "versions" / versions.versions(run.root)[0], half)
    with pytest.raises(errors.ArtifactError, match=rf"process {child.pid} is writing .*{re.escape(shard.name)}: wait"):
        run.forget(GONE)
    assert not (run.root / "forgotten.json").exists()
    child.communicate(b"\n")
    for path in drafts:
        path.write_bytes(b"u383")
    told = run.forget(GONE)
    assert set(map(Path, told.leftovers)) == {shard.resolve(), half, *(path.resolve() for path in drafts)}
    assert not any(path.exists() for path in (shard, half, *drafts))


def test_damaged_shards_of_vectors_go(run: Run) -> None:
    [shard, *_] = sorted(run.vectors.glob("*/*.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    aside = shard.with_name("0" * 64 + ".damaged")
    aside.write_bytes(content)
    run.forget(GONE)
    assert not shard.exists()
    assert not aside.exists()


def test_a_damaged_tombstone_stops_every_run(run: Run) -> None:
    run.forget(GONE)
    path = run.root / "forgotten.json"
    whole = path.read_text()
    for broken in ("", "[]", "{}", '{"salt": "xx", "users": {}}', '{"salt": "00", "users": []}'):
        path.write_text(broken)
        with pytest.raises(errors.ArtifactError, match=r"forgotten.json is damaged .* restore it from a backup"):
            train(run.config)
        with pytest.raises(errors.ArtifactError, match=r"forgotten.json is damaged"):
            run.forget(ALIKE)
    path.write_text(whole)
    assert run.forget(ALIKE).new == 1


def test_where_nothing_can_be_written(run: Run) -> None:
    mine = f"{threading.get_ident()}.{os.getpid()}"
    (run.root / f".forgotten.json.{mine}").mkdir()
    with pytest.raises(errors.ArtifactError, match=r"forgotten.json could not be written \(.*\): nobody was forgotten"):
        run.forget(GONE)
    assert naming(run.root / "versions", GONE)
    (run.root / f".forgotten.json.{mine}").rmdir()
    [named] = [path for path in run.root.glob("candidates/*/*.parquet") if GONE in pl.read_parquet(path)["user_id"]]
    blocked = named.with_name(f".{named.name}.{mine}")
    blocked.mkdir()
    with pytest.raises(errors.ArtifactError, match=f"could not forget everybody in {run.root}: .*; what is done stays"):
        run.forget(GONE)
    blocked.rmdir()
    blocked = next(run.vectors.glob("*")) / f"{'0' * 64}.npy"
    blocked.mkdir()
    with pytest.raises(errors.ArtifactError, match=f"vector store {run.vectors}: vectors could not be removed"):
        run.forget(GONE)
    blocked.rmdir()
    assert run.forget(GONE).hits == 0


def test_a_damaged_current_version_stops_and_an_older_one_goes(run: Run) -> None:
    older, current = versions.versions(run.root)
    (run.root / "versions" / older / "users.parquet").write_bytes(b"PAR1 no more")
    broken = run.root / "versions" / current / "popular.npy"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-1])
    with pytest.raises(errors.ArtifactError, match=r"popular.npy has"):
        run.forget(GONE)
    broken.write_bytes(whole)
    told = run.forget(GONE)
    assert set(told.pruned) == {older, current}


def test_folders_that_cannot_be_meant(run: Run, tmp_path: Path) -> None:
    with pytest.raises(errors.ArtifactError, match="nowhere does not exist: nothing to forget there"):
        run.forget(GONE, outputs=[tmp_path / "nowhere"])
    version = run.root / "versions" / versions.versions(run.root)[0]
    with pytest.raises(errors.ArtifactError, match=rf"one version of a bundle; name the bundle's folder, {run.root}$"):
        forget(version, GONE)


def test_the_command(run: Run) -> None:
    neither = CliRunner().invoke(app, ["forget", GONE])
    assert neither.exit_code == 2
    assert "--bundle or --config" in neither.output
    unknown = recsys_process(["forget", "u999", "--bundle", str(run.root)])
    assert unknown.returncode == 6
    assert "'u999'; nobody was forgotten" in unknown.stderr
    ran = recsys_process(["forget", GONE, "--config", str(run.path)])
    assert ran.returncode == 0, ran.stderr
    version = Recommender.load(run.root).version
    for line in (f"published {version} without them", "0 places name them", "own tables still hold",
                 "until the next `recsys train`", "a service that runs keeps the old version"):  # fmt: skip
        assert line in ran.stdout
    assert GONE not in ran.stdout, "what is printed may go to a log"
    shown = CliRunner().invoke(app, ["inspect", "--bundle", str(run.root)])
    assert "1 user since training" in shown.output
    again = CliRunner().invoke(app, ["forget", GONE, "--config", str(run.path)])
    assert again.exit_code == 0
    assert again.output.startswith("nothing was left to remove")
