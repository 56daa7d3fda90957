"""What the demo adds to the jobs: one fit at the test cut that is judged, published and looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys.config import Config
from recsys.engine.calibration import fit_calibrated, measure_on_test
from recsys.engine.embeddings import Embeddings
from recsys.engine.index_quality import Costs
from recsys.engine.model import Model
from recsys.jobs.evaluate import ENGINE, judge
from recsys.jobs.ingest import check
from recsys.jobs.train import publish
from recsys.progress import Progress, quiet
from recsys.tables.split import Fold, holdout
from recsys.types import Id, Tables


@dataclass(frozen=True, eq=False)
class Trial:
    """An engine as of the test cut, and what its users really did after it."""

    config: Config
    tables: Tables
    embeddings: Embeddings
    fold: Fold
    model: Model
    probability: dict[str, Any]
    cost: Costs

    @classmethod
    def run(cls, config: Config, tables: Tables, embeddings: Embeddings, progress: Progress = quiet) -> Trial:
        """Cut off the test events and fit on what came before. Raises `ConfigError` as `jobs.check` does."""
        check(config)
        fold = holdout(tables.interactions, config.split)
        fitted = fit_calibrated(config, fold.known, embeddings, fold.as_of, progress)
        return cls(config, tables, embeddings, fold, *fitted)

    def report(self, progress: Progress = quiet) -> dict[str, Any]:
        """Judge engine and baselines on what followed, as `jobs.evaluate` does."""
        board = judge(self.config, self.fold, self.embeddings, self.model, progress)
        told = self.probability | measure_on_test(self.config, self.model, self.fold, self.embeddings, progress)
        return board.report(ENGINE, seed=self.config.seed) | {"name": self.config.name, "probability": told}

    def publish(self, report: dict[str, Any]) -> Path:
        """Publish the engine as it was judged, knowing nothing after the cut; return the folder of the version."""
        told = {
            "metrics": report["metrics"][ENGINE],
            "probability": report["probability"],
            "indexes": self.cost,
            "note": "fitted at the test cut by the demo: it knows nothing of what followed, unlike `recsys train`",
        }
        return publish(
            self.config, replace(self.tables, interactions=self.fold.known), self.embeddings, self.model, told
        )

    def typical_users(self, count: int = 3) -> list[Id]:
        """Return users with something before and after the cut, spread evenly from short histories to long ones."""
        known = np.diff(self.fold.known.offsets)
        users = self.fold.labelled_users[known[self.fold.labelled_users] > 0]
        by_length = users[np.argsort(known[users], kind="stable")]
        places = np.linspace(0, len(by_length) - 1, count + 2)[1:-1].astype(int)
        return [self.tables.user_ids[int(row)] for row in by_length[np.unique(places)]]

    def followed(self, user_id: Id) -> set[Id]:
        """Return the items that a user really went on to."""
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
