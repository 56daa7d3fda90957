"""The jobs that the command line and the pipelines share: each is one call, from a config to a result on disk."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recsys import disk
from recsys.config import Config, nearest
from recsys.engine.calibrating import fit_calibrated, foretold
from recsys.engine.embeddings import Embeddings, embed
from recsys.engine.indexes import figures
from recsys.engine.model import Model
from recsys.engine.persistence import save
from recsys.engine.registry import locked
from recsys.engine.training import BATCH, batches, build_retrievers, build_scorer, fit, present, quiet
from recsys.errors import ConfigError, DataError
from recsys.evaluation.baselines import BASELINES
from recsys.evaluation.losses import DEEPER
from recsys.evaluation.protocol import ALL, DEEP, Board, Targets
from recsys.ranking.context import Context
from recsys.ranking.features import FEATURES
from recsys.ranking.rules import fill
from recsys.ranking.scorers import Progress
from recsys.retrieval.answers import top_free
from recsys.retrieval.fitted import Fitted
from recsys.tables.ingest import load_tables
from recsys.tables.split import Fold, holdout
from recsys.threads import in_threads
from recsys.types import Candidates, Histories, Hits, Ranking, State, Tables, owners_of

log = logging.getLogger(__name__)
ENGINE = "engine"


def ingest(config: Config) -> Tables:
    """Read and check both tables; what was refused lies in `quarantine/`, the counts in `ingest.json`.

    Raises `DataError` (see `recsys.tables`), and `ConfigError` as `check` does, before anything is read.
    """
    check(config)
    tables = load_tables(config.data, config.folder)
    config.folder.mkdir(parents=True, exist_ok=True)
    disk.write(config.folder / "ingest.json", json.dumps(tables.report, indent=1, default=str))
    return tables


def check(config: Config) -> None:
    """Refuse, before any work, what would fail hours into a run: `ConfigError` for a name or setting nobody knows."""
    if config.split.kind == "time" and config.data.clock == "order":
        raise ConfigError("split.kind: time needs timestamps, and data.clock is 'order': use leave_last_out")
    for name, retriever in build_retrievers(config).items():
        if getattr(retriever, "query", "pool") == "text" and not config.embedding.user_text:
            raise ConfigError(
                f"retrievers.{name}.query: 'text' needs encoded behaviour: set embedding.user_text to true"
            )
    build_scorer(config)
    if config.data.clock == "order" and "due" in config.features:
        raise ConfigError("features: 'due' counts days, and data.clock is 'order': leave it out")
    for place, names, family in (("features", config.features, FEATURES),
                                 ("evaluation.baselines", config.evaluation.baselines, BASELINES)):  # fmt: skip
        for name in names:
            if name not in family:
                raise ConfigError(f"{place}: unknown name {name!r}{nearest(name, family)}; known: {', '.join(family)}")


def end_of(tables: Tables, config: Config) -> int | None:
    """The first moment that the tables do not know; None where each user has a moment of their own."""
    return int(tables.interactions.time.max()) + 1 if config.split.kind == "time" else None


def train(config: Config, progress: Progress = quiet) -> Path:
    """Fit on everything and publish a bundle under `config.folder`; return the folder of the new version.

    Raises `ArtifactError` where another process is at it there already.
    """
    with locked(config.folder):
        tables = ingest(config)
        embeddings = embed(config, tables.catalog)
        as_of = end_of(tables, config)
        started = time.monotonic()
        model, probability, cost = fit_calibrated(config, tables.interactions, embeddings, as_of, progress)
        about = {"seconds": {"fit": round(time.monotonic() - started, 1)}, "probability": probability}
        about |= {"indexes": cost}
        return publish(config, tables, embeddings, model, about)


def publish(config: Config, tables: Tables, embeddings: Embeddings, model: Model, about: Mapping[str, Any]) -> Path:
    """Publish a model fitted on all of the tables; `about` may hold what its `indexes` cost."""
    known = tables.interactions
    users = np.arange(known.n_users)
    moments = present(known, end_of(tables, config))
    histories = embeddings.told(known.histories(users, moments))
    window = {"first": int(known.time.min()), "last": int(known.time.max()), "clock": tables.clock}
    counts = {"users": known.n_users, "items": len(tables.catalog), "events": len(known)}
    cost = about.get("indexes", {})
    indexes = {name: told | cost.get(name, {}) for name, told in figures(model.retrieval).items()}
    return save(config.folder, config, model, embeddings, tables.user_ids, histories,
                {"data_window": window, "counts": counts, **about, "indexes": indexes})  # fmt: skip


def evaluate(config: Config, progress: Progress = quiet, *, validation: bool = False,
             probabilities: bool = False) -> dict[str, Any]:  # fmt: skip
    """Fit at the test cut and judge engine and baselines on what followed.

    With `validation` everything happens one cut earlier, so that choices never see the test events. Returns a
    report of plain numbers: `metrics`, `differences`, `slices`, `losses`, `candidate_recall`, `users`, `targets`,
    `seconds`; with `probabilities` also `probability`: what `train` would have published at the test cut, and under
    `later` the same measures of what followed it.
    """
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
        report["probability"] = told | foretold(config, model, fold, embeddings, progress)
        clock.lap("probabilities")
    disk.write(config.folder / "evaluation.json", json.dumps(report, indent=1))
    return report


def judge(config: Config, fold: Fold, embeddings: Embeddings, model: Model, progress: Progress = quiet) -> Board:
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
    board = Board(targets, config.evaluation.k)

    def one(histories: Histories) -> tuple[Candidates, list[Hits], dict[str, Ranking]]:
        context = retrieval.context(histories)
        lists = {ENGINE: model.order(context, model.score(context), board.length)}
        lists |= {name: _own_order(fitted, context, model, board.length) for name, fitted in baselines.items()}
        # A second search, since an approximate index asked for more also looks further: the first must be the engine's.
        return context.candidates, retrieval.hits(context.answers, context.barred, DEEPER), lists

    asked = (embeddings.told(fold.histories(users)) for users in batches(targets.users))
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
    n_items, barred = context.n_items, context.barred
    hits = top_free(fitted.ask(context.histories), k, barred, n_items)
    ranking = Ranking(hits.offsets, hits.item, hits.score, np.zeros((len(hits.item), 1), np.int32))
    return fill(ranking, model.retrieval.popular, barred, n_items, k)


class _Clock:
    """Seconds of each stage of a run."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = round(now - self._last, 1)
        self._last = now
