"""Forgetting people, asked at the public doors; what is left is searched by another, simpler scan."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from forgetting import ALIKE, GONE, Run, answers, contents, naming, republished, store_keys, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import recsys_process, write_tiny_config
from typer.testing import CliRunner

from recsys import Recommender, errors, forget, train
from recsys.artifacts import bundle, versions
from recsys.cli.app import app
from recsys.config import load_config
from recsys.jobs.candidates import write_candidates
from recsys.tables.tombstones import Tombstones


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
    assert versions.list_versions(run.root) == [told.version]
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
    assert versions.list_versions(run.root) == [free, told.version]
    naming_them = republished(run.root, all_of_them).name
    versions.set_current(run.root, free)
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
    older, current = versions.list_versions(run.root)
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
    version = run.root / "versions" / versions.list_versions(run.root)[0]
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
