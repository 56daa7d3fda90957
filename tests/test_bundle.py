"""Bundles: what is published comes back, what was touched is refused, and dying at any instant harms nothing."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xxhash
from conftest import ROOT, Shop

from recsys.engine.bundle import (
    CHUNK,
    LOCK,
    MANIFEST,
    POINTER,
    TURN,
    VERSIONS,
    current,
    describe,
    load,
    locked,
    point,
    prune,
    publish,
    rollback,
    stamp,
    versions,
)
from recsys.errors import ArtifactError

Change = Callable[[dict[str, Any]], object]


def parts(number: int) -> tuple[dict[str, np.ndarray], dict[str, pl.DataFrame], dict[str, Any]]:
    """Make a small bundle of which every file tells its number."""
    arrays = {"one": np.full(50, number), "group/two": np.full((30, 2), number, np.float32), "none": np.zeros((0, 3))}
    return arrays, {"table": pl.DataFrame({"number": [number] * 5, "text": ["茶 🎁"] * 5})}, {"number": number}


def whole(root: Path) -> int:
    """Load, and check that all of it is of one publication; return its number."""
    loaded = load(root)
    number = loaded.manifest["number"]
    assert (loaded.arrays["one"] == number).all()
    assert (loaded.arrays["group/two"] == number).all()
    assert (loaded.tables["table"]["number"] == number).all()
    return int(number)


def refused(path: Path) -> str:
    with pytest.raises(ArtifactError) as raised:
        load(path)
    return str(raised.value)


def left(root: Path) -> list[str]:
    """Everything below a root but complete versions, the pointer and what writers lock."""
    known = set(versions(root))
    found = [path.name for path in root.iterdir() if path.name not in (VERSIONS, POINTER, LOCK, TURN)]
    return found + [path.name for path in (root / VERSIONS).iterdir() if path.name not in known]


def forge(folder: Path, change: Change) -> None:
    """Change a manifest as someone would who knows how its checksum is made."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["checksum"]
    change(manifest)
    manifest["checksum"] = xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode())
    path.write_text(json.dumps(manifest), encoding="utf-8")


def add(folder: Path, name: str, content: bytes) -> None:
    """Put a file into a bundle, manifest and all."""
    (folder / name).write_bytes(content)
    told = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}
    forge(folder, lambda manifest: manifest["files"].update({name: told}))


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish(tmp_path / "root", *parts(1))


@pytest.fixture
def root(version: Path) -> Path:
    return version.parent.parent


# There and back


def test_what_is_published_comes_back(version: Path, root: Path) -> None:
    arrays, tables, _ = parts(1)
    for loaded in (load(root), load(version), load(str(root))):
        assert loaded.path == version
        assert loaded.version == version.name
        assert loaded.arrays.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded.arrays[name], array)
            assert loaded.arrays[name].dtype == array.dtype
        assert loaded.tables["table"].equals(tables["table"])
        assert loaded.group("group").keys() == {"two"}
        assert loaded.manifest["files"]["group/two.npy"]["shape"] == [30, 2]
    assert (root / POINTER).read_text() == version.name + "\n"
    assert left(root) == []


