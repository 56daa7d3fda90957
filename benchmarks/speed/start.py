"""From nothing to the first answer: a whole process, and the loading of a bundle."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.speed import made
from benchmarks.speed.measure import Row, alternately, median, own_mb
from recsys import Recommender
from recsys.retrieval.index import Index

TITLE = "Start"
ABOUT = """
A whole process, `recsys score USER --json` on the bundle of `recsys demo` (a made one of as many items where there is
none), next to a process that does no more than import numpy, FAISS and polars. `Recommender.load` of made bundles, of
as many items as users, ten events each: every byte is looked at (checksum, range), and the model answers for a few
users. Beside it stands the reading of the same files. Everything comes from the page cache; from a disk it takes the
disk's time. MB are the process's own memory, without the mapped pages of the files.
"""
SIZES = {"100k": 100_000, "1m": 1_000_000}
CASES = ("demo", *SIZES)
DEMO, DEMO_ITEMS = Path("artifacts/demo"), 90_000
# Lists enough that one holds a thousand items; whether they find enough is not measured here.
APPROXIMATE = {"index": "IVF1024,Flat", "search": "nprobe=32", "floor": 0.0}
SCORE = "from recsys.cli import main; main()"
IMPORTS = "import numpy, faiss, polars"


def run(case: str, data: Path) -> list[Row]:
    """Start a process, or load, some times."""
    with tempfile.TemporaryDirectory() as folder:
        if case in SIZES:
            n_items = SIZES[case]
            return loading(made.bundle(Path(folder), n_items, n_items, APPROXIMATE), case, n_items)
        if DEMO.is_dir():
            return [process(DEMO)]
        return [process(made.bundle(Path(folder), DEMO_ITEMS, DEMO_ITEMS // 10, {}))]


def process(bundle: Path) -> Row:
    """Whole processes in turn."""
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
    """Load a bundle and read its files in turn."""
    files = [path for path in bundle.rglob("*") if path.is_file()]
    before = own_mb()
    first = Recommender.load(bundle)
    grown = own_mb() - before
    vectors = first._model.retrieval.vectors
    seconds = alternately({
        "load": lambda: Recommender.load(bundle),
        "read": lambda: [read(path) for path in files],
        "exact": lambda: Index.build(vectors),
    }, rounds=7)  # fmt: skip
    load, reading, exact = (median(seconds[name]) for name in ("load", "read", "exact"))
    gigabytes = sum(path.stat().st_size for path in files) / 1e9
    return [
        Row(f"load, {case} items and users", load, "s", wanted="<= 1", size=n_items, ours_mb=grown,
            note=f"{gigabytes:.1f} GB, index {APPROXIMATE['index']}"),
        Row(f"load, {case}, next to its bytes", load, "s", "reading the files, one thread", reading),
        Row(f"an exact index of the vectors, {case}", exact, "s", note="part of a load where the index is Flat"),
    ]  # fmt: skip


def read(path: Path) -> None:
    """Read a file piece by piece into one place."""
    piece = bytearray(1 << 18)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass
