"""What a person is shown: results as rich tables and lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recsys import formatting
from recsys.config import parse_stored_config
from recsys.evaluation.losses import DEEPER
from recsys.formatting import plural

if TYPE_CHECKING:
    from recsys.explain.explanation import Explanation, WhyNot
    from recsys.privacy.forget import Forgotten
    from recsys.serving.recommendations import Recommendation

ENGINE = "engine"
MAIN_K = 10
STRONGEST = 10
BAR = 24
SLICES = [
    ("Users by the events known of them", "users", "users", "ndcg"),
    ("Targets by the events known of their items", "items", "targets", "recall"),
    ("Targets by the days since the user's newest known event", "gaps", "targets", "recall"),
]


def table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    """Build an empty table; the columns in `numbers` stand to the right."""
    built = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        built.add_column(name, justify="right" if name in numbers else "left", header_style="dim", overflow="fold")
    return built


def _titled(title: str, shown: Table) -> Group:
    """Put a title above a table; rich's own would wrap at the table's width."""
    return Group(Text(title, style="bold"), shown)


def history(user: str, frame: pl.DataFrame, clock: str, newest: int) -> Group:
    """Show what a user did last, newest first."""
    shown = table("when", "item", "title")
    for item, title, time in frame.head(newest).iter_rows():
        shown.add_row(formatting.moment(time, clock), escape(str(item)), escape(title))
    title = f"User {user}: the newest {min(newest, len(frame))} of {plural(len(frame), 'event')}"
    return _titled(title, shown)


def recommendations(title: str, items: Sequence[Recommendation], reasons: Sequence[str],
                    marks: tuple[str, Sequence[bool]] | None = None) -> Group:  # fmt: skip
    """Show a ranked list: who found each item, at which place, and why it stands where it stands.

    `marks` adds a column with a tick at some of the items, under the heading that it names.
    """
    heading = [marks[0]] if marks else []
    chance = ["chance"] if any(item.probability is not None for item in items) else []
    shown = table("rank", "item", "title", "score", *chance, *heading, "why", "found by",
                  numbers=("rank", "score", "chance"))  # fmt: skip
    for row, (item, reason) in enumerate(zip(items, reasons, strict=True)):
        tick = ["[green]✓[/green]" if marks[1][row] else ""] if marks else []
        found = " ".join(f"{name}:{place}" for name, place in item.sources.items()) or "popularity (fill)"
        likely = [formatting.percent(item.probability)] if chance else []
        shown.add_row(str(item.rank), escape(str(item.item_id)), escape(item.title), f"{item.score:.3f}",
                      *likely, *tick, escape(reason), found)  # fmt: skip
    return _titled(title, shown)


def hits(title: str, frame: pl.DataFrame) -> Group:
    """Show items by their likeness."""
    shown = table("rank", "item", "title", "cosine", numbers=("rank", "cosine"))
    for rank, (item, name, score) in enumerate(frame.iter_rows(), start=1):
        shown.add_row(str(rank), escape(str(item)), escape(name), f"{score:.3f}")
    return _titled(title, shown)


def explanation(user: str, lost: WhyNot, found: Explanation) -> list[RenderableType]:
    """Show what puts an item into a user's list of k, or where it was lost and what stands before it."""
    title = f"{found.title} ({found.item_id}) for user {user}, list of {lost.k}: {lost.stage}"
    parts: list[RenderableType] = [Text(title, style="bold"), Text(lost.text)]
    if lost.retrievers:
        parts += ["", _titled("How far each retriever was from proposing it", _reaches(lost))]
    if lost.kth is not None:
        heading = f"What each feature gives {lost.kth.title}, at place {lost.k}, more than it"
        return [*parts, "", _titled(heading, _amounts("feature", lost.gap, ("ahead by", lost.kth.score - lost.score)))]
    ends = ("score", found.score), ("the mean candidate", found.base)
    parts += ["", _titled("What each feature adds to its score", _amounts("feature", found.contributions, *ends))]
    if found.because:
        effects = {f"{item.title} ({item.item_id})": item.effect for item in found.because}
        shown = _amounts("without", effects, ("the whole history", found.history_effect), others=False)
        parts += ["", _titled("How far its log odds in the list fall without a part of the history", shown)]
    return parts