def test_arrays_are_mapped_and_cannot_be_written(root: Path) -> None:
    array = load(root).arrays["one"]
    assert isinstance(array.base, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 7


def test_a_transposed_array_comes_back_as_it_was(tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3).T
    publish(tmp_path, {"a": array}, {}, {})
    np.testing.assert_array_equal(load(tmp_path).arrays["a"], array)


def test_extents_are_those_of_whole_arrays(tmp_path: Path) -> None:
    """Arrays longer than what is looked at in one piece, by rows and by columns, and ones with nothing or no number."""
    rng = np.random.default_rng(0)
    wide = rng.integers(-(2**62), 2**62, size=(3, CHUNK // 8 + 5))
    arrays = {"rows": wide, "columns": wide.T, "nothing": np.zeros((0, 4)), "last": np.ones(CHUNK, np.float32),
              "infinite": np.array([1, -np.inf])}  # fmt: skip
    arrays["last"][-1] = np.nan
    extents = load(publish(tmp_path, arrays, {}, {})).extents
    assert extents["rows"] == extents["columns"] == (wide.min(), wide.max())
    assert extents["nothing"] == (0, 0)
    assert np.isnan(extents["last"]).all()
    assert extents["infinite"] == (-np.inf, 1)


def test_the_last_byte_of_a_long_array_counts(tmp_path: Path) -> None:
    file = publish(tmp_path, {"a": np.zeros(3 * CHUNK, np.uint8)}, {}, {}) / "a.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"\1")
    assert refused(tmp_path) == f"bundle file {file} differs from its checksum; train again or restore it"


def test_an_array_of_objects_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        publish(tmp_path, {"a": np.array([{}], dtype=object)}, {}, {})
    assert left(tmp_path) == []


def test_versions_are_in_order_and_rollback_is_pointing_back(root: Path, version: Path) -> None:
    names = [version.name, *(publish(root, *parts(number)).name for number in range(2, 6))]
    assert versions(root) == names
    assert whole(root) == 5
    point(root, names[1])
    assert whole(root) == 2
    publish(root, *parts(6))
    assert whole(root) == 6
    assert [whole(root / VERSIONS / name) for name in names] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["nope", "", ".", "..", "../versions", "/tmp"])
def test_an_unknown_version_cannot_be_pointed_at(root: Path, version: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match=re.escape(f"holds no version {name!r}; it holds: {version.name}")):
        point(root, name)
    assert whole(root) == 1
    assert left(root) == []


def test_nothing_to_point_at(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no version 'x'; it holds: none"):
        point(tmp_path, "x")


def test_an_empty_folder_says_how_to_make_a_bundle(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path} holds no bundle (CURRENT is missing); make one with `recsys train CONFIG`"
    assert "CURRENT is missing" in refused(tmp_path / "nowhere")


def test_rollback_checks_a_version_and_makes_it_current(root: Path, version: Path) -> None:
    names = [version.name, *(publish(root, *parts(number)).name for number in (2, 3))]
    assert rollback(root) == names[1]
    assert whole(root) == 2
    assert rollback(root, names[2]) == names[2]
    assert whole(root) == 3
    (root / VERSIONS / names[0] / "one.npy").unlink()
    with pytest.raises(ArtifactError, match=r"one\.npy is missing"):
        rollback(root, names[0])
    with pytest.raises(ArtifactError, match="holds no version 'x'; it holds: "):
        rollback(root, "x")
    assert current(root) == names[2]
    point(root, names[0])
    told = f"holds no version older than the current one, {names[0]}; nothing to go back to"
    with pytest.raises(ArtifactError, match=told):
        rollback(root)


def test_what_is_told_of_versions(root: Path, version: Path) -> None:
    later = publish(root, *parts(2))
    (version / MANIFEST).write_text("{")
    old, new = describe(root)
    assert (old["version"], old["created_at"], old["current"]) == (version.name, None, False)
    assert f"bundle manifest {version / MANIFEST} is damaged" in old["problem"]
    made = load(root).manifest["created_at"]
    size = sum(path.stat().st_size for path in later.rglob("*") if path.is_file())
    assert new == {"version": later.name, "created_at": made, "bytes": size, "current": True, "problem": None}
    (root / POINTER).unlink()
    assert [told["current"] for told in describe(root)] == [False, False]
    with pytest.raises(ArtifactError, match="CURRENT is missing"):
        describe(root / "nowhere")


def test_a_stamp_changes_with_the_pointer_and_the_files_it_means(root: Path, version: Path) -> None:
    first = stamp(root)
    assert stamp(root) == first
    later = publish(root, *parts(2))
    second = stamp(root)
    os.utime(version / "one.npy", ns=(0, 0))
    assert stamp(root) == second != first
    os.utime(later / "one.npy", ns=(0, 0))
    third = stamp(root)
    assert third != second
    (root / POINTER).write_text("x")
    assert stamp(root) not in (first, second, third)


# Pruning


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_prune_keeps_the_newest_and_the_current(root: Path, version: Path, keep: int) -> None:
    names = [version.name, *(publish(root, *parts(number)).name for number in range(2, 6))]
    point(root, names[1])
    loaded = load(root)
    kept = sorted({names[1], *names[-keep:]})
    assert prune(root, keep) == [name for name in names if name not in kept]
    assert versions(root) == kept
    assert left(root) == []
    assert whole(root) == 2
    point(root, names[-1])
    assert prune(root, 1) == kept[:-1]
    # Who has a deleted version loaded keeps it.
    assert (loaded.arrays["one"] == 2).all()
    assert whole(root) == 5


def test_prune_refuses_what_it_cannot_know(root: Path, version: Path) -> None:
    publish(root, *parts(2))
    with pytest.raises(ArtifactError, match="at least 1, and was asked to keep 0"):
        prune(root, 0)
    (root / POINTER).write_text("x\n")
    with pytest.raises(ArtifactError, match="names 'x', which is no version here"):
        prune(root, 1)
    (root / POINTER).unlink()
    with pytest.raises(ArtifactError, match="CURRENT is missing"):
        prune(root, 1)
    assert len(versions(root)) == 2


def test_prune_sweeps_what_the_dead_left(root: Path, version: Path, tmp_path: Path) -> None:
    (root / VERSIONS / ".20200101T000000000000-dead" / "group").mkdir(parents=True)
    (root / VERSIONS / ".20200101T000000000000-dead" / "group" / "x.npy").write_bytes(b"x")
    (root / f".{POINTER}-0123abcd").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("kept")
    (root / VERSIONS / ".link").symlink_to(tmp_path / "elsewhere")
    assert prune(root, 1) == []
    assert left(root) == []
    assert (tmp_path / "elsewhere" / "file").read_text() == "kept"
    assert whole(root) == 1


def test_a_pointer_that_moves_while_versions_are_deleted(root: Path) -> None:
    """Rolling back to a version while it is deleted either wins or is told so; the pointer is never left dangling."""
    for number in range(2, 30):
        old = versions(root)[0]
        new = publish(root, *parts(number)).name
        told: list[str] = []
        thread = threading.Thread(target=_point, args=(root, old, told))
        thread.start()
        time.sleep(number % 7 / 1e4)
        deleted = prune(root, 1)
        thread.join()
        if told:
            assert told == [f"{root} holds no version {old!r}; it holds: {new}"]
            assert (deleted, current(root)) == ([old], new)
        else:
            assert (deleted, current(root)) == ([], old)
            point(root, new)
            prune(root, 1)
        assert whole(root) == number


def _point(root: Path, version: str, told: list[str]) -> None:
    try:
        point(root, version)
    except ArtifactError as error:
        told.append(str(error))


# One writer at a time


def test_two_writers_at_once(root: Path) -> None:
    script = """
from recsys.engine.bundle import locked
with locked(root):
    publish(root, *parts(2))  # who holds the lock may publish
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", _PRELUDE + script, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests") as it:
        assert it.stdin
        assert it.stdout
        pid = it.stdout.readline().strip()
        told = (
            rf"root is being written by process {pid} on {re.escape(socket.gethostname())} since \d{{4}}-.*: wait until"
        )
        for attempt in (lambda: publish(root, *parts(3)), lambda: prune(root, 1), lambda: locked(root).__enter__()):
            with pytest.raises(ArtifactError, match=told):
                attempt()
        # Readers, and the pointer, wait for nobody.
        assert whole(root) == 2
        rollback(root)
        assert whole(root) == 1
        it.stdin.write("\n")
    assert it.returncode == -signal.SIGKILL
    publish(root, *parts(3))  # the dead hold nothing
    assert whole(root) == 3
    assert len(prune(root, 1)) == 2


def test_a_lock_is_held_by_one_thread_until_its_outermost_block_ends(root: Path) -> None:
    with ThreadPoolExecutor(1) as other:
        with locked(root):
            with locked(root):
                pass
            (root.parent / "alias").symlink_to(root)
            with locked(root.parent / "alias"):
                pass
            with pytest.raises(ArtifactError, match=f"is being written by process {os.getpid()} on "):
                other.submit(publish, root, *parts(2)).result()
        other.submit(publish, root, *parts(3)).result()
    assert whole(root) == 3


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(ArtifactError, match=r"could not write the bundle in .*Is a directory"):
        publish(tmp_path, *parts(1))


# Damage


@pytest.fixture(scope="module")
def trained(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a trained bundle's root: each test leaves it as it was."""
    copy = tmp_path_factory.mktemp("trained") / "root"
    shutil.copytree(shop.folder, copy, ignore=shutil.ignore_patterns("quarantine"))
    return copy


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in (root / VERSIONS).rglob("*") if path.is_file())


def test_every_damaged_file_is_named(trained: Path) -> None:
    assert len(files_of(trained)) > 20
    for path in files_of(trained):
        content = path.read_bytes()
        for place in {0, len(content) // 3, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            told = refused(trained)
            assert path.name in told
            assert "train again" in told
        for cut in (content[:-1], content[: len(content) // 2], b"", content + b"\0"):
            path.write_bytes(cut)
            if cut != content + b"\0" or path.name != MANIFEST:
                assert path.name in refused(trained)
        path.unlink()
        assert path.name in refused(trained) or path.name == MANIFEST
        path.write_bytes(content)
    load(trained)


def test_a_flipped_manifest_is_refused_or_says_the_same(trained: Path) -> None:
    wanted = load(trained).manifest
    path = next(path for path in files_of(trained) if path.name == MANIFEST)
    content = path.read_bytes()
    rng = random.Random(0)
    same = 0
    for place in rng.sample(range(len(content)), 600):
        flipped = content[place] ^ rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 42, 255])
        path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        try:
            assert load(path.parent).manifest == wanted
            same += 1
        except ArtifactError as error:
            told = str(error)
            assert MANIFEST in told or "schema version" in told
            assert "train again" in told
    path.write_bytes(content)
    assert same < 60


def test_every_flip_of_the_pointer_is_refused_or_means_the_same(trained: Path) -> None:
    path = trained / POINTER
    content = path.read_bytes()
    wanted = load(trained).version
    for place in range(len(content)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255, content[place]):
            path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
            try:
                assert load(trained).version == wanted
                assert place == len(content) - 1  # the newline
            except ArtifactError as error:
                told = str(error)
                assert str(path) in told
                assert wanted in told
    for broken in (b"", b"\n", content[:5], b"../" + content, b"/etc", b".", b"\xff\xff"):
        path.write_bytes(broken)
        assert f"is no version here; it should name one of: {wanted}" in refused(trained)
    path.unlink()
    assert "CURRENT is missing" in refused(trained)
    path.write_bytes(content)


def test_a_version_without_a_manifest_was_never_finished(root: Path, version: Path) -> None:
    later = publish(root, *parts(2))
    (later / MANIFEST).unlink()
    assert f"should name one of: {version.name}" in refused(root)
    point(root, version.name)
    assert whole(root) == 1
    (version / MANIFEST).unlink()
    assert "it should name one of: none, so train again" in refused(root)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("null", "is damaged"),
        ("{}", "is damaged (KeyError('schema_version'))"),
        ('{"schema_version": 2, "files": {}}', "is damaged (KeyError('model_version'))"),
        ('{"schema_version": 2, "files": {}, "model_version": "x"}', "differs from its own checksum"),
        ('{"schema_version": ' + "9" * 5000 + "}", "is damaged"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_a_manifest_that_is_none(version: Path, text: str, told: str) -> None:
    (version / MANIFEST).write_text(text)
    assert told in refused(version)


def _files(value: Any) -> Change:
    return lambda manifest: manifest.update(files=value)


def _about(key: str, value: Any) -> Change:
    return lambda manifest: manifest["files"]["one.npy"].update({key: value})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.update(schema_version=1), "has schema version 1, and this recsys reads 2; train again"),
        (lambda m: m.update(schema_version="2"), "has schema version 2, and"),
        (lambda m: m.update(model_version="../../x"), "has the model_version '../../x', which no folder may have"),
        (lambda m: m.update(model_version=""), "has the model_version '', which no folder may have"),
        (_files([]), "files or model_version has the wrong type; train again"),
        (_files("one.npy"), "files or model_version has the wrong type"),
        (lambda m: m.update(model_version=7), "files or model_version has the wrong type"),
        (_files({"one.npy": 5}), "one.npy has 528 bytes, its manifest says None"),
        (_about("bytes", "528"), "one.npy has 528 bytes, its manifest says 528"),
        (_about("bytes", -1), "one.npy has 528 bytes, its manifest says -1"),
        (_about("xxh3_128", None), "one.npy differs from its checksum"),
        (_files({"../one.npy": {}}), "lists '../one.npy', which no bundle may hold: it is not trusted"),
        (_files({"a/../../one.npy": {}}), "which no bundle may hold"),
        (_files({"/etc/passwd.npy": {}}), "lists '/etc/passwd.npy', which no bundle may hold"),
        (_files({"code.py": {}}), "lists 'code.py', which no bundle may hold"),
        (_files({"": {}}), "lists '', which no bundle may hold"),
        (_files({"two\0.npy": {}}), "is missing"),
        (_files({"two.npy": {}}), "two.npy is missing; train again or restore it"),
        (_files({"group.npy": {}}), "group.npy is missing"),
    ],
)
def test_an_absurd_manifest(version: Path, change: Change, told: str) -> None:
    forge(version, change)
    assert told in refused(version)


def test_symbolic_links_are_refused(root: Path, version: Path, tmp_path: Path) -> None:
    file = version / "one.npy"
    shutil.move(file, tmp_path / "one.npy")
    file.symlink_to(tmp_path / "one.npy")
    assert f"bundle file {file} is a symbolic link: it is not trusted" in refused(root)
    file.unlink()
    shutil.move(tmp_path / "one.npy", file)
    shutil.move(version / "group", tmp_path / "group")
    (version / "group").symlink_to(tmp_path / "group")
    assert "is a symbolic link" in refused(root)
    shutil.move(version / MANIFEST, tmp_path / MANIFEST)
    (version / MANIFEST).symlink_to(tmp_path / MANIFEST)
    assert f"bundle manifest {version / MANIFEST} is a symbolic link: it is not trusted" in refused(root)


def test_links_lead_to_no_other_version_and_tell_nothing(root: Path, version: Path, tmp_path: Path) -> None:
    shutil.move(version, tmp_path / "elsewhere")
    version.symlink_to(tmp_path / "elsewhere")
    assert "it should name one of: none" in refused(root)
    (tmp_path / "secret").write_text("password")
    (root / POINTER).unlink()
    (root / POINTER).symlink_to(tmp_path / "secret")
    told = refused(root)
    assert "CURRENT is missing" in told
    assert "password" not in told


class _Trap:
    """Leaves a mark if anyone unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("form", ["objects", "pickle", "zip"])
def test_nothing_is_unpickled(version: Path, tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "trap.npy"
    if form == "objects":
        np.save(path, np.array([_Trap(mark)], dtype=object), allow_pickle=True)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(_Trap(mark)))
    else:
        with path.open("wb") as file:
            np.savez(file, a=np.array([_Trap(mark)], dtype=object))
    add(version, "trap.npy", path.read_bytes())
    assert "trap.npy cannot be read: " in refused(version)
    assert not mark.exists()


def _header(told: str, content: bytes = b"\0" * 800, version: bytes = b"\x01\x00") -> bytes:
    text = told.encode("latin1").ljust(118 if version == b"\x01\x00" else 116) + b"\n"
    size = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + text + content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"),
         "its header says float64 (1000000000000000,), and 800 bytes follow"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (99,), }"), "float64 (99,), and 800 bytes follow"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (101,), }"), "(101,), and 800 bytes follow"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-10, -10), }"), "(-10, -10), and 800 bytes"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-100,), }"), "(-100,), and 800 bytes follow"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 10**18), }"), "malformed node"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 99999999999999999999), }", b""), "cannot be"),
        (_header("{'descr': '>f8', 'fortran_order': False, 'shape': (100,), }"), "it holds '>f8', and a bundle's"),
        (_header("{'descr': '<U2', 'fortran_order': False, 'shape': (100,), }"), "it holds '<U2', and a bundle's"),
        (_header("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (100,), }"), "it holds '<M8[s]'"),
        (_header("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (100,), }"), "it holds '|V8'"),
        (_header("{'descr': '|O', 'fortran_order': False, 'shape': (100,), }"), "it holds '|O'"),
        (_header("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (1,), }"), "malformed node"),
        (_header("{'descr': '<f8', 'fortran_order': False, 'shape': (100,), }", version=b"\x02\x00"),
         "it is written in format (2, 0)"),
    ],
)  # fmt: skip
def test_absurd_headers(version: Path, content: bytes, told: str) -> None:
    add(version, "absurd.npy", content)
    text = refused(version)
    assert "absurd.npy cannot be read: " in text
    assert told in text


@pytest.mark.parametrize("name", ["odd.npy", "odd.parquet"])
@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x04\x00((((", b"PAR1PAR1", b"\0" * 999]
)
def test_a_file_of_another_kind(version: Path, name: str, content: bytes) -> None:
    add(version, name, content)
    assert f"{name} cannot be read: " in refused(version)


# Dying


def _python(script: str, *args: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PRELUDE + script, *map(str, args)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT / "tests")
    assert not check or ran.returncode == 0, ran.stderr
    return ran


_PRELUDE = """
import json, os, resource, signal, sys
from pathlib import Path
from test_bundle import left, parts, whole
from recsys.engine.bundle import VERSIONS, prune, publish, rollback, versions
from recsys.errors import ArtifactError
root = Path(sys.argv[1])
"""


_DYING = """
at = steps = 0
def dying(name):
    real = getattr(os, name)
    def call(*args, **options):
        global steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    setattr(os, name, call)
def child(work):  # this process itself starts no threads, so that it may fork
    process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])
