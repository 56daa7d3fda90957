"""Where the engine is weak: the stage at which it loses targets, users with few events, items without any.

    python -m benchmarks.quality.weak_spots --data DIR [--tasks beauty ...] [--validation] [--again]

prints tables and stores the results in `artifacts/quality/weak_spots.json` (with `--validation` in
`weak_spots_validation.json`), from which the page is written. Only data sets without results are measured:

    {task: {"counts": {...},
            "losses": {stage: {"share", "low", "high"}},
            "candidate_recall": the share of the targets that are candidates,
            "users": {"0 events": {model: {"recall@10", "ndcg@10"}}, "1 event": ...},
            "items": {"among all items": {model: ...}, "among new items only": {model: ...}}}}

The engine is that of the config, fitted on everything before the cut.

Users: those with 5 known events or more get lists as if only their newest 0, 1, 2 or 5 events were known. Items they
had stay blocked, and the statistics, which know all of their events, stay as fitted.

Items: a random tenth is new. Their events before the cut are hidden from statistics, histories and training labels; the
targets are the new items that users then had for the first time.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.report import weak_spots
from benchmarks.quality.run import SPOTS
from benchmarks.quality.tasks import TASKS
from recsys.arrays import BoolArray, LongArray
from recsys.cli.console import guarded, note, progress
from recsys.config import Config
from recsys.engine.embeddings import Embeddings, embed
from recsys.engine.model import Model
from recsys.engine.plan import Plan
from recsys.engine.training import fit, sample_items
from recsys.evaluation.baselines import BASELINES
from recsys.evaluation.protocol import ALL, Evaluator, Targets
from recsys.formatting import plural
from recsys.jobs.evaluate import ENGINE, judge
from recsys.jobs.ingest import ingest
from recsys.parallel.threads import batches
from recsys.progress import Progress
from recsys.ragged import offsets_of
from recsys.ranking.feature_context import Context
from recsys.ranking.rules import best
from recsys.retrieval.candidates import union
from recsys.tables.split import Fold, hide_items, holdout
from recsys.types import Candidates, Histories, Hits, State

DATA_SETS = ["beauty", "online_retail", "completejourney"]  # each under the task of the rules it ships with
AGAINST = ["popularity", "text"]
EVENTS = [0, 1, 2, 5]
HIDDEN = 0.1
K = 10
BATCH = 64  # queries: each ranks every new item

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class NewestEmbeddings(Embeddings):
    """Encodes only the newest `events` of each user."""

    events: int = 0

    def with_text_vectors(self, histories: Histories, newest: int | None = None) -> Histories:
        return super().with_text_vectors(histories, self.events)


def cold_users(config: Config, fold: Fold, embeddings: Embeddings, model: Model, tick: Progress) -> dict[str, Figures]:
    """Measure the model for the same users, as if only so many of their events were known."""
    enough = np.diff(fold.known.offsets) >= max(EVENTS)
    known_well = replace(fold, labels=fold.labels.take(enough[fold.labels.user]))
    by_events = {}
    for events in EVENTS:
        forgetful = replace(model, retrieval=replace(model.retrieval, history=events))
        newest = NewestEmbeddings(**vars(embeddings), events=events)
        by_events[plural(events, "event")] = figures(
            judge(config.evaluation, config.data.clock, known_well, newest, forgetful, tick)
        )
    return by_events


def hide(fold: Fold, n_items: int, seed: int) -> tuple[Fold, BoolArray]:
    """Choose new items `(I,)`; return the cut without their earlier events, labelled by them alone."""
    new = sample_items(HIDDEN, fold, n_items, np.random.default_rng(seed))
    hidden = hide_items(fold, new)
    return replace(hidden, labels=hidden.labels.take(new[hidden.labels.item])), new


def among_new(config: Config, fold: Fold, embeddings: Embeddings, model: Model, new: BoolArray) -> Evaluator:
    """Rank only the new items for every user of the fold."""
    targets = Targets.of(fold, len(new), model.retrieval.drop_seen)
    board, rng = Evaluator(targets, [K]), np.random.default_rng(config.seed)
    state = State(embeddings.catalog, fold.known, embeddings.items, fold.as_of)
    others = {name: BASELINES[name].fit(state) for name in AGAINST}
    for number, users in enumerate(batches(targets.users, BATCH)):
        context = with_candidates(model, embeddings.with_text_vectors(fold.histories(users)), np.flatnonzero(new))
        rows = new[context.item]
        owner, item = context.owner[rows], context.item[rows]
        offsets = offsets_of(np.bincount(owner, minlength=len(users)))
        candidates = Candidates(offsets, item, np.zeros((len(item), 1), dtype=np.int32))
        scores = {ENGINE: model.score(context)[rows], "random": rng.random(len(item), dtype=np.float32)}
        scores |= {name: fitted.ask(context.histories).score(owner, item) for name, fitted in others.items()}
        for name, score in scores.items():
            board.add(name, number * BATCH, best(candidates, score, board.length))
    return board


def with_candidates(model: Model, histories: Histories, items: LongArray) -> Context:
    """Return the model's candidates and these items, as candidates that no retriever found."""
    context = model.retrieval.context(histories)
    n = len(histories)
    every = Hits(
        np.arange(n + 1) * len(items), np.tile(items.astype(np.int32), n), np.zeros(n * len(items), np.float32)
    )
    joined = union([*model.retrieval.hits(context.answers, context.blocked_pairs), every], n, context.n_items)
    return replace(context, candidates=Candidates(joined.offsets, joined.item, joined.found[:, :-1]))