def _reaches(lost: WhyNot) -> Table:
    shown = table("retriever", "place", "depth", "score", "score at depth",
                  numbers=("place", "depth", "score", "score at depth"))  # fmt: skip
    for name, reach in lost.retrievers.items():
        place = "never" if reach.place is None else str(reach.place)
        edge = "" if reach.edge is None else f"{reach.edge:.3g}"
        shown.add_row(name, place, str(reach.depth), f"{reach.score:.3g}", edge)
    return shown


def _amounts(heading: str, amounts: Mapping[str, float], total: tuple[str, float],
             base: tuple[str, float] | None = None, others: bool = True) -> Table:  # fmt: skip
    """Show amounts as bars, the first ones by name, between what they start from and what they come to."""
    shown = table(heading, "amount", "", numbers=["amount"])
    named = list(amounts.items())[:STRONGEST]
    most = max((abs(amount) for _, amount in named), default=0) or 1
    if base is not None:
        shown.add_row(f"[dim]{base[0]}[/dim]", f"{base[1]:+.3f}", "")
    for name, amount in named:
        colour = "green" if amount > 0 else "red"
        shown.add_row(escape(name), f"{amount:+.3f}", f"[{colour}]{'█' * round(BAR * abs(amount) / most)}[/{colour}]")
    if others and len(amounts) > STRONGEST:
        rest = sum(list(amounts.values())[STRONGEST:])
        shown.add_row(f"[dim]{len(amounts) - STRONGEST} others[/dim]", f"{rest:+.3f}", "")
    shown.add_row(f"[dim]{total[0]}[/dim]", f"{total[1]:+.3f}", "")
    return shown


def evaluation(report: Mapping[str, Any]) -> list[RenderableType]:
    """Show how the engine does against the baselines, where targets are lost, and for whom it works."""
    metrics, slices = report["metrics"], report["slices"]
    ks = sorted({int(name.rpartition("@")[2]) for name in metrics[ENGINE]})
    k = MAIN_K if MAIN_K in ks else ks[-1]
    parts: list[RenderableType] = [_models(report, k)]
    compared = [ENGINE]
    baselines = [name for name in metrics if name != ENGINE]
    if baselines:
        best = max(baselines, key=lambda name: metrics[name][f"ndcg@{k}"])
        compared.append(best)
        gap = report["differences"][best]
        parts.append(
            f"The engine's ndcg@{k} less that of the best baseline, {best}: [bold]{gap['mean']:+.4f}[/bold] "
            f"(95% interval {gap['low']:+.4f} to {gap['high']:+.4f}, paired bootstrap over users)"
        )
    parts += ["", _lost(report["losses"]), "", _found(report["candidate_recall"])]
    for title, name, count, metric in SLICES:
        if name in slices:
            shown = _slices(slices[name], count, f"{metric}@{k}", compared)
            parts += ["", _titled(f"{title}: {metric}@{k}", shown)]
    if "probability" in report:
        parts += ["", *probability(report["probability"])]
    return parts


def probability(measured: Mapping[str, Any]) -> list[RenderableType]:
    """Show how far probabilities were from what happened, overall and by segment; or why there are none."""
    if "none" in measured:
        return [f"No probabilities: {measured['none']}"]
    columns = ["labels", "observed", "predicted", "error", "Brier"]
    parts: list[RenderableType] = [f"Probability that {measured['statement']}"]
    measured = {
        f"at the newest training cut, users held out ({measured['held_out']} held out)": measured["quality"],
        "on what followed the cut, none of it known": measured.get("later"),
    }
    for title, quality in measured.items():
        if quality is None:
            continue
        shown = table("candidates", "pairs", *columns, numbers=["pairs", *columns])
        for name, row in ({"all": quality} | quality["segments"]).items():
            shown.add_row(name, f"{row['pairs']:,}", f"{row['labels']:,}", f"{row['base_rate']:.2%}",
                          f"{row['mean']:.2%}", f"{row['ece']:.2%}", f"{row['brier']:.5f}")  # fmt: skip
        parts += ["", _titled(f"Calibration {title}", shown)]
    return parts


def _models(report: Mapping[str, Any], k: int) -> Group:
    metrics = report["metrics"]
    columns = [name for name in metrics[ENGINE] if name.endswith(f"@{k}") or name.startswith(("coverage@", "novelty@"))]
    # Novelty is a description, not a contest: unpopular items are not better ones.
    top = {name: max(metrics[model][name] for model in metrics) for name in columns if not name.startswith("novelty")}
    shown = table("model", *columns, numbers=columns)
    for model, values in metrics.items():
        cells = [_bold(f"{values[name]:.4f}", values[name] == top.get(name)) for name in columns]
        shown.add_row(_bold(model, model == ENGINE), *cells)
    asked = f"{plural(report['users'], 'user')}, {plural(report['targets'], 'target')}"
    return _titled(f"{report['name']}: the whole catalogue ranked for {asked}; best in bold", shown)