for name in ("fsync", "replace", "mkdir", "unlink", "rmdir"):
    dying(name)
"""


def test_killed_before_any_step_to_the_disk(tmp_path: Path) -> None:
    """Each process dies of SIGKILL just before its n-th fsync, rename or mkdir, until one needs no more steps."""
    script = """
child(lambda: publish(root, *parts(1)))
for at in range(1, 100):
    killed = child(lambda: publish(root, *parts(at + 1)))
    child(lambda: print(json.dumps([killed, whole(root)]), flush=True))
    if not killed:
        break
"""
    told = [json.loads(line) for line in _python(_DYING + script, tmp_path).stdout.splitlines()]
    now = 1
    for number, (killed, loaded) in enumerate(told, start=2):
        assert loaded in (now, number)  # the old one, or the new one if it died after the pointer was swapped
        assert killed or loaded == number
        now = loaded
    assert len(told) > 10
    assert [killed for killed, _ in told] == [True] * (len(told) - 1) + [False]


def test_killed_before_any_step_of_a_prune(tmp_path: Path) -> None:
    """Whatever a dead prune has done, the current version and every other one is whole, and the next prune finishes."""
    script = """
def fill():
    for number in range(3):
        publish(root, *parts(10 * step + number))
    rollback(root)
def check():
    found = [whole(root), [whole(root / VERSIONS / name) for name in versions(root)]]
    prune(root, 1)
    print(json.dumps([killed, *found, left(root), len(versions(root))]), flush=True)
