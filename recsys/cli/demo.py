"""The demo: the whole way from raw tables to explained recommendations, step by step."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from recsys import formatting
from recsys.cli import views
from recsys.cli.console import heading, note, progress, show, show_json
from recsys.cli.options import DEMO_BUNDLE
from recsys.config import Config, load_config
from recsys.engine.embeddings import embed
from recsys.engine.plan import Plan
from recsys.explain import phrases
from recsys.extras import require
from recsys.formatting import plural
from recsys.jobs.cuts import judged_cut
from recsys.jobs.demo import Rehearsal
from recsys.jobs.ingest import ingest
from recsys.serving.recommender import Recommender
from recsys.types import Tables

HISTORY = 5
K = 10


def demo(path: Path, as_json: bool) -> None:
    """Run every stage on one config and show what came out."""
    require("train", "recsys demo")
    began = time.monotonic()
    config = load_config(path)
    heading("1. Ingest: read and check the tables")
    tables = ingest(config)
    note(_ingested(tables))
    judged_cut(Plan.of(config), tables)
    heading("2. Embed: turn the items' texts into vectors")
    embeddings = embed(config.embedding, tables.catalog, config.vector_folder)
    store = embeddings.space.store if embeddings.space else None
    reused = f"; {store.last.encoded:,} texts encoded, {store.last.found:,} there already" if store else ""
    note(f"{plural(len(embeddings.items), 'item')} as {embeddings.items.shape[1]} numbers each by "
         f"{config.embedding.model}{' (whitened)' if config.embedding.whitening else ''}{reused}")  # fmt: skip
    with progress() as report_progress:
        heading(f"3. Fit: cut off {_horizon(config)}, learn from what came before")
        trial = Rehearsal.run(config, tables, embeddings, report_progress)
        known = plural(len(trial.fold.known), "event")
        note(f"{known} before the cut, {len(trial.fold.labels):,} after it; "
             f"retrievers: {', '.join(config.retrievers)}; scorer: {config.scorer['kind']}")  # fmt: skip
        heading("4. Evaluate: rank the whole catalogue for every user, compare with what followed")
        report = trial.report(report_progress)
    if not as_json:
        show(*views.evaluation(report))
    heading("5. Publish: write the bundle that `score`, `similar`, `search` and services load")
    version = trial.publish(report)
    note(f"{version} (as judged above: it knows nothing of {_horizon(config)})")
    recommender = Recommender.load(version)
    heading("6. Recommend: three users, and what they really went on to")
    shown = [_shown(trial, recommender, user, as_json) for user in trial.typical_users()]
    note(f"\nDone in {timedelta(seconds=round(time.monotonic() - began))}.")
    if as_json:
        show_json(report | {"ingest": tables.report, "bundle": str(version), "users_shown": shown})
    else:
        show(_next(path, config, recommender, shown))


def _shown(trial: Rehearsal, recommender: Recommender, user: Any, as_json: bool) -> dict[str, Any]:
    """Recommend for one user and mark what the user really went on to."""
    config, clock = trial.config, trial.tables.clock
    answer = recommender.recommend(user, K, explain=True)
    history = recommender.history(user)
    followed = trial.followed(user)
    ticks = [item.item_id in followed for item in answer.items]
    now = trial.fold.as_of if trial.fold.as_of is not None else int(history["time"].max())  # type: ignore[arg-type]
    own = phrases.pasts(history, now if clock == "time" else None)
    leads = trial.leads(user, [item.item_id for item in answer.items])
    topics = phrases.retriever_topics(config)
    reasons = [
        phrases.why(item.reasons, own.get(item.item_id), topics, leads.get(item.item_id)) for item in answer.items
    ]
    if not as_json:
        title = (f"Recommended: {sum(ticks)} of {len(ticks)} were among the {plural(len(followed), 'item')} "
                 "that followed")  # fmt: skip
        show("", views.history(str(user), history, clock, HISTORY), "",
             views.recommendations(title, answer.items, reasons, ("followed", ticks)))  # fmt: skip
    items = [item | {"why": reason, "followed": tick}
             for item, reason, tick in zip(answer.to_dict()["items"], reasons, ticks, strict=True)]  # fmt: skip
    return {"user_id": user, "history": history["title"].head(HISTORY).to_list(), "items": items}


def _ingested(tables: Tables) -> str:
    items: Any = tables.report["catalog"]
    events: Any = tables.report["interactions"]
    kinds = " and ".join(plural(count, kind) for kind, count in events["kinds"].items())
    lines = [
        f"{kinds} by {plural(events['users'], 'user')} of {plural(events['items'], 'item')}, "
        f"{str(events['first'])[:10]} to {str(events['last'])[:10]}",
        f"{plural(items['kept'], 'item')} in the catalogue",
    ]
    for name, counts in (("catalogue", items), ("events", events)):
        if counts["refused"] or counts["dropped"] or counts.get("duplicates"):
            dropped, refused = (formatting.counted(counts[kind]) for kind in ("dropped", "refused"))
            again = f"; {counts['duplicates']:,} duplicates" if counts.get("duplicates") else ""
            lines.append(f"{name}: left out {dropped}; refused {refused}{again}")
    return "\n".join(lines)


def _horizon(config: Config) -> str:
    if config.split.kind == "time":
        return f"the last {plural(round(config.split.horizon_days), 'day')}"
    return "each user's last event"


def shortest(path: Path) -> Path:
    """The path as one would write it here: a checkout names the demo's config in `configs/`."""
    here = Path("configs", path.name)
    if here.exists() and here.samefile(path):
        return here
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _next(path: Path, config: Config, recommender: Recommender, shown: Sequence[Mapping[str, Any]]) -> str:
    """Suggest real commands, with ids that this bundle holds."""
    program = "recsys" if shutil.which("recsys") else os.path.relpath(sys.argv[0])
    bundle = [] if config.folder == DEMO_BUNDLE else ["--config", path]
    first = shown[-1]
    item = first["items"][0]
    commands = [
        (["score", first["user_id"], *bundle], "recommendations for one user, explained"),
        (["similar", item["item_id"], *bundle], f"items like {item['title']}"),
        (["search", first["history"][0].lower(), *bundle], "items by a free text"),
        (["candidates", "--out", config.folder / "candidates", *bundle], "Parquet for every user"),
        (["inspect", *bundle], "what the bundle is made of"),
        (["train", shortest(path)], "learn from everything, the test events too"),
        (["doctor"], "is this machine set up well?"),
    ]
    lines = [shlex.join([program, *map(str, command)]) for command, _ in commands]
    width = max(map(len, lines))
    tried = "\n".join(f"  {line:<{width}}  # {about}" for line, (_, about) in zip(lines, commands, strict=True))
    return f"\nWhat to try next:\n{tried}"
