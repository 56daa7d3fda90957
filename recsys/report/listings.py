"""Which tables a report has: captions, columns and cells as text, from the report's own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.formatting import percent, spread, values
from recsys.report.sentences import ENGINE, best_baseline, main_k

METRICS = ("ndcg", "recall", "hit_rate", "mrr")


@dataclass(frozen=True)
class Listing:
    """A table of the page; the first column names each row.

    Attributes:
        caption: What it shows.
        columns: Headings.
        rows: Cells, as text.
        numbers: Headings of the columns that stand to the right.
        best: Names of rows in bold.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[str] = ()
    best: Sequence[str] = ()


def tiles(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the few numbers that say how large the shop is."""
    facts, time = report["profile"]["facts"], report["profile"]["time"]
    found = [("users", f"{facts['users']:,}"), ("items", f"{facts['items']:,}"), ("events", f"{facts['events']:,}")]
    if time:
        found.append(("days", f"{time['days']:,.0f}"))
    found.append(("had the item before", percent(facts["again"])))
    found.append(("on the top 1% of items", percent(report["profile"]["items"]["top"])))
    found.append(("items with a text", percent(facts["text"])))
    return found


def list_all(report: Mapping[str, Any]) -> dict[str, Listing]:
    """Return every table that the numbers allow, by name."""
    parts = (_quality(report["quality"]), _data(report), _business(report["business"]), _changes(report))
    return {name: one for part in parts for name, one in part}


def _quality(quality: Mapping[str, Any]) -> Iterator[tuple[str, Listing]]:
    k, metrics = main_k(quality), quality["metrics"]
    names = [f"{name}@{k}" for name in METRICS if f"{name}@{k}" in metrics[ENGINE]]
    names += [name for name in metrics[ENGINE] if name.startswith("coverage@")]
    rows = [[model, *(f"{one[name]:.4f}" for name in names)] for model, one in metrics.items()]
    yield "models", Listing("The engine and its baselines", ["model", *names], rows, names, [ENGINE])
    best = best_baseline(quality)
    compared = [ENGINE, *([best] if best else [])]
    slices = quality["slices"]
    for name, part, count, metric in (("whom", "users", "users", "ndcg"), ("items", "items", "targets", "recall"),
                                      ("categories", "categories", "targets", "recall"),
                                      ("gaps", "gaps", "targets", "recall")):  # fmt: skip
        key = f"{metric}@{k}"
        held = {label: one for label, one in slices.get(part, {}).items() if one[count]}
        rows = [[label, f"{one[count]:,}", *(f"{one[model][key]:.4f}" for model in compared)]
                for label, one in held.items()]  # fmt: skip
        yield name, Listing(f"{key} by slice", ["slice", count, *compared], rows, [count, *compared])
    rows = [[stage, f"{loss['share']:.1%}", f"{loss['low']:.1%} to {loss['high']:.1%}"]
            for stage, loss in quality["losses"].items()]  # fmt: skip
    yield "losses", Listing("Shares of all that users went on to", ["stage", "share", "95% interval"], rows, ["share"])
    rows = [[name, f"{share:.1%}"] for name, share in quality["candidate_recall"].items()]
    yield "retrievers", Listing("Share of the targets among the candidates", ["retriever", "found"], rows, ["found"])
    exposure = quality["exposure"]
    bands = list(exposure["targets"])
    rows = [["what users went on to" if name == "targets" else name, *(f"{one[band]:.3f}" for band in bands)]
            for name, one in exposure.items()]  # fmt: skip
    caption = "Share of the places by the item's known events, and how unequal the places are (Gini)"
    yield "exposure", Listing(caption, ["lists of", *bands], rows, bands)
    yield from _calibration(quality.get("probability", {"none": ""}))


def _calibration(measured: Mapping[str, Any]) -> Iterator[tuple[str, Listing]]:
    if "none" in measured:
        return
    quality = measured.get("later") or measured["quality"]
    columns = ["pairs", "observed", "predicted", "error"]
    rows = [[name, f"{one['pairs']:,}", f"{one['base_rate']:.2%}", f"{one['mean']:.2%}", f"{one['ece']:.2%}"]
            for name, one in ({"all": quality} | quality["segments"]).items()]  # fmt: skip
    yield "calibration", Listing("Candidates by segment", ["candidates", *columns], rows, columns)


def _data(report: Mapping[str, Any]) -> Iterator[tuple[str, Listing]]:
    numbers = ["read", "kept", "refused", "left out", "duplicates"]
    rows = []
    for name, one in report["ingest"].items():
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in one.get("dropped", {}).items()) or "0"
        refused = ", ".join(f"{count:,} {reason}" for reason, count in one.get("refused", {}).items()) or "0"
        rows.append([name, f"{one['rows']:,}", f"{one['kept']:,}", refused, left_out, f"{one.get('duplicates', 0):,}"])
    yield "rows", Listing("What was read, and what was not kept", ["table", *numbers], rows, ["read", "kept"])
    profile = report["profile"]
    rows = [[band, f"{count:,}", f"{profile['items']['bands'][band]:,}"]
            for band, count in profile["users"]["bands"].items()]  # fmt: skip
    yield "bands", Listing("Users and items by events", ["events", "users", "items"], rows, ["users", "items"])
    for name, one in profile["tables"].items():
        rows = [[column["name"], column["type"], f"{column['missing']:.1%}", f"{column['distinct']:,}",
                 spread(column["histogram"]), values(column)] for column in one["columns"]]  # fmt: skip
        columns = ["column", "type", "missing", "distinct", "spread", "values"]
        yield f"columns_{name}", Listing(f"The columns of {name}", columns, rows, ["missing", "distinct"])
    rows = [[section, reason] for section, reason in profile["conclusions"].items()]
    yield "conclusions", Listing("What recsys init concludes", ["section", "because"], rows)


def _business(business: Mapping[str, Any]) -> Iterator[tuple[str, Listing]]:
    if "best" in business:
        columns = [f"last {business['window_days']:.0f} days", "before"]
        for name, caption in (("best", "Most events"), ("rising", "More than before, beyond chance")):
            rows = [[one["title"], f"{one['now']:,}", f"{one['before']:,}"] for one in business[name]]
            yield name, Listing(caption, ["item", *columns], rows, columns)
    rows = [[one["item"]["title"], one["other"]["title"], f"{one['count']:,}", f"{one['share']:.0%}",
             f"{one['lift']:,.1f}"] for one in business["together"]["pairs"]]  # fmt: skip
    numbers = ["together", "of the first's", "times chance"]
    yield "together", Listing("Pairs in one basket", ["item", "with", *numbers], rows, numbers)
    back = business.get("returns", {}).get("back_within", {})
    rows = [[f"within {days} days", f"{share:.0%}"] for days, share in back.items()]
    yield "back", Listing("New customers who came back", ["after the first day", "share"], rows, ["share"])
    users = business.get("due", {}).get("users", [])
    rows = [[str(one["user_id"]), str(one["days"]), f"{one['usual_gap']:g}", str(one["since"])] for one in users]
    columns = ["days with a purchase", "usual gap in days", "days since the last"]
    yield "due", Listing("The most frequent of them", ["customer", *columns], rows, columns)


def _changes(report: Mapping[str, Any]) -> Iterator[tuple[str, Listing]]:
    changes = report.get("changes")
    if changes is None:
        return
    k = main_k(report["quality"])
    pairs = {name: pair for name, pair in changes["metrics"].items() if name.endswith(f"@{k}")}
    rows = [[name, f"{pair['before']:.4f}", f"{pair['now']:.4f}"] for name, pair in pairs.items()]
    rows += [[name, f"{pair['before']:,}", f"{pair['now']:,}"] for name, pair in changes["counts"].items()]
    yield "changes", Listing("The engine then and now", ["measure", "before", "now"], rows, ["before", "now"])
    rows = [[one["setting"], str(one["before"]), str(one["now"])] for one in changes["settings"]]
    yield "settings_changed", Listing("Settings that changed", ["setting", "before", "now"], rows)
