"""The made-up shop: its generator, and what the best possible recommender can know about it.

    python tests/helpers/make_shop.py        writes data/shop/items.csv and data/shop/events.csv (always the same bytes)

The law of the shop. Eight themes, each with eight steps (lantern, tent, …) in five series (Aurora, Birch, …):
320 items; and three consumables a theme. A user has one taste, a theme. They visit on random days and buy one
thing a visit:

1. A subscriber (two users in five) buys their consumable if it is due: 14, 21 or 28 days after the last time.
2. Otherwise, with probability `FOLLOW`, they buy the next step of the series of the item they bought last.
3. Otherwise (or where there is no such step, or they own it) they browse: an item that they do not own, weighted
   by its popularity (1 / rank within its theme), `LOYALTY` of the weight on their own theme.

So consumables alone are bought twice. Every tenth item or so is sold only from day `LAUNCH` on: hardly an event
shows it, its title does. After one purchase in four comes a view of any item of the user's theme, which shows
the taste and nothing else.

The oracle knows this law, each user's taste and subscription, and the day of the visit, and so the chance of
every item (`Visit.chances`, the very numbers that the purchase was drawn from). No recommender can expect to
beat it. On the last purchase of each user (one in 5.6 of them a repeat), `oracle_recall(make_shop(), k=10)` is
.805 expected and .803 as drawn; .625 and .623 where items bought before are not recommended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

SHOP = Path(__file__).parents[2] / "data" / "shop"
USERS, DAYS, FOLLOW, LOYALTY, LAUNCH = 600, 200, 0.6, 0.85, 190
START = datetime(2025, 1, 1)

THEMES = {
    "Outdoor > Camping": (
        ["tent", "sleeping bag", "camping mat", "camping stove", "cook set", "lantern", "camp chair", "hammock"],
        ["gas canisters", "fire starters", "water purification tablets"],
        15,
    ),
    "Kitchen > Coffee": (
        [
            "espresso machine",
            "coffee grinder",
            "milk frother",
            "coffee scale",
            "tamper",
            "knock box",
            "cups",
            "travel mug",
        ],
        ["espresso beans", "paper filters", "descaler"],
        40,
    ),
    "Kitchen > Baking": (
        [
            "stand mixer",
            "mixing bowl",
            "rolling pin",
            "cake tin",
            "piping bags",
            "cooling rack",
            "cake stand",
            "cake dome",
        ],
        ["bread flour", "dry yeast", "vanilla sugar"],
        20,
    ),
    "Sport > Cycling": (
        [
            "road bike",
            "bike helmet",
            "cycling gloves",
            "bike light",
            "bike lock",
            "bottle cage",
            "bike pump",
            "saddle bag",
        ],
        ["chain oil", "inner tubes", "energy gels"],
        60,
    ),
    "Pets > Aquarium": (
        [
            "aquarium",
            "aquarium filter",
            "aquarium heater",
            "aquarium light",
            "gravel",
            "driftwood",
            "air pump",
            "fish net",
        ],
        ["fish flakes", "water conditioner", "filter wool"],
        25,
    ),
    "Art > Painting": (
        ["easel", "canvas", "oil paints", "brush set", "palette", "palette knife", "varnish", "picture frame"],
        ["turpentine", "sketch paper", "cotton rags"],
        12,
    ),
    "Sport > Yoga 🧘": (
        [
            "yoga mat",
            "yoga block",
            "yoga strap",
            "bolster",
            "meditation cushion",
            "yoga towel",
            "mat bag",
            "singing bowl",
        ],
        ["incense sticks", "mat cleaner", "herbal tea"],
        18,
    ),
    "茶 > 茶具": (
        ["茶壶", "茶杯", "茶盘", "茶叶罐", "茶漏", "公道杯", "茶巾", "茶刀"],
        ["龙井茶叶", "普洱茶饼", "茉莉花茶"],
        10,
    ),
}
SERIES = ["Aurora", "Birch", "Cobalt", "Dune", "Ember"]
CHINESE_SERIES = ["晨光", "白桦", "青花", "沙丘", "余烬"]


@dataclass(frozen=True, eq=False)
class Visit:
    """One purchase: who, when, what, and the chance that the law gave each item at that moment `(I,)`."""

    user: str
    time: datetime
    item: int
    chances: np.ndarray
    owned: frozenset[int]


@dataclass(frozen=True, eq=False)
class Shop:
    """Both tables as written to disk, and each user's last purchase."""

    items: pl.DataFrame
    events: pl.DataFrame
    last: list[Visit]


@cache
def make_shop(seed: int = 2025) -> Shop:
    """Generate the shop, once a process: both tables as in the files, and what the oracle needs."""
    rng = np.random.default_rng(seed)
    items, law = _make_items(rng)
    events, last = [], []
    for number in range(USERS):
        visits, rows = _live(f"u{number:03d}", law, rng)
        events += rows
        last.append(visits[-1])
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp", "event", "value"], orient="row")
    return Shop(items, frame.sort("timestamp", "user_id", maintain_order=True), last)


def oracle_lists(shop: Shop, k: int, seen: str = "keep") -> list[np.ndarray]:
    """The `k` likeliest items (rows of `items`) of each last purchase, best first, in the order of `shop.last`."""
    lists = []
    for visit in shop.last:
        chances = visit.chances.copy()
        if seen == "drop":
            chances[list(visit.owned)] = 0
        lists.append(np.argsort(-chances, kind="stable")[:k])
    return lists


def oracle_recall(shop: Shop, k: int = 10, seen: str = "keep") -> tuple[float, float]:
    """The oracle's expected and realised recall@k of each user's last purchase."""
    best = oracle_lists(shop, k, seen)
    owned = [visit.owned if seen == "drop" else frozenset() for visit in shop.last]
    expected = [
        sum(visit.chances[item] for item in one if item not in out)
        for visit, one, out in zip(shop.last, best, owned, strict=True)
    ]
    realised = [
        visit.item in one and visit.item not in out for visit, one, out in zip(shop.last, best, owned, strict=True)
    ]
    return float(np.mean(expected)), float(np.mean(realised))


@dataclass(frozen=True, eq=False)
class _Law:
    """What decides a purchase, by item."""

    theme: np.ndarray  # (I,) which theme
    step: np.ndarray  # (I,) place in its series, -1 for a consumable
    weight: np.ndarray  # (I,) popularity within the theme, sums to 1 over each theme; 0 for a consumable
    late: np.ndarray  # (I,) sold only from day LAUNCH

    def chances(self, taste: int, owned: set[int], last: int | None, day: float) -> np.ndarray:
        """The chance of each item, were nothing due."""
        open_ = (self.weight > 0) & (~self.late | (day >= LAUNCH))
        open_[list(owned)] = False
        own = self.theme == taste
        browse = np.zeros(len(self.theme))
        for mask, share in ((own & open_, LOYALTY), (~own & open_, 1 - LOYALTY)):
            browse[mask] = share * self.weight[mask] / self.weight[mask].sum()
        browse /= browse.sum()
        following = last + 1 if last is not None else None
        if following is None or following >= len(self.step) or self.step[following] < 1 or not open_[following]:
            return browse
        chances = (1 - FOLLOW) * browse
        chances[following] += FOLLOW
        return chances


def _make_items(rng: np.random.Generator) -> tuple[pl.DataFrame, _Law]:
    """Return the items and the law that they follow."""
    rows, theme, step, weight = [], [], [], []
    for number, (category, (nouns, consumables, price)) in enumerate(THEMES.items()):
        chinese = category.startswith("茶")
        ranks = rng.permutation(len(SERIES) * len(nouns)) + 1
        shares = (1 / ranks) / (1 / ranks).sum()
        for s, series in enumerate(CHINESE_SERIES if chinese else SERIES):
            for place, noun in enumerate(nouns):
                title = f"{series}{noun}" if chinese else f"{series} {noun}"
                if place == len(nouns) - 1:
                    title += " 🎁"
                cost = price * (1.6 - 0.15 * place) * (1 + 0.2 * s)
                rows.append((title, f"{noun}, {category.split(' > ')[1]}", category, series, round(cost, 2)))
                theme.append(number)
                step.append(place)
                weight.append(shares[s * len(nouns) + place])
        for noun in consumables:
            rows.append((noun.capitalize(), "", f"{category} > Supplies", "Everyday", round(price * 0.3, 2)))
            theme.append(number)
            step.append(-1)
            weight.append(0.0)
    items = pl.DataFrame(rows, schema=["title", "description", "category", "brand", "price"], orient="row")
    items = items.select(
        pl.format("i{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(3)).alias("item_id"),
        pl.all(),
        stock=pl.Series(rng.random(len(rows)) < 0.9),
    )
    late = (np.arange(len(rows)) % 10 == 4) & (np.array(step) >= 0)
    return items, _Law(np.array(theme), np.array(step), np.array(weight), late)


def _live(user: str, law: _Law, rng: np.random.Generator) -> tuple[list[Visit], list[tuple[str, str, str, str, int]]]:
    """Return the visits of one user and the rows of the log that they leave."""
    taste = int(rng.integers(len(THEMES)))
    subscription = (
        int(rng.choice(np.flatnonzero((law.theme == taste) & (law.step < 0)))) if rng.random() < 0.4 else None
    )
    every = int(rng.choice([14, 21, 28]))
    day, due = rng.uniform(0, 60), 0.0
    owned: set[int] = set()
    last: int | None = None
    visits: list[Visit] = []
    rows = []
    gap = rng.uniform(8, 22)
    while day < DAYS or len(visits) < 2:
        if subscription is not None and day >= due:
            chances = np.zeros(len(law.theme))
            chances[subscription] = 1.0
        else:
            chances = law.chances(taste, owned, last, day)
        item = int(rng.choice(len(chances), p=chances))
        time = START + timedelta(seconds=round(day * 86_400))
        visits.append(Visit(user, time, item, chances, frozenset(owned)))
        rows.append((user, f"i{item:03d}", _timestamp(time), "purchase", int(rng.integers(1, 4))))
        owned.add(item)
        if item == subscription:
            due = day + every
        else:
            last = item
        if rng.random() < 0.25:
            viewed = int(rng.choice(np.flatnonzero((law.theme == taste) & (~law.late | (day >= LAUNCH)))))
            rows.append((user, f"i{viewed:03d}", _timestamp(time + timedelta(minutes=5)), "view", 1))
        day += 0.1 + rng.exponential(gap)
    return visits, rows


def _timestamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def write_shop(folder: Path) -> None:
    """Write items.csv and events.csv into a folder."""
    shop = make_shop()
    folder.mkdir(parents=True, exist_ok=True)
    shop.items.write_csv(folder / "items.csv")
    shop.events.write_csv(folder / "events.csv")


if __name__ == "__main__":
    write_shop(SHOP)