def figures(board: Evaluator) -> Figures:
    """Recall and ndcg of each model."""
    return {name: {metric: board.metrics(name)[metric] for metric in (f"recall@{K}", f"ndcg@{K}")}
            for name in board.places}  # fmt: skip


def measure(config: Config, validation: bool, tick: Progress) -> dict[str, Any]:
    """Fit twice, with all items and with the new ones hidden, and measure both models."""
    evaluation = config.evaluation.model_copy(update={"k": [K], "baselines": AGAINST})
    config = config.model_copy(update={"evaluation": evaluation})
    tables = ingest(config)
    embeddings = embed(config.embedding, tables.catalog, config.vector_folder)
    fold = holdout(tables.interactions, config.split)
    if validation:
        fold = holdout(fold.known, config.split, fold.as_of)
    model = fit(Plan.of(config), fold.known, embeddings, fold.as_of, tick)
    whole = judge(config.evaluation, config.data.clock, fold, embeddings, model, tick).report(ENGINE, K, config.seed)
    users = cold_users(config, fold, embeddings, model, tick)
    hidden, new = hide(fold, len(tables.catalog), config.seed)
    model = fit(Plan.of(config), hidden.known, embeddings, hidden.as_of, tick)
    items = {
        "among all items": figures(judge(config.evaluation, config.data.clock, hidden, embeddings, model, tick)),
        "among new items only": figures(among_new(config, hidden, embeddings, model, new)),
    }
    users_measured = fold.labelled_users[np.diff(fold.known.offsets)[fold.labelled_users] >= max(EVENTS)]
    counts = {
        "users asked with fewer events": len(users_measured),
        "items": len(tables.catalog),
        "new items": int(new.sum()),
        "users who had a new item next": len(hidden.labelled_users),
    }
    return {
        "counts": counts,
        "losses": whole["losses"],
        "candidate_recall": whole["candidate_recall"][ALL],
        "users": users,
        "items": items,
    }


def main() -> None:
    """Measure the chosen data sets that have no results yet, and print the results of all of them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.weak_spots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds beauty/ and online_retail/")
    parser.add_argument("--tasks", nargs="+", choices=DATA_SETS, default=DATA_SETS, metavar="TASK")
    parser.add_argument("--validation", action="store_true", help="one cut earlier: choose settings here")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    options = parser.parse_args()
    out = SPOTS.with_stem(f"{SPOTS.stem}_validation") if options.validation else SPOTS
    out.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    for task in options.tasks:
        if task in results and not options.again:
            continue
        if missing := TASKS[task].missing(options.data):
            note(f"{task}: left out, {missing} is not there")
            continue
        with progress() as tick:
            results[task] = measure(TASKS[task].settings(options.data), options.validation, tick)
        out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if known := {task: results[task] for task in options.tasks if task in results}:
        print(weak_spots(known))


if __name__ == "__main__":
    guarded(main)
