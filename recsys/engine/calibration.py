"""Learn probabilities: try a scorer that has not seen the newest cut on all candidates of any users at that cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.engine.embeddings import Embeddings
from recsys.engine.index_quality import IndexReport, measure_index_costs
from recsys.engine.model import Model
from recsys.engine.plan import Plan
from recsys.engine.training import (
    Cut,
    Lists,
    assemble_model,
    concat_lists,
    fit_anew,
    fit_cuts,
    fit_once,
    label_candidates,
)
from recsys.evaluation.protocol import HISTORY_SLICES, ITEM_SLICES, between
from recsys.evaluation.reliability import reliability
from recsys.parallel.threads import BATCH, batches, in_threads
from recsys.progress import Progress, named, quiet
from recsys.ragged import find_keys, order_by_score, pair_keys, places_of
from recsys.ranking.calibration import Calibrator, Doubles, activity, log_totals
from recsys.tables.split import Fold, Split, holdouts
from recsys.types import Histories, Interactions

USERS = 2_000
LEAST_LABELS = 25
TOP = 10


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Every candidate `(n,)` of a sample of users at a fold, and what became of it. Lists without a label stay.

    Attributes:
        owner: The place of its user in the sample.
        log_share: The log of its share of its list (see `recsys.ranking.calibration`).
        probability: What the model predicts; NaN where it has no calibrator.
        label: Whether the user went on to it.
        activity: How active each user of the sample is `(U, t)`.
        segments: Masks `(n,)` by name.
    """

    owner: LongArray
    log_share: Doubles
    probability: FloatArray
    label: BoolArray
    activity: Doubles
    segments: dict[str, BoolArray]


def observable_users(split: Split, fold: Fold, known: Interactions) -> LongArray:
    """Return the rows of users whose outcome at a fold can be observed.

    With a time split these are all users with known events, labelled or not. In `leave_last_out` a user without a
    label has no next item to look at.
    """
    if split.kind == "time":
        return np.flatnonzero(np.diff(known.offsets) > 0)
    return fold.labelled_users


def observe_outcomes(plan: Plan, model: Model, fold: Fold, users: LongArray, embeddings: Embeddings,
                     tick: Callable[[int, int], None]) -> Outcomes:  # fmt: skip
    """Score all candidates of at most `USERS` of these users at a fold, and look up what followed."""
    if len(users) > USERS:
        users = np.sort(np.random.default_rng([plan.seed, 1]).choice(users, USERS, replace=False))
    n_items, span = len(embeddings.items), plan.horizon
    wanted = np.unique(pair_keys(fold.labels.user, fold.labels.item, n_items))

    def score(histories: Histories) -> tuple[Any, ...]:
        context = model.retrieval.context(histories)
        candidates, score = context.candidates, model.score(context)
        label = find_keys(wanted, pair_keys(histories.user[context.owner], context.item, n_items)) >= 0
        place = np.empty(len(score), dtype=np.int64)
        place[order_by_score(context.owner, score)] = places_of(candidates.offsets)
        log_share = score - log_totals(candidates, score)[context.owner]
        probability = model.probability(context, score)
        return (np.diff(candidates.offsets), context.item, log_share, probability, label, place,
                activity(context.histories, span))  # fmt: skip

    parts = []
    queries = (embeddings.with_text_vectors(fold.histories(some)) for some in batches(users))
    for number, part in enumerate(in_threads(score, queries)):
        parts.append(part)
        tick(min((number + 1) * BATCH, len(users)), len(users))
    lengths, item, log_share, probability, label, place, active = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    owner = np.repeat(np.arange(len(users)), lengths)
    events = np.diff(fold.known.offsets)[users][owner]
    buyers = np.bincount(fold.known.item, minlength=n_items)[item]
    segments = {f"users: {name}": between(events, *limits) for name, limits in HISTORY_SLICES.items()}
    segments |= {f"items: {name}": between(buyers, *limits) for name, limits in ITEM_SLICES.items()}
    segments |= {f"rank: 1-{TOP}": place < TOP, "rank: deeper": place >= TOP}
    return Outcomes(owner, log_share, probability, label, active, segments)


def predicted_event(split: Split, kinds: Sequence[str]) -> dict[str, Any]:
    """Say what a probability is the probability of, in words and in plain data for the manifest."""
    did = f"a target event ({', '.join(kinds)})" if kinds else "an event"
    if split.kind == "time":
        days: float | None = split.horizon_days
        text = f"the user has {did} on the item within {days:g} days of the end of the data"
    else:
        days, text = None, f"the user's next {did.partition(' ')[2]} is on the item"
    return {"statement": text, "events": list(kinds), "horizon_days": days}


