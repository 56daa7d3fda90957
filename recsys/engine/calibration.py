"""Learning probabilities: a scorer that does not know the newest cut is tried on it, on all candidates of any users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.config import Config, TimeSplit
from recsys.engine.embeddings import Embeddings
from recsys.engine.index_quality import Costs, costs
from recsys.engine.model import Model
from recsys.engine.training import (
    Cut,
    Lists,
    assemble_model,
    build_scorer,
    concat_lists,
    cuts,
    fit_anew,
    fit_once,
    labelled,
)
from recsys.evaluation.protocol import HISTORY_SLICES, ITEM_SLICES, between
from recsys.evaluation.reliability import reliability
from recsys.parallel.threads import BATCH, batches, in_threads
from recsys.progress import Progress, quiet
from recsys.ragged import find_keys, order_by_score, pair_keys, places_of
from recsys.ranking.calibration import Calibrator, Doubles, activity, log_totals
from recsys.tables.split import Fold, holdouts
from recsys.types import DAY, Histories, Interactions

USERS = 2_000
LEAST_LABELS = 25
TOP = 10


@dataclass(frozen=True, eq=False)
class Observed:
    """What became of every candidate `(n,)` of a sample of users who ask at a fold, all-zero lists among them.

    `owner` counts from 0 in the sample; `activity` is `(U, t)`. `probability` is NaN where the model tells none.
    """

    owner: LongArray
    log_share: Doubles
    probability: FloatArray
    label: BoolArray
    activity: Doubles
    segments: dict[str, BoolArray]


def queries(config: Config, fold: Fold, known: Interactions) -> LongArray:
    """Rows of the users whom a fold of `known` can ask: with a time split all that `known` knows, labelled or not.

    In `leave_last_out` a user without a label has no next item that could be looked at.
    """
    if config.split.kind == "time":
        return np.flatnonzero(np.diff(known.offsets) > 0)
    return fold.labelled_users


def observe(config: Config, model: Model, fold: Fold, users: LongArray, embeddings: Embeddings,
            tick: Callable[[int, int], None]) -> Observed:  # fmt: skip
    """Score all candidates of at most `USERS` of these users at a fold, and look at what followed it."""
    if len(users) > USERS:
        users = np.sort(np.random.default_rng([config.seed, 1]).choice(users, USERS, replace=False))
    n_items, span = len(embeddings.items), horizon(config)
    wanted = np.unique(pair_keys(fold.labels.user, fold.labels.item, n_items))

    def one(histories: Histories) -> tuple[Any, ...]:
        context = model.retrieval.context(histories)
        candidates, score = context.candidates, model.score(context)
        label = find_keys(wanted, pair_keys(histories.user[context.owner], context.item, n_items)) >= 0
        place = np.empty(len(score), dtype=np.int64)
        place[order_by_score(context.owner, score)] = places_of(candidates.offsets)
        log_share = score - log_totals(candidates, score)[context.owner]
        told = model.probability(context, score)
        return (np.diff(candidates.offsets), context.item, log_share, told, label, place,
                activity(context.histories, span))  # fmt: skip

    parts = []
    for number, part in enumerate(
        in_threads(one, (embeddings.with_text_vectors(fold.histories(some)) for some in batches(users)))
    ):
        parts.append(part)
        tick(min((number + 1) * BATCH, len(users)), len(users))
    lengths, item, log_share, told, label, place, active = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    owner = np.repeat(np.arange(len(users)), lengths)
    events = np.diff(fold.known.offsets)[users][owner]
    buyers = np.bincount(fold.known.item, minlength=n_items)[item]
    segments = {f"users: {name}": between(events, *limits) for name, limits in HISTORY_SLICES.items()}
    segments |= {f"items: {name}": between(buyers, *limits) for name, limits in ITEM_SLICES.items()}
    segments |= {f"rank: 1-{TOP}": place < TOP, "rank: deeper": place >= TOP}
    return Observed(owner, log_share, told, label, active, segments)


def horizon(config: Config) -> int:
    """Microseconds within which the event is stated; 0 where it is the user's next, whenever that is."""
    return round(config.split.horizon_days * DAY) if isinstance(config.split, TimeSplit) else 0


def statement(config: Config) -> dict[str, Any]:
    """What a probability is the probability of."""
    kinds = config.data.interactions.targets or list(config.data.interactions.events)
    did = f"a target event ({', '.join(kinds)})" if kinds else "an event"
    if isinstance(config.split, TimeSplit):
        days = config.split.horizon_days
        text = f"the user has {did} on the item within {days:g} days of the end of the data"
    else:
        days, text = None, f"the user's next {did.partition(' ')[2]} is on the item"
    return {"statement": text, "events": kinds, "horizon_days": days}


