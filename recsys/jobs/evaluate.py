"""The jobs that the command line and the pipelines share: each is one call, from a config to a result on disk."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import numpy as np

from recsys.config import Config
from recsys.engine.calibration import fit_calibrated, measure_on_test
from recsys.engine.embeddings import Embeddings, embed
from recsys.engine.model import Model
from recsys.engine.training import fit
from recsys.errors import DataError
from recsys.evaluation.baselines import BASELINES
from recsys.evaluation.losses import DEEPER
from recsys.evaluation.protocol import ALL, DEEP, Evaluator, Targets
from recsys.extras import require
from recsys.jobs.ingest import ingest
from recsys.parallel.threads import BATCH, batches, in_threads
from recsys.progress import Progress, quiet
from recsys.ragged import owners_of
from recsys.ranking.feature_context import Context
from recsys.ranking.rules import fill
from recsys.retrieval.base import Fitted, top_unblocked
from recsys.storage import atomic
from recsys.tables.split import Fold, holdout
from recsys.types import Candidates, Histories, Hits, Ranking, State

log = logging.getLogger(__name__)


ENGINE = "engine"


def evaluate(config: Config, progress: Progress = quiet, *, validation: bool = False,
             probabilities: bool = False) -> dict[str, Any]:  # fmt: skip
    """Fit at the test cut and judge engine and baselines on what followed.

    With `validation` everything happens one cut earlier, so that choices never see the test events. Returns a
    report of plain numbers: `metrics`, `differences`, `slices`, `losses`, `candidate_recall`, `users`, `targets`,
    `seconds`; with `probabilities` also `probability`: what `train` would have published at the test cut, and under
    `later` the same measures of what followed it.
    """
    require("train", "recsys evaluate")
    clock = _Clock()
    tables = ingest(config)
    clock.lap("ingest")
    embeddings = embed(config, tables.catalog)
    clock.lap("embed")
    fold = holdout(tables.interactions, config.split)
    if validation:
        fold = holdout(fold.known, config.split, fold.as_of)
    told: dict[str, Any] = {}
    if probabilities:
        model, told, _ = fit_calibrated(config, fold.known, embeddings, fold.as_of, progress)
    else:
        model = fit(config, fold.known, embeddings, fold.as_of, progress)
    clock.lap("fit")
    board = judge(config, fold, embeddings, model, progress)
    clock.lap("judge")
    report = board.report(ENGINE, seed=config.seed) | {"name": config.name, "seconds": clock.laps}
    if told:
        report["probability"] = told | measure_on_test(config, model, fold, embeddings, progress)
        clock.lap("probabilities")
    atomic.write(config.folder / "evaluation.json", json.dumps(report, indent=1))
    return report


def judge(config: Config, fold: Fold, embeddings: Embeddings, model: Model, progress: Progress = quiet) -> Evaluator:
    """Rank the whole catalogue for every user of the fold with the engine and each baseline.

    Raises `DataError` where the rules leave no target.
    """
    retrieval = model.retrieval
    targets = Targets.of(fold, len(embeddings.items), retrieval.drop_seen, config.data.clock)
    if not len(targets.users):
        raise DataError(
            f"there is nothing to judge by: each of the {len(fold.labels)} labels after the cut is an item that its "
            "user had before, and rules.seen is 'drop'; set it to 'keep', or use more data"
        )
    state = State(embeddings.catalog, fold.known, embeddings.items, fold.as_of)
    baselines = {name: BASELINES[name].fit(state) for name in config.evaluation.baselines}
    board = Evaluator(targets, config.evaluation.k)

    def one(histories: Histories) -> tuple[Candidates, list[Hits], dict[str, Ranking]]:
        context = retrieval.context(histories)
        lists = {ENGINE: model.order(context, model.score(context), board.length)}
        lists |= {name: _own_order(fitted, context, model, board.length) for name, fitted in baselines.items()}
        # A second search, since an approximate index asked for more also looks further: the first must be the engine's.
        return context.candidates, retrieval.hits(context.answers, context.blocked_pairs, DEEPER), lists

    asked = (embeddings.with_text_vectors(fold.histories(users)) for users in batches(targets.users))
    for number, (candidates, deep, lists) in enumerate(in_threads(one, asked)):
        start = number * BATCH
        for column, name in enumerate(retrieval.proposers):
            found = candidates.found[:, column] >= 0
            board.add_candidates(name, start, candidates.owner[found], candidates.item[found])
        board.add_candidates(ALL, start, candidates.owner, candidates.item)
        for hits in deep:
            board.add_candidates(DEEP, start, owners_of(hits.offsets), hits.item)
        for name, ranking in lists.items():
            board.add(name, start, ranking)
        progress("evaluate", min(start + BATCH, len(targets.users)), len(targets.users))
    return board


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
