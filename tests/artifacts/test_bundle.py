"""Bundles: what is published comes back, and what was touched is refused."""

from __future__ import annotations

import mmap
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from publications import Change, add, forge, left, parts, refused, whole
from shops import Shop
from tampering import Trap

from recsys.artifacts.bundle import CHUNK, load, publish
from recsys.artifacts.versions import MANIFEST, POINTER, VERSIONS, set_current
from recsys.errors import ArtifactError

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
    set_current(root, version.name)
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
        (lambda m: m.update(schema_version=3), "has schema version 3, and this recsys reads 1 and 2; train again"),
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


@pytest.mark.parametrize("form", ["objects", "pickle", "zip"])
def test_nothing_is_unpickled(version: Path, tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "trap.npy"
    if form == "objects":
        np.save(path, np.array([Trap(mark)], dtype=object), allow_pickle=True)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(Trap(mark)))
    else:
        with path.open("wb") as file:
            np.savez(file, a=np.array([Trap(mark)], dtype=object))
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