def _bold(text: str, wanted: bool) -> str:
    return f"[bold]{text}[/bold]" if wanted else text


def _lost(losses: Mapping[str, Mapping[str, float]]) -> Group:
    shown = table("stage", "share", "95% interval", numbers=["share", "95% interval"])
    for stage, loss in losses.items():
        shown.add_row(stage, f"{loss['share']:.1%}", f"{loss['low']:.1%} to {loss['high']:.1%}")
    return _titled("Where targets are lost: shares of all that users did next", shown)


def _found(recall: Mapping[str, float]) -> Group:
    shown = table("retriever", "targets found", numbers=["targets found"])
    names = {"all": _bold("all together", True), "deeper": f"all, {DEEPER} times as deep"}
    for name, share in recall.items():
        shown.add_row(names.get(name, name), f"{share:.1%}")
    return _titled("The share of the targets that each retriever puts among the candidates", shown)


def _slices(slices: Mapping[str, Any], count: str, metric: str, models: Sequence[str]) -> Table:
    shown = table("slice", count, *models, numbers=[count, *models])
    for name, figures in slices.items():
        if figures[count]:
            shown.add_row(name, f"{figures[count]:,}", *(f"{figures[model][metric]:.4f}" for model in models))
    return shown


def tuning(result: Mapping[str, Any]) -> list[RenderableType]:
    """Show every trial, and what was chosen: what changed and how much of the gain may be luck."""
    start, chosen, before, gap = result["start"], result["chosen"], result["before"], result["difference"]
    metric = next(iter(start))
    tried = table("trial", metric, "seconds", "changed against the start", numbers=("trial", metric, "seconds"))
    for trial in result["trials"]:
        value = "failed" if trial["error"] else _bold(f"{trial[metric]:.4f}", trial["trial"] == chosen["trial"])
        changes = ", ".join(f"{path} {_changed(value, before[path])}" for path, value in trial["changes"].items())
        tried.add_row(str(trial["trial"]), value, f"{trial['seconds']:.1f}",
                      escape(trial["error"] or changes or "nothing"))  # fmt: skip
    moved = table("setting", "before", "chosen")
    for path, value in chosen["changes"].items():
        moved.add_row(path, escape(_changed(before[path], value)), escape(_changed(value, before[path])))
    choice = _titled(f"The config chosen: {result['config']}", moved)
    kept = f"No trial did better than the config as it stands: so is {result['config']}."
    spent = f"{result['seconds']:,.0f} of {result['budget_seconds']:,.0f} seconds"
    title = f"{result['name']}: {plural(len(result['trials']), 'trial')} in {spent}, validation only; chosen in bold"
    gained = (
        f"{metric} for {plural(result['users'], 'user')}: {start[metric]:.4f} before, "
        f"[bold]{chosen[metric]:.4f}[/bold] after, difference {gap['mean']:+.4f} (95% interval {gap['low']:+.4f} to "
        f"{gap['high']:+.4f}, paired bootstrap over users). The best of many trials looks better than it is: "
        "`recsys evaluate` on the chosen config says what it is worth."
    )
    return [_titled(title, tried), "", choice if chosen["changes"] else kept, "", gained]


def tuned_encoder(before: Mapping[str, float], after: Mapping[str, float]) -> Group:
    """Show what texts alone find, before and after an encoder was tuned."""
    shown = table("by text alone", "before", "after", numbers=["before", "after"])
    for name, value in before.items():
        shown.add_row(name, f"{value:.4f}", _bold(f"{after[name]:.4f}", after[name] > value))
    return _titled("The encoder on validation", shown)


def _changed(value: Any, other: Any) -> str:
    """Write a setting's value; of a list of names only what it has more or less than the other."""
    if isinstance(value, dict):
        return _settings(str(value["kind"]), value)
    names = [value, other] if isinstance(value, list) and isinstance(other, list) else []
    if not any(names) or not all(isinstance(name, str) for each in names for name in each):
        return str(value)
    more, less = [name for name in value if name not in other], [name for name in other if name not in value]
    return f"with {', '.join(more)}" if more else f"without {', '.join(less)}"