def fit_calibrated(config: Config, known: Interactions, embeddings: Embeddings, as_of: int | None = None,
                   progress: Progress = quiet) -> tuple[Model, dict[str, Any], Costs]:  # fmt: skip
    """Fit as `training.fit` does, with probabilities; tell of them, or why there are none, and what indexes cost.

    The published scorer learns at the newest `split.folds` cuts. A second one learns without the newest of them, at the
    cuts before it, and is tried there: it meets users and labels as the published one will meet what is to come. Where
    the log is too short for an earlier cut, it learns at the newest from half of the users and is tried on the others.
    """
    about, fitter = statement(config), fit_once(fit_anew)
    scorer = build_scorer(config)
    folds = holdouts(known, config.split, as_of, config.split.folds + int(config.probabilities))
    newest: Cut | None = None
    lists: list[list[Lists]] = []
    for cut in cuts(config, folds, embeddings, scorer.negatives, progress, fitter):
        newest = newest or cut
        lists.append(cut.lists)
    assert newest is not None
    fitted = scorer.fit(*concat_lists(lists[: config.split.folds]), config.seed, progress)
    model = assemble_model(config, known, embeddings, as_of, fitted, fitter)
    cost = costs(Model(newest.retrieval, newest.featurizer, model.scorer), newest.fold, embeddings)
    if not config.probabilities:
        return model, about | {"none": "the config says probabilities: false"}, cost
    earlier, users, held_out = lists[1:], queries(config, newest.fold, known), "time"
    if not any(earlier):
        earlier, users = _by_users(config, newest, users, embeddings, scorer.negatives)
        held_out = "users"
    if not any(earlier) or not len(users):
        return model, about | {"none": f"the log is too short: of its {len(folds)} cuts only the newest has labels "
                                       "among the candidates, and they are too few to split"}, cost  # fmt: skip
    apart = Model(newest.retrieval, newest.featurizer, scorer.fit(*concat_lists(earlier), config.seed, progress))
    seen = observe(config, apart, newest.fold, users, embeddings, partial(progress, "probabilities"))
    half = np.random.default_rng([config.seed, 2]).permutation(len(seen.activity)) % 2 == 0
    to_learn = half[seen.owner]
    labels = [int(seen.label[mask].sum()) for mask in (to_learn, ~to_learn)]
    if min(labels) < LEAST_LABELS:
        return model, about | {"none": f"of the candidates of {len(half)} users at the newest cut {sum(labels)} are "
                                       f"labels, {min(labels)} in the smaller half of the users: probabilities need "
                                       f"{LEAST_LABELS} in each"}, cost  # fmt: skip

    def calibrator(mask: BoolArray) -> Calibrator:
        return Calibrator.fit(seen.log_share[mask], seen.owner[mask], seen.activity, seen.label[mask], horizon(config))

    tried = calibrator(to_learn).predict_from_activity(seen.log_share[~to_learn], seen.activity[seen.owner[~to_learn]])
    quality = reliability(tried, seen.label[~to_learn], {n: m[~to_learn] for n, m in seen.segments.items()})
    about |= {"held_out": held_out, "users": len(half), "quality": quality}
    return replace(model, calibrator=calibrator(np.ones(len(to_learn), dtype=bool))), about, cost


def measure_on_test(config: Config, model: Model, fold: Fold, embeddings: Embeddings,
             progress: Progress = quiet) -> dict[str, Any]:  # fmt: skip
    """Measure the probabilities of a model fitted at a fold by what followed it: `later`; empty where it tells none."""
    if model.calibrator is None:
        return {}
    users = queries(config, fold, fold.known)
    seen = observe(config, model, fold, users, embeddings, partial(progress, "probabilities"))
    return {"later": reliability(seen.probability, seen.label, seen.segments)}


def _by_users(config: Config, cut: Cut, users: LongArray, embeddings: Embeddings,
              negatives: int) -> tuple[list[list[Lists]], LongArray]:  # fmt: skip
    """Lists of one half of a cut's users to learn from, and the other half to be tried on."""
    rng = np.random.default_rng([config.seed, 3])
    learns = rng.random(cut.fold.known.n_users) < 0.5
    half = replace(cut.fold, labels=cut.fold.labels.take(learns[cut.fold.labels.user]))
    lists = labelled(config, cut.retrieval, cut.featurizer, half, embeddings, negatives, rng, lambda *_: None)
    return [lists], users[~learns[users]]
