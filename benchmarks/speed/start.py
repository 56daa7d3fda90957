"""The time to the first answer: a whole process, and loading a bundle."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed import synthetic
from benchmarks.speed.measure import Row, alternately, median, own_mb
from recsys import Recommender
from recsys.config import Config, parse_config

TITLE = "Start"
ABOUT = """
A whole process, `recsys score USER --json` on the bundle of `recsys demo`, beside a process that only imports numpy,
FAISS and polars. `Recommender.load` of synthetic bundles with as many items as users and ten events each: every byte is
checked (checksum, range), and the model answers for a few users. Beside it, reading the same files. Everything comes
from the page cache; from a disk it takes the disk's time. MB are the process's own memory, without the mapped pages of
the files.
"""
SIZES = {"100k": 100_000, "1m": 1_000_000}
CASES = ("demo", *SIZES)
DEMO = Path("artifacts/demo")
EVENTS = 10
SCORE = "from recsys.cli import main; main()"
IMPORTS = "import numpy, faiss, polars"


def run(case: str, data: Path) -> list[Row]:
    """Measure one case."""
    if case == "demo":
        return [process(DEMO)]
    n_items = SIZES[case]
    with tempfile.TemporaryDirectory() as folder:
        return loading(synthetic.publish(Path(folder), settings(), n_items, n_items, EVENTS * n_items), case, n_items)


def settings() -> Config:
    """Return a config with a few retrievers and features that store each kind of array."""
    return parse_config({
        "name": "made",
        "data": {"catalog": {}, "interactions": {}},
        "split": {"kind": "time"},
        "train_users": 1000,
        "retrievers": {
            "semantic": {"depth": 100},
            "covisitation": {"depth": 100, "window": 1},
            "recent_popularity": {"kind": "popularity", "depth": 100, "half_life_days": 28},
            "repeat": {"depth": 50},
        },
        "features": ["scores", "ranks", "found_by", "log_popularity", "category_share", "brand_share", "due"],
        "scorer": {"kind": "logistic"},
    })  # fmt: skip


def process(bundle: Path) -> Row:
    """Time whole processes in turn."""
    user = str(Recommender.load(bundle).user_ids[0])

    def python(*command: str) -> None:
        subprocess.run([sys.executable, "-c", *command], check=True, stdout=subprocess.DEVNULL)

    seconds = alternately({
        "ours": lambda: python(SCORE, "score", user, "--json", "--bundle", str(bundle)),
        "theirs": lambda: python(IMPORTS),
    }, rounds=15, warm=2)  # fmt: skip
    return Row("recsys score USER --json, a whole process", median(seconds["ours"]), "s",
               f"python -c '{IMPORTS}'", median(seconds["theirs"]), "<= 2.5")  # fmt: skip


def loading(bundle: Path, case: str, n_items: int) -> list[Row]:
    """Time loading a bundle and reading its files in turn."""
    files = [path for path in bundle.rglob("*") if path.is_file()]
    before = own_mb()
    first = Recommender.load(bundle)
    grown = own_mb() - before
    del first
    seconds = alternately({"load": lambda: Recommender.load(bundle), "read": lambda: read(files)}, rounds=7)
    load, reading = (median(seconds[name]) for name in ("load", "read"))
    gigabytes = sum(path.stat().st_size for path in files) / 1e9
    return [
        Row(f"load, {case} items and users", load, "s", wanted="<= 1", size=n_items, ours_mb=grown,
            note=f"{gigabytes:.1f} GB, index auto"),
        Row(f"load, {case}, next to its bytes", load, "s", "reading the files, one thread", reading),
    ]  # fmt: skip


def read(files: Sequence[Path]) -> None:
    """Read files into one buffer."""
    piece = bytearray(1 << 18)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass
