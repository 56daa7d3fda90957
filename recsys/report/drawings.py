"""Which figures a report has: each from the report's own numbers, with its title in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recsys.report import figures
from recsys.report.sentences import ENGINE, best_baseline, main_k

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASUREMENTS = {"quality": "newest training cut, users held out", "later": "what followed the cut"}


def draw_all(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Figure]]:
    """Yield the name, the title and the drawing of each figure that the numbers allow."""
    quality = report["quality"]
    yield from draw_quality(quality)
    yield "users", "Users and items by their number of events", activity(report["profile"])
    yield from _business(report["business"])


def draw_quality(quality: Mapping[str, Any]) -> Iterator[tuple[str, str, Figure]]:
    """Yield the figures of an evaluation alone."""
    k, best = main_k(quality), best_baseline(quality)
    key = f"ndcg@{k}"
    yield "models", f"{key} of each model", models(quality)
    compared = [ENGINE, *([best] if best else [])]
    users = {name: one for name, one in quality["slices"]["users"].items() if one["users"]}
    yield from _slices("whom", f"{key} by what is known of the user", users, compared, key)
    for name, title in (("items", "popularity of the item"), ("categories", "category")):
        targets = {label: one for label, one in quality["slices"].get(name, {}).items() if one["targets"]}
        yield from _slices(name, f"recall@{k} by {title}", targets, compared, f"recall@{k}")
    shares = {stage: loss["share"] for stage, loss in reversed(quality["losses"].items())}
    yield "losses", "What happens to the items that users went on to", figures.stages(shares)
    exposure = {name: quality["exposure"][name] for name in ("targets", *compared)}
    labels = [label for label in exposure["targets"] if label != "gini"]
    shown = {_exposed(name): [one[label] for label in labels] for name, one in exposure.items()}
    title = "Share of the places by the item's known events"
    yield "exposure", title, figures.groups(labels, shown, axis="share of places")
    probability = quality.get("probability", {"none": ""})
    if "none" not in probability:
        yield "reliability", "Predicted and observed probability", calibration(probability)


def curves(of_stages: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw the training loss of each objective of a tuned encoder, by step."""
    losses = {name: [entry for entry in curve if "loss" in entry] for name, curve in of_stages.items()}
    return figures.curves({name: ([entry["step"] for entry in held], [entry["loss"] for entry in held])
                           for name, held in losses.items()}, across="step", axis="loss")  # fmt: skip


def calibration(measured: Mapping[str, Any]) -> Figure:
    """Draw the bins of a manifest's or an evaluation's `probability`: predicted against observed."""
    bins = {title: measured[name]["bins"] for name, title in MEASUREMENTS.items() if name in measured}
    return figures.reliability(bins)


def activity(profile: Mapping[str, Any]) -> Figure:
    """Draw how many users and items of a profile have how many events."""
    users, items = profile["users"]["bands"], profile["items"]["bands"]
    return figures.groups([*users], {"users": [*users.values()], "items": [*items.values()]}, axis="how many")


def models(quality: Mapping[str, Any]) -> Figure:
    """Draw the ndcg of each model, with the interval of its difference to the engine."""
    key = f"ndcg@{main_k(quality)}"
    values = {name: one[key] for name, one in quality["metrics"].items()}
    values = dict(sorted(values.items(), key=lambda pair: -pair[1]))
    own = values[ENGINE]
    intervals = {name: (own - gap["high"], own - gap["low"]) for name, gap in quality["differences"].items()}
    return figures.bars(values, highlight=[ENGINE], axis=key, intervals=intervals, form="{:.4f}")


def _exposed(name: str) -> str:
    return "what users went on to" if name == "targets" else f"lists of {name}"


def _slices(name: str, title: str, slices: Mapping[str, Any], models: list[str],
            key: str) -> Iterator[tuple[str, str, Figure]]:  # fmt: skip
    if slices:
        series = {model: [one[model][key] for one in slices.values()] for model in models}
        yield name, title, figures.groups(list(slices), series, axis=key)


def _business(business: Mapping[str, Any]) -> Iterator[tuple[str, str, Figure]]:
    categories = business.get("categories", {})
    if len(categories.get("periods", ())) > 1:
        title = f"Events of the greatest categories by {categories['every']}"
        drawn = figures.lines(categories["periods"], categories["events"], axis="events")
        yield "categories_over_time", title, drawn
    gaps = business.get("returns", {}).get("gaps", {})
    if sum(gaps.values()):
        title = "Days between two days with a purchase of one customer"
        yield "gaps", title, figures.columns(gaps, axis="times", across="days")
