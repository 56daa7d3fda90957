"""What the demo adds to the jobs: one fit at the test cut that is judged, published and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys.config import Config, check_members
from recsys.engine.calibration import fit_calibrated, measure_on_test
from recsys.engine.embeddings import Embeddings
from recsys.engine.index_quality import IndexReport
from recsys.engine.model import Model
from recsys.engine.plan import Plan
from recsys.jobs.evaluate import ENGINE, judge
from recsys.jobs.train import publish
from recsys.progress import Progress, quiet
from recsys.tables.split import Fold, holdout
from recsys.types import Id, Tables


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """An engine as of the test cut, and what its users did after it."""

    config: Config
    tables: Tables
    embeddings: Embeddings
    fold: Fold
    model: Model
    probability: dict[str, Any]
    index_costs: IndexReport

    @classmethod
    def run(cls, config: Config, tables: Tables, embeddings: Embeddings, progress: Progress = quiet) -> Rehearsal:
        """Cut off the test events and fit on what came before.

        Raises:
            ConfigError: a member that the config names is unknown, or refuses its settings.
            DataError: the log is too short.
        """
        check_members(config)
        fold = holdout(tables.interactions, config.split)
        fitted = fit_calibrated(Plan.of(config), fold.known, embeddings, fold.as_of, progress)
        return cls(config, tables, embeddings, fold, *fitted)

    def report(self, progress: Progress = quiet) -> dict[str, Any]:
        """Judge the engine and its baselines on what followed, as `jobs.evaluate` does."""
        config = self.config
        evaluator = judge(config.evaluation, config.data.clock, self.fold, self.embeddings, self.model, progress)
        later = measure_on_test(Plan.of(config), self.model, self.fold, self.embeddings, progress)
        report = evaluator.report(ENGINE, seed=config.seed)
        return report | {"name": config.name, "probability": self.probability | later}

    def publish(self, report: dict[str, Any]) -> Path:
        """Publish the engine as it was judged, without the events after the cut; return the folder of the version."""
        about = {
            "metrics": report["metrics"][ENGINE],
            "probability": report["probability"],
            "indexes": self.index_costs,
            "note": "fitted at the test cut by the demo: it knows nothing of what followed, unlike `recsys train`",
        }
        known = replace(self.tables, interactions=self.fold.known)
        return publish(self.config, known, self.embeddings, self.model, about)

    def typical_users(self, count: int = 3) -> list[Id]:
        """Return users with something before and after the cut, spread evenly from short histories to long ones."""
        known = np.diff(self.fold.known.offsets)
        users = self.fold.labelled_users[known[self.fold.labelled_users] > 0]
        by_length = users[np.argsort(known[users], kind="stable")]
        places = np.linspace(0, len(by_length) - 1, count + 2)[1:-1].astype(int)
        return [self.tables.user_ids[int(row)] for row in by_length[np.unique(places)]]

    def followed(self, user_id: Id) -> set[Id]:
        """Return the items that a user went on to after the cut."""
        row = self._row(user_id)
        return set(self.embeddings.catalog.ids.gather(np.unique(self.fold.labels.item[self.fold.labels.user == row])))

    def leads(self, user_id: Id, items: Sequence[Id]) -> dict[Id, str]:
        """For each item, the title of the user's history that most speaks for it, where a retriever knows."""
        histories = self.fold.histories(np.array([self._row(user_id)]), self.config.history)
        catalog = self.embeddings.catalog
        wanted = np.array([catalog.ids.index_of(item) for item in items], dtype=np.int32)
        leads: dict[Id, str] = {}
        for fitted in self.model.retrieval.fitted.values():
            strongest = fitted.strongest_support(histories, np.zeros(len(wanted), dtype=np.int64), wanted)
            for item, past in zip(items, strongest.tolist(), strict=True):
                if item not in leads and past >= 0:
                    leads[item] = catalog.titles[past]
        return leads

    def _row(self, user_id: Id) -> int:
        return int(self.tables.user_ids.search_sorted(user_id))
