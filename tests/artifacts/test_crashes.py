"""A publication that dies at any instant, or has no room, harms nothing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from publications import PRELUDE, left, parts, python, whole
from shops import ROOT

from recsys.artifacts.bundle import publish
from recsys.artifacts.versions import POINTER, list_versions
from recsys.errors import ArtifactError

# Dying


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
    told = [json.loads(line) for line in python(_DYING + script, tmp_path).stdout.splitlines()]
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
    found = [whole(root), [whole(root / VERSIONS / name) for name in list_versions(root)]]
    prune(root, 1)
    print(json.dumps([killed, *found, left(root), len(list_versions(root))]), flush=True)
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
    told = [json.loads(line) for line in python(_DYING + script, tmp_path).stdout.splitlines()]
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
        command = [sys.executable, "-c", PRELUDE + script, str(tmp_path), str(number + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests" / "helpers") as process:
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
    results = [json.loads(line) for line in python(script, root, json.dumps(limits)).stdout.splitlines()]
    assert len(results) == len(limits) >= 5
    for told, leftovers, number in results:
        assert told.startswith(f"could not write the bundle in {root}: ")
        assert "make room, or set another output folder, and run again" in told
        assert told.endswith("; the earlier version is untouched")
        assert (leftovers, number) == ([], 1)
    assert len(list_versions(root)) == 2
    assert whole(root) == 3


def test_no_pointer_can_be_written(tmp_path: Path) -> None:
    publish(tmp_path, *parts(1))
    old = (tmp_path / POINTER).read_text().strip()
    (tmp_path / POINTER).unlink()
    (tmp_path / POINTER).mkdir()
    with pytest.raises(ArtifactError, match="could not write the bundle in"):
        publish(tmp_path, *parts(2))
    assert list_versions(tmp_path) == [old]
    assert left(tmp_path) == []


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"could not write the bundle in .*set another output folder"):
        publish(tmp_path / "root", *parts(1))
