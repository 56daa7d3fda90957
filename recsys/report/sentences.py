"""What the numbers of a report say, in plain sentences. Every number comes from the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recsys.formatting import percent, plural

ENGINE = "engine"
LEAST_USERS = 30  # in a slice that a sentence speaks of
MAIN_K = 10


def main_k(quality: Mapping[str, Any]) -> int:
    """Return the length of list that the report speaks of: 10, or the longest judged where 10 is not."""
    ks = sorted({int(name.rpartition("@")[2]) for name in quality["metrics"][ENGINE]})
    return MAIN_K if MAIN_K in ks else ks[-1]


def best_baseline(quality: Mapping[str, Any]) -> str | None:
    """Return the baseline with the highest ndcg; None without baselines."""
    key = f"ndcg@{main_k(quality)}"
    others = [name for name in quality["metrics"] if name != ENGINE]
    return max(others, key=lambda name: quality["metrics"][name][key], default=None)


def verdict(quality: Mapping[str, Any]) -> Iterator[str]:
    """Say how many users the lists serve, beside the best baseline, and whether the difference may be chance."""
    k, metrics, best = main_k(quality), quality["metrics"], best_baseline(quality)
    users = plural(quality["users"], "user")
    served = metrics[ENGINE][f"hit_rate@{k}"]
    first = f"{served:.0%} of {users} find something that they went on to among the engine's first {k} items"
    if best is None:
        yield f"{first}."
        return
    yield f"{first}; with the best baseline, {best}, {metrics[best][f'hit_rate@{k}']:.0%}."
    gap = quality["differences"][best]
    figures = f"{gap['mean']:+.4f} ndcg@{k} (95% interval {gap['low']:+.4f} to {gap['high']:+.4f})"
    if gap["low"] > 0:
        yield f"The engine ranks better than {best}: {figures}."
    elif gap["high"] < 0:
        yield f"The engine ranks worse than {best}: {figures}. Until that changes, {best} is the better choice."
    else:
        yield f"The engine and {best} cannot be told apart on these users: {figures}."


def whom(quality: Mapping[str, Any]) -> Iterator[str]:
    """Name the users who are served best and worst, and where the engine is behind the best baseline."""
    k, best = main_k(quality), best_baseline(quality)
    key = f"ndcg@{k}"
    slices = {name: one for name, one in quality["slices"]["users"].items() if one["users"] >= LEAST_USERS}
    if len(slices) > 1:
        ordered = sorted(slices, key=lambda name: slices[name][ENGINE][key])
        top, low = ordered[-1], ordered[0]
        yield (
            f"Users with {_history(top)} are served best ({key} {slices[top][ENGINE][key]:.3f}), those with "
            f"{_history(low)} worst ({slices[low][ENGINE][key]:.3f})."
        )
    for name, one in slices.items():
        if best is not None and one[best][key] > one[ENGINE][key]:
            figures = f"{one[best][key]:.3f} against {one[ENGINE][key]:.3f}"
            yield f"For users with {_history(name)} {best} does better: {figures}."


def _history(name: str) -> str:
    return name if name.startswith("no ") else name.replace(" events", " known events")


def which(quality: Mapping[str, Any]) -> Iterator[str]:
    """Say how far new and rare items are found, and which category worst."""
    key = f"recall@{main_k(quality)}"
    items = quality["slices"]["items"]
    new = items.get("new", {})
    if new.get("targets"):
        share = new["targets"] / quality["targets"]
        found = new[ENGINE][key]
        often = f"{percent(found)} of the time" if found else "not once"
        yield f"New items, {percent(share)} of what users went on to, are in the lists {often}."
    kinds = {
        name: one for name, one in quality["slices"].get("categories", {}).items() if one["targets"] >= LEAST_USERS
    }
    if len(kinds) > 1:
        ordered = sorted(kinds, key=lambda name: kinds[name][ENGINE][key])
        yield (
            f"Of the large categories, {ordered[-1]} is served best ({key} {kinds[ordered[-1]][ENGINE][key]:.3f}) and "
            f"{ordered[0]} worst ({kinds[ordered[0]][ENGINE][key]:.3f})."
        )


def lost(quality: Mapping[str, Any]) -> Iterator[str]:
    """Name the stage at which most of what users went on to is lost."""
    missed = {stage: loss["share"] for stage, loss in quality["losses"].items() if stage != "in the list"}
    stage = max(missed, key=lambda name: missed[name])
    meaning = {
        "removed by a rule": "the rules keep it out of every list",
        "no retriever finds it": "no retriever comes near it",
        "cut by depth": "a retriever would find it if it looked deeper",
    }.get(stage, "it is among the candidates, but the scorer places it too low")
    yield f"The greatest loss is {percent(missed[stage])} of all that users went on to: {meaning}."


def popularity(quality: Mapping[str, Any]) -> Iterator[str]:
    """Compare what the lists show with what users do."""
    exposure, metrics = quality["exposure"], quality["metrics"][ENGINE]
    shown, done = exposure[ENGINE], exposure["targets"]
    coverage = next(value for name, value in metrics.items() if name.startswith("coverage@"))
    longest = next(name for name in metrics if name.startswith("coverage@")).rpartition("@")[2]
    yield f"The first {longest} places of all lists together show {percent(coverage)} of the catalogue."
    popular, wanted = shown["50+"], done["50+"]
    if abs(popular - wanted) < 0.05:
        shares = f"{percent(popular)} of the lists and {percent(wanted)} of what users do"
        yield f"Popular items have about the same part in both: {shares}."
        return
    fond = "more" if popular > wanted else "less"
    yield (
        f"Items with 50 or more events fill {percent(popular)} of the places and are {percent(wanted)} of what users "
        f"went on to: the lists are {fond} fond of popular items than the users are."
    )


def calibration(measured: Mapping[str, Any]) -> Iterator[str]:
    """Say how far the probabilities are from what happened."""
    if "none" in measured:
        yield f"There are no probabilities: {measured['none']}."
        return
    later = measured.get("later") or measured["quality"]
    yield (
        f"A probability says that {measured['statement']}. Predicted {later['mean']:.2%} on average, observed "
        f"{later['base_rate']:.2%}; over bands of the prediction the two are {later['ece']:.2%} apart on average."
    )


def data(report: Mapping[str, Any]) -> Iterator[str]:
    """Say when it happened, what is missing, and which share of the rows was not kept."""
    time = report["profile"]["time"]
    if time:
        yield f"From {time['first'][:10]} to {time['last'][:10]}."
        for gap in time["gaps"]:
            yield f"Nothing happened for {gap['days']:,.0f} days from {gap['after'][:10]}."
    else:
        yield "Only the order of events is known, not their time."
    bots = report["profile"]["bots"]
    if bots and bots["users"]:
        who = f"{plural(bots['users'], 'user')}, with {bots['share']:.1%} of all events,"
        yield f"{who} had events at {bots['moments']} or more moments within an hour: no person is so quick."
    for name, one in report["ingest"].items():
        lost = one["rows"] - one["kept"]
        if lost > 0.05 * one["rows"]:
            yield f"{percent(lost / one['rows'])} of the rows of {name} were not kept: see the table."


def together(found: Mapping[str, Any]) -> Iterator[str]:
    """Say what was counted as a basket."""
    baskets = f"{plural(found['baskets'], 'basket')} (what one customer took on one day)"
    text = f"In {baskets} of the {found['items']:,} most frequent items"
    yield text + (f"; {found['left_out']:,} with more than 100 items are left out." if found["left_out"] else ".")


def returns(found: Mapping[str, Any]) -> Iterator[str]:
    """Say how long customers stay away, and how many never came back."""
    if found["once"]:
        yield f"{percent(found['once'])} of the customers were there on one day only."
    else:
        yield "Every customer was there on more than one day."
    if found["median_days"] is not None:
        yield f"Half of all returns come within {plural(round(found['median_days']), 'day')}."


def due(found: Mapping[str, Any]) -> Iterator[str]:
    """Say how many customers have passed their usual gap, and what that is worth."""
    if found["habit"]:
        yield (
            f"Of {plural(found['habit'], 'customer')} with a habit (four days or more), {found['due']:,} have passed "
            f"their usual gap on {found['as_of']}, and {found['gone']:,} have passed it three times over."
        )
        if not found["users"]:
            yield "Their ids are left out; recsys report --show-users lists them."


def changes(report: Mapping[str, Any]) -> Iterator[str]:
    """Say what the numbers are compared with."""
    versions = report["versions"]
    if "now" in versions:
        newest, counts = versions["now"], versions["now"]["counts"]
        events = f", {counts['events']:,} events" if "events" in counts else ""
        yield f"{plural(versions['versions'], 'version')} published; the newest on {newest['created'][:10]}{events}."
    if versions.get("settings"):
        names = ", ".join(one["setting"] for one in versions["settings"][:5])
        yield f"Against the version before it, these settings differ: {names}."
    earlier = report.get("changes")
    if earlier is None:
        yield "This is the first report of this run: the next one is compared with it."
        return
    yield f"Against the report of {earlier['since'][:10]}:" + ("" if earlier["settings"] else " no setting changed.")