for step in range(1, 100):
    at = 0
    child(fill)
    at = step
    killed = child(lambda: prune(root, 1))
    at = 0
    child(check)
    if not killed:
        break
"""
    told = [json.loads(line) for line in _python(_DYING + script, tmp_path).stdout.splitlines()]
    for step, (killed, loaded, each, leftovers, kept) in enumerate(told, start=1):
        first = 10 * step
        assert loaded == first + 1
        assert each[-2:] == [first + 1, first + 2]  # the newest and the current stay
        assert set(each) <= {first, *each[-2:], first - 9, first - 8}
        assert killed or len(each) == 2
        assert (leftovers, kept) == ([], 2)
    assert [killed for killed, *_ in told] == [True] * (len(told) - 1) + [False]
    assert len(told) > 15


def test_killed_at_random_moments(tmp_path: Path) -> None:
    rng = random.Random(7)
    publish(tmp_path, *parts(0))
    script = (
        "print('ready', flush=True)\nfor number in range(int(sys.argv[2]), 10**9):\n    publish(root, *parts(number))\n"
    )
    number = 0
    for _ in range(4):
        command = [sys.executable, "-c", _PRELUDE + script, str(tmp_path), str(number + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests") as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.001, 0.06))
            process.send_signal(signal.SIGKILL)
        assert whole(tmp_path) >= number
        number = whole(tmp_path) + 1000
        publish(tmp_path, *parts(number))
        assert whole(tmp_path) == number


# A full disk


def test_no_room_at_any_file(root: Path, version: Path) -> None:
    """The kernel refuses, with EFBIG, to let a file grow past a limit: each file of the bundle in turn does not fit."""
    sizes = sorted({path.stat().st_size for path in version.rglob("*") if path.is_file()})
    script = """