def forgotten(gone: Forgotten) -> list[str]:
    """Say what was removed, what the scan read, and what is left to do elsewhere."""
    removed = [f"{plural(rows, 'row')} of {path}" for path, rows in gone.rows.items()]
    removed += [f"{plural(gone.vectors, 'vector')} of behaviour texts"] if gone.vectors else []
    removed += [f"version {name}" for name in gone.pruned]
    removed += [f"left by a process that died: {path}" for path in gone.leftovers]
    lines = [f"removed {text}" for text in removed] or ["nothing was left to remove"]
    if gone.version:
        lines.append(f"published {gone.version} without them; a version deleted above cannot be rolled back to")
        lines.append("a service that runs keeps the old version until it loads again")
        lines.append("counts and weights learnt from everybody still hold their part until the next `recsys train`")
    lines += [f"the same characters, but no person: {mention}" for mention in gone.mentions]
    lines.append(
        f"scanned {plural(gone.files_scanned, 'file')}, {formatting.size(gone.bytes_scanned)}: "
        f"{plural(gone.hits, 'place')} {'names' if gone.hits == 1 else 'name'} them"
    )
    if gone.source_rows:
        lines.append(f"the shop's own tables still hold {plural(gone.source_rows, 'row')} of them: delete them there")
    return lines


def manifest(content: Mapping[str, Any], root: str, versions: Sequence[str]) -> list[RenderableType]:
    """Show what a bundle says of itself."""
    config = parse_stored_config(content["config"], root)
    window, counts, files = content["data_window"], content["counts"], content["files"]
    total = sum(file["bytes"] for file in files.values())
    rows = {
        "bundle": root,
        "version": f"{content['model_version']}, made {content['created_at']}",
        "data": f"{plural(counts['events'], 'event')} of {plural(counts['users'], 'user')} on "
                f"{plural(counts['items'], 'item')}, {formatting.moment(window['first'], window['clock'])} to "
                f"{formatting.moment(window['last'], window['clock'])}",
        "encoder": f"{config.embedding.model}"
                   f"{f', {config.embedding.pooling} pooling' if config.embedding.pooling else ''}"
                   f"{', whitened' if config.embedding.whitening else ''}, fingerprint {content['encoder'][:12]}",
        "retrievers": ", ".join(_settings(name, settings) for name, settings in config.retrievers.items()),
        "indexes": "; ".join(_index(name, index) for name, index in content.get("indexes", {}).items()),
        "features": ", ".join(config.features),
        "scorer": _settings(str(config.scorer.get("kind")), config.scorer),
        "items already had": "left out" if config.rules.seen == "drop" else "allowed",
        "measured": ", ".join(f"{name} {value:.4f}" for name, value in content.get("metrics", {}).items())
                    or "not at publication; see `recsys evaluate CONFIG`",
        "note": content.get("note", ""),
        "forgotten": plural(content["forgotten"], "user") + " since training" if content.get("forgotten") else "",
        "files": f"{len(files)}, {formatting.size(total)}, every checksum matches",
        "other versions": ", ".join(name for name in versions if name != content["model_version"]) or "none",
    }  # fmt: skip
    about = table("", "")
    about.show_header = False
    for name, text in rows.items():
        if text:
            about.add_row(f"[dim]{name}[/dim]", escape(text))
    sizes = table("file", "size", "shape", "dtype", numbers=["size", "shape"])
    for name, file in sorted(files.items(), key=lambda pair: -pair[1]["bytes"]):
        shape = " × ".join(f"{n:,}" for n in file.get("shape", []))
        sizes.add_row(name, formatting.size(file["bytes"]), shape, file.get("dtype", ""))
    quality = [*probability(content["probability"]), ""] if "probability" in content else []
    return [about, "", *quality, _titled("Files, largest first", sizes)]


def versions(described: Sequence[Mapping[str, Any]]) -> Table:
    """Show the versions of a bundle root."""
    shown = table("version", "made", "size", "", numbers=["size"])
    for version in described:
        mark = "[green]current[/green]" if version["current"] else ""
        made = "[red]damaged[/red]" if version["problem"] else escape(str(version["created_at"]))
        shown.add_row(version["version"], made, formatting.size(version["bytes"]), mark)
    return shown


def _settings(name: str, settings: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "kind")
    return f"{name} ({listed})" if listed else name


def _index(name: str, about: Mapping[str, Any]) -> str:
    kind = " ".join([about["factory"], *([about["search"]] if about["search"] else [])])
    rest = [f"{key} {value:.4f}" for key, value in about.items() if key not in ("factory", "search")]
    return f"{name} {kind} ({', '.join(rest)})"
