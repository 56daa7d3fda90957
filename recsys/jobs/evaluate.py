"""Hold out the newest events, fit on the rest, and measure the engine and its baselines on what followed."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import numpy as np

from recsys.config import Config, EvaluationConfig
from recsys.engine.calibration import fit_calibrated, measure_on_test
from recsys.engine.embeddings import Embeddings, embed
from recsys.engine.model import Model
from recsys.engine.plan import Plan
from recsys.engine.training import fit
from recsys.evaluation.baselines import choose_baselines
from recsys.evaluation.losses import DEEPER
from recsys.evaluation.protocol import ALL, DEEP, Evaluator
from recsys.evaluation.row_order import measure_row_order
from recsys.extras import require
from recsys.jobs.cuts import judged_cut, targets_of
from recsys.jobs.ingest import ingest
from recsys.parallel.threads import BATCH, batches, in_threads
from recsys.progress import Progress, quiet
from recsys.ragged import owners_of
from recsys.ranking.feature_context import Context
from recsys.ranking.rules import fill
from recsys.retrieval.base import Fitted, top_unblocked
from recsys.storage import atomic
from recsys.tables.split import Fold, holdout
from recsys.types import Candidates, Histories, Hits, Ranking, State, Tables

log = logging.getLogger(__name__)


ENGINE = "engine"


def evaluate(config: Config, progress: Progress = quiet, *, validation: bool = False,
             probabilities: bool = False, tables: Tables | None = None) -> dict[str, Any]:  # fmt: skip
    """Fit at the test cut and judge the engine and its baselines on what followed.

    Args:
        config: The run.
        progress: Shows progress.
        validation: Do everything one cut earlier, so that choices never see the test events.
        probabilities: Fit and measure probabilities too.
        tables: The tables, where the caller has read them.

    Returns:
        A report of plain numbers, which is also written to `evaluation.json` in `config.folder`: `metrics`,
        `differences`, `slices`, `losses`, `exposure`, `candidate_recall`, `users`, `targets`, `seconds`; with
        `probabilities` also `probability`: what `train` would have published at the test cut, and under `later` the
        same measures of what followed it. Where the order of rows decides which events are judged, `row_order`: see
        `measure_row_order`.

    Raises:
        ConfigError: a member that the config names is unknown, or refuses its settings.
        DataError: as `ingest`; the log is too short, or the rules leave no target.
    """
    require("train", "recsys evaluate")
    clock = _Clock()
    plan = Plan.of(config)
    tables = tables or ingest(config, progress)
    clock.lap("ingest")
    fold = judged_cut(plan, tables, validation)
    embeddings = embed(config.embedding, tables.catalog, config.vector_folder)
    clock.lap("embed")
    about: dict[str, Any] = {}
    if probabilities:
        model, about, _ = fit_calibrated(plan, fold.known, embeddings, fold.as_of, progress)
    else:
        model = fit(plan, fold.known, embeddings, fold.as_of, progress)
    clock.lap("fit")
    evaluator = judge(config.evaluation, config.data.clock, fold, embeddings, model, progress)
    clock.lap("judge")
    report = evaluator.report(ENGINE, seed=config.seed) | {"name": config.name, "seconds": clock.laps}
    whole = holdout(tables.interactions, plan.split).known if validation else tables.interactions
    if order := measure_row_order(
        whole, fold, plan.split, tables.clock, len(tables.catalog), plan.drop_seen, plan.seed
    ):
        report["row_order"] = order
    if about:
        report["probability"] = about | measure_on_test(plan, model, fold, embeddings, progress)
        clock.lap("probabilities")
    atomic.write(config.folder / "evaluation.json", json.dumps(report, indent=1))
    return report


def judge(settings: EvaluationConfig, clock: str, fold: Fold, embeddings: Embeddings, model: Model,
          progress: Progress = quiet) -> Evaluator:  # fmt: skip
    """Rank the whole catalogue for every user of a fold, with the engine and with each baseline.

    Args:
        settings: List lengths and baselines.
        clock: `time` or `order`, as in the config of the data.
        fold: What was known, and what followed.
        embeddings: The item vectors.
        model: The engine, fitted at the fold.
        progress: Shows progress.

    Raises:
        DataError: the rules leave no target.
    """
    retrieval = model.retrieval
    targets = targets_of(retrieval.drop_seen, clock, fold, len(embeddings.items))
    state = State(embeddings.catalog, fold.known, embeddings.items, fold.as_of)
    baselines = {name: one.fit(state) for name, one in choose_baselines(settings.baselines, clock).items()}
    categories = embeddings.catalog.top_categories
    evaluator = Evaluator(targets, settings.k, categories if len(categories.drop_nulls()) else None)

    def rank(histories: Histories) -> tuple[Candidates, list[Hits], dict[str, Ranking]]:
        context = retrieval.context(histories)
        lists = {ENGINE: model.order(context, model.score(context), evaluator.length)}
        lists |= {name: _own_order(fitted, context, model, evaluator.length) for name, fitted in baselines.items()}
        # A second search: an approximate index searches more widely for more items, and the first must be the engine's.
        return context.candidates, retrieval.hits(context.answers, context.blocked_pairs, DEEPER), lists

    queries = (embeddings.with_text_vectors(fold.histories(users)) for users in batches(targets.users))
    for number, (candidates, deep, lists) in enumerate(in_threads(rank, queries)):
        start = number * BATCH
        for column, name in enumerate(retrieval.proposers):
            found = candidates.found[:, column] >= 0
            evaluator.add_candidates(name, start, candidates.owner[found], candidates.item[found])
        evaluator.add_candidates(ALL, start, candidates.owner, candidates.item)
        for hits in deep:
            evaluator.add_candidates(DEEP, start, owners_of(hits.offsets), hits.item)
        for name, ranking in lists.items():
            evaluator.add(name, start, ranking)
        progress("evaluate", min(start + BATCH, len(targets.users)), len(targets.users))
    return evaluator


def _own_order(fitted: Fitted, context: Context, model: Model, k: int) -> Ranking:
    """Rank by one retriever's own score, filled like any list: what a baseline is."""
    n_items, blocked_pairs = context.n_items, context.blocked_pairs
    hits = top_unblocked(fitted.ask(context.histories), k, blocked_pairs, n_items)
    ranking = Ranking(hits.offsets, hits.item, hits.score, np.zeros((len(hits.item), 1), np.int32))
    return fill(ranking, model.retrieval.popular, blocked_pairs, n_items, k)


class _Clock:
    """Seconds of each stage of a run."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = round(now - self._last, 1)
        self._last = now