def fit_calibrated(plan: Plan, known: Interactions, embeddings: Embeddings, as_of: int | None = None,
                   progress: Progress = quiet) -> tuple[Model, dict[str, Any], IndexReport]:  # fmt: skip
    """Fit a whole model with probabilities.

    The published scorer learns at the newest `split.folds` cuts. A second one learns without the newest of them, at the
    cuts before it, and is tried there: it meets users and labels as the published one will meet the future. Where the
    log is too short for an earlier cut, it learns at the newest from half of the users and is tried on the others.

    Args:
        plan: What to fit.
        known: The interactions to learn from.
        embeddings: The item vectors.
        as_of: The first moment that is not known; None for just after the last event, or in a per-user split.
        progress: Shows progress.

    Returns:
        The model; what the manifest says of its probabilities, or why there are none; what approximate indexes cost.

    Raises:
        DataError: as `training.fit`.
    """
    about, fitter = predicted_event(plan.split, plan.target_kinds), fit_once(fit_anew)
    scorer, n_folds = plan.scorer, plan.split.folds
    folds = holdouts(known, plan.split, as_of, n_folds + int(plan.calibrate))
    newest: Cut | None = None
    lists: list[list[Lists]] = []
    for cut in fit_cuts(plan, folds, embeddings, scorer.negatives, progress, fitter):
        newest = newest or cut
        lists.append(cut.lists)
    assert newest is not None
    fitted = scorer.fit(*concat_lists(lists[:n_folds]), plan.seed, progress)
    model = assemble_model(plan, known, embeddings, as_of, fitted, fitter, progress)
    costs = measure_index_costs(Model(newest.retrieval, newest.featurizer, model.scorer), newest.fold, embeddings)
    if not plan.calibrate:
        return model, about | {"none": "the config says probabilities: false"}, costs
    earlier, users, held_out = lists[1:], observable_users(plan.split, newest.fold, known), "time"
    if not any(earlier):
        earlier, users = _split_users(plan, newest, users, embeddings)
        held_out = "users"
    if not any(earlier) or not len(users):
        return model, about | {"none": f"the log is too short: of its {len(folds)} cuts only the newest has labels "
                                       "among the candidates, and they are too few to split"}, costs  # fmt: skip
    second = scorer.fit(*concat_lists(earlier), plan.seed, named(progress, "for the probabilities"))
    blind = Model(newest.retrieval, newest.featurizer, second)
    outcomes = observe_outcomes(plan, blind, newest.fold, users, embeddings, partial(progress, "probabilities"))
    half = np.random.default_rng([plan.seed, 2]).permutation(len(outcomes.activity)) % 2 == 0
    learning = half[outcomes.owner]
    labels = [int(outcomes.label[mask].sum()) for mask in (learning, ~learning)]
    if min(labels) < LEAST_LABELS:
        return model, about | {"none": f"of the candidates of {len(half)} users at the newest cut {sum(labels)} are "
                                       f"labels, {min(labels)} in the smaller half of the users: probabilities need "
                                       f"{LEAST_LABELS} in each"}, costs  # fmt: skip
    if not all((mask & ~outcomes.label).any() for mask in (learning, ~learning)):
        return model, about | {"none": f"{sum(labels)} of {len(outcomes.label)} candidates are labels, in one half of "
                                       "the users all of them: there is no rate to learn"}, costs  # fmt: skip

    def calibrator(mask: BoolArray) -> Calibrator:
        return Calibrator.fit(outcomes.log_share[mask], outcomes.owner[mask], outcomes.activity, outcomes.label[mask],
                              plan.horizon)  # fmt: skip

    rest = ~learning
    tried = calibrator(learning).predict_from_activity(
        outcomes.log_share[rest], outcomes.activity[outcomes.owner[rest]]
    )
    segments = {name: mask[rest] for name, mask in outcomes.segments.items()}
    quality = reliability(tried, outcomes.label[rest], segments)
    about |= {"held_out": held_out, "users": len(half), "quality": quality}
    return replace(model, calibrator=calibrator(np.ones(len(learning), dtype=bool))), about, costs


def measure_on_test(plan: Plan, model: Model, fold: Fold, embeddings: Embeddings,
                    progress: Progress = quiet) -> dict[str, Any]:  # fmt: skip
    """Measure the probabilities of a model fitted at a fold by what followed: `later`; empty without a calibrator."""
    if model.calibrator is None:
        return {}
    users = observable_users(plan.split, fold, fold.known)
    outcomes = observe_outcomes(plan, model, fold, users, embeddings, partial(progress, "probabilities"))
    return {"later": reliability(outcomes.probability, outcomes.label, outcomes.segments)}


def _split_users(plan: Plan, cut: Cut, users: LongArray,
                 embeddings: Embeddings) -> tuple[list[list[Lists]], LongArray]:  # fmt: skip
    """Lists of one half of a cut's users to learn from, and the other half to try the scorer on."""
    rng = np.random.default_rng([plan.seed, 3])
    learns = rng.random(cut.fold.known.n_users) < 0.5
    half = replace(cut.fold, labels=cut.fold.labels.take(learns[cut.fold.labels.user]))
    lists = label_candidates(plan.sampling, cut.retrieval, cut.featurizer, half, embeddings, plan.scorer.negatives,
                             rng, lambda *_: None)  # fmt: skip
    return [lists], users[~learns[users]]
