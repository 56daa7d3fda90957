"""Versions under a root: in order, one of them current, deleted whole, made by one writer at a time."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from publications import PRELUDE, left, parts, python, refused, whole
from shops import ROOT

from recsys.artifacts.bundle import describe, load, publish, rollback
from recsys.artifacts.versions import (
    HOLDER,
    LOCK,
    MANIFEST,
    POINTER,
    VERSIONS,
    current_version,
    fingerprint,
    list_versions,
    prune,
    set_current,
    write_lock,
)
from recsys.errors import ArtifactError


def test_versions_are_in_order_and_rollback_is_pointing_back(root: Path, version: Path) -> None:
    names = [version.name, *(publish(root, *parts(number)).name for number in range(2, 6))]
    assert list_versions(root) == names
    assert whole(root) == 5
    set_current(root, names[1])
    assert whole(root) == 2
    publish(root, *parts(6))
    assert whole(root) == 6
    assert [whole(root / VERSIONS / name) for name in names] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["nope", "", ".", "..", "../versions", "/tmp"])
def test_an_unknown_version_cannot_be_pointed_at(root: Path, version: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match=re.escape(f"holds no version {name!r}; it holds: {version.name}")):
        set_current(root, name)
    assert whole(root) == 1
    assert left(root) == []


def test_nothing_to_point_at(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no version 'x'; it holds: none"):
        set_current(tmp_path, "x")


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
    assert current_version(root) == names[2]
    set_current(root, names[0])
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
    first = fingerprint(root)
    assert fingerprint(root) == first
    later = publish(root, *parts(2))
    second = fingerprint(root)
    os.utime(version / "one.npy", ns=(0, 0))
    assert fingerprint(root) == second != first
    os.utime(later / "one.npy", ns=(0, 0))
    third = fingerprint(root)
    assert third != second
    (root / POINTER).write_text("x")
    assert fingerprint(root) not in (first, second, third)


# Pruning


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_prune_keeps_the_newest_and_the_current(root: Path, version: Path, keep: int) -> None:
    names = [version.name, *(publish(root, *parts(number)).name for number in range(2, 6))]
    set_current(root, names[1])
    loaded = load(root)
    kept = sorted({names[1], *names[-keep:]})
    assert prune(root, keep) == [name for name in names if name not in kept]
    assert list_versions(root) == kept
    assert left(root) == []
    assert whole(root) == 2
    set_current(root, names[-1])
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
    assert len(list_versions(root)) == 2


def test_prune_sweeps_what_the_dead_left(root: Path, version: Path, tmp_path: Path) -> None:
    (root / VERSIONS / ".20200101T000000000000-dead" / "group").mkdir(parents=True)
    (root / VERSIONS / ".20200101T000000000000-dead" / "group" / "x.npy").write_bytes(b"x")
    (root / f".{POINTER}.1.{1 << 22}").write_text("x")
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
        old = list_versions(root)[0]
        new = publish(root, *parts(number)).name
        told: list[str] = []
        thread = threading.Thread(target=_point, args=(root, old, told))
        thread.start()
        time.sleep(number % 7 / 1e4)
        deleted = prune(root, 1)
        thread.join()
        if told:
            assert told == [f"{root} holds no version {old!r}; it holds: {new}"]
            assert (deleted, current_version(root)) == ([old], new)
        else:
            assert (deleted, current_version(root)) == ([], old)
            set_current(root, new)
            prune(root, 1)
        assert whole(root) == number


def _point(root: Path, version: str, told: list[str]) -> None:
    try:
        set_current(root, version)
    except ArtifactError as error:
        told.append(str(error))


# One writer at a time


def test_two_writers_at_once(root: Path) -> None:
    script = """
from recsys.artifacts.versions import write_lock
with write_lock(root):
    publish(root, *parts(2))  # who holds the lock may publish
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", PRELUDE + script, str(root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests" / "helpers"
    ) as it:
        assert it.stdin
        assert it.stdout
        pid = it.stdout.readline().strip()
        told = (
            rf"root is being written by process {pid} on {re.escape(socket.gethostname())} since \d{{4}}-.*: wait until"
        )
        for attempt in (lambda: publish(root, *parts(3)), lambda: prune(root, 1), lambda: write_lock(root).__enter__()):
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
        with write_lock(root):
            with write_lock(root):
                pass
            (root.parent / "alias").symlink_to(root)
            with write_lock(root.parent / "alias"):
                pass
            with pytest.raises(ArtifactError, match=f"is being written by process {os.getpid()} on "):
                other.submit(publish, root, *parts(2)).result()
        other.submit(publish, root, *parts(3)).result()
    assert whole(root) == 3


def test_a_forked_child_neither_holds_nor_drops_the_lock_of_its_parent(root: Path) -> None:
    script = """
from recsys.artifacts.versions import HOLDER, write_lock
from recsys.errors import ArtifactError
def attempt():
    try:
        publish(root, *parts(2))
        return "published"
    except ArtifactError as error:
        return str(error)
def child():
    process = os.fork()
    if process == 0:
        try:
            print(attempt(), flush=True)
        finally:
            raise SystemExit  # leaves the parent's block as an error or a return would
    os.waitpid(process, 0)
try:
    with write_lock(root):
        parent = os.getpid()
        child()
        again = os.fork()  # a second one meets the lock as the first did: that one's end did not drop it
        if again == 0:
            print(attempt(), (root / HOLDER).read_text().split()[1] == str(parent), flush=True)
            os._exit(0)
        os.waitpid(again, 0)
        print(attempt(), flush=True)
    print((root / HOLDER).exists(), flush=True)
except SystemExit:
    sys.exit()
"""
    first, second, own, holder = python(script, root).stdout.splitlines()
    assert re.search(r"root is being written by process \d+ on .* since \d{4}-.*: wait until it is done", first)
    assert second == f"{first} True"
    assert (own, holder) == ("published", "False")
    assert whole(root) == 2


def test_a_lock_whose_holder_is_not_written_yet(root: Path) -> None:
    with ThreadPoolExecutor(1) as other, write_lock(root):
        (root / HOLDER).unlink()
        with pytest.raises(ArtifactError, match="root is being written by another process: wait until it is done"):
            other.submit(prune, root, 1).result()


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(ArtifactError, match=r"could not write the bundle in .*Is a directory"):
        publish(tmp_path, *parts(1))
