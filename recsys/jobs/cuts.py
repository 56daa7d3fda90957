"""The cuts of a run, made before anything is encoded: a log that cannot be split fails within seconds."""

from __future__ import annotations

from recsys.engine.plan import Plan
from recsys.errors import DataError
from recsys.evaluation.protocol import Targets
from recsys.tables.split import Fold, holdout, holdouts
from recsys.types import Interactions, Tables


def judged_cut(plan: Plan, tables: Tables, validation: bool = False) -> Fold:
    """Cut a run that is judged, and check that the scorer can learn before the cut and that targets follow it.

    Args:
        plan: The split, and whether lists leave out what the user had.
        tables: The tables.
        validation: Cut once more, before the test cut.

    Raises:
        DataError: the log is too short, or the rules leave no target.
    """
    fold = holdout(tables.interactions, plan.split)
    if validation:
        fold = holdout(fold.known, plan.split, fold.as_of)
    training_cuts(plan, fold.known, fold.as_of)
    targets_of(plan.drop_seen, tables.clock, fold, len(tables.catalog))
    return fold


def targets_of(drop_seen: bool, clock: str, fold: Fold, n_items: int) -> Targets:
    """Collect what a cut is judged by.

    Args:
        drop_seen: Whether lists leave out what the user had.
        clock: `time` or `order`, as in the config of the data.
        fold: What was known, and what followed.
        n_items: Items in the catalogue.

    Raises:
        DataError: the rules leave no target.
    """
    targets = Targets.of(fold, n_items, drop_seen, clock)
    if not len(targets.users):
        raise DataError(
            f"there is nothing to judge by: each of the {len(fold.labels)} labels after the cut is an item that its "
            "user had before, and rules.seen is 'drop'; set it to 'keep', or use more data"
        )
    return targets


def training_cuts(plan: Plan, known: Interactions, as_of: int | None) -> list[Fold]:
    """Make the cuts that the scorer learns at, newest first, and check that a label of one can be recommended.

    Args:
        plan: The split, and whether lists leave out what the user had.
        known: The interactions to learn from.
        as_of: The first moment that is not known; None in a per-user split.

    Raises:
        DataError: the log is too short, or the rules leave no label.
    """
    folds = holdouts(known, plan.split, as_of, plan.split.folds)
    n_items = int(known.item.max()) + 1
    if not any(len(Targets.of(fold, n_items, plan.drop_seen).users) for fold in folds):
        raise DataError(
            f"the scorer has nothing to learn from: each of the {sum(len(fold.labels) for fold in folds)} labels after "
            f"{len(folds)} cuts is an item that its user had before, and rules.seen is 'drop'; set it to 'keep', or "
            "use more data"
        )
    return folds