limits = json.loads(sys.argv[2])
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        publish(root, *parts(2))
        told = ""
    except ArtifactError as error:
        told = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps([told, left(root), whole(root)]))
publish(root, *parts(3))
"""
    limits = [0, 20, *(size - 1 for size in sizes)]
    results = [json.loads(line) for line in _python(script, root, json.dumps(limits)).stdout.splitlines()]
    assert len(results) == len(limits) >= 5
    for told, leftovers, number in results:
        assert told.startswith(f"could not write the bundle in {root}: ")
        assert "make room, or set another output folder, and run again" in told
        assert told.endswith("; the earlier version is untouched")
        assert (leftovers, number) == ([], 1)
    assert len(versions(root)) == 2
    assert whole(root) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_says_so(root: Path) -> None:
    """A parquet writer and a numpy array that the device has no room for."""
    from recsys.engine.bundle import why_not_written

    for write in (
        lambda: Path("/dev/full").write_bytes(b"x" * 99_999),
        lambda: parts(1)[1]["table"].write_parquet("/dev/full"),
    ):
        with pytest.raises((OSError, pl.exceptions.PolarsError)) as raised:
            write()
        assert why_not_written(raised.value, root) == "the disk is full: free some space and run again"


def test_no_pointer_can_be_written(tmp_path: Path) -> None:
    publish(tmp_path, *parts(1))
    old = (tmp_path / POINTER).read_text().strip()
    (tmp_path / POINTER).unlink()
    (tmp_path / POINTER).mkdir()
    with pytest.raises(ArtifactError, match="could not write the bundle in"):
        publish(tmp_path, *parts(2))
    assert versions(tmp_path) == [old]
    assert left(tmp_path) == []


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"could not write the bundle in .*set another output folder"):
        publish(tmp_path / "root", *parts(1))
