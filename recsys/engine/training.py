"""Fit the model at one moment: retrievers on what was known, the scorer on earlier cuts and what followed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat

import numpy as np

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.engine.embeddings import Embeddings
from recsys.engine.model import Model, Retrieval
from recsys.engine.plan import Plan, Sampling
from recsys.errors import DataError
from recsys.parallel.threads import BATCH, batches, in_threads
from recsys.progress import Progress, quiet
from recsys.ragged import find_keys, offsets_of, pair_keys
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.scorers.base import FittedScorer
from recsys.retrieval.base import Fitted, Retriever
from recsys.tables.split import Fold, hide_items, holdouts, next_moments
from recsys.types import Candidates, Histories, Interactions, State

Fitter = Callable[[Retriever, State], Fitted]
Lists = tuple[FloatArray, LongArray, FloatArray]

LAST_FIT = "fit on all that is known, to rank with"
FEW = 5  # events of an item below which it is rare
SHORTENED = (0, 1, 2, 5)  # how many newest events stand in for a whole history when a user is made to look new


def fit_anew(retriever: Retriever, state: State) -> Fitted:
    """Fit one retriever on one state."""
    return retriever.fit(state)


def fit_once(fitter: Fitter) -> Fitter:
    """Make a fitter fit retrievers that learn from the catalogue alone only once, at the first state it is given.

    Their index is the same at every moment. Only how widely it searches is measured with histories, and a run begins
    with its newest cut.
    """
    kept: dict[Retriever, Fitted] = {}

    def fit_or_take(retriever: Retriever, state: State) -> Fitted:
        if retriever.refit_per_cut:
            return fitter(retriever, state)
        if retriever not in kept:
            kept[retriever] = fitter(retriever, state)
        return kept[retriever]

    return fit_or_take


def fit_retrieval(plan: Plan, state: State, fitter: Fitter = fit_anew,
                  kept: Mapping[str, Fitted] | None = None) -> Retrieval:  # fmt: skip
    """Fit the retrievers on one state.

    Args:
        plan: The retrievers and the rules of retrieval.
        state: What was known.
        fitter: Fits one retriever.
        kept: Retrievers by name that were fitted before and stay as they are.
    """
    kept = kept or {}
    count = np.bincount(state.interactions.item, minlength=len(state.catalog))
    return Retrieval(
        fitted={n: kept[n] if n in kept else fitter(retriever, state) for n, retriever in plan.retrievers.items()},
        depths={name: retriever.depth for name, retriever in plan.retrievers.items()},
        vectors=state.vectors,
        popular=np.argsort(-count, kind="stable").astype(np.int32),
        drop_seen=plan.drop_seen,
        history=plan.history,
    )


def fit(plan: Plan, known: Interactions, embeddings: Embeddings,
        as_of: int | None = None, progress: Progress = quiet, fitter: Fitter = fit_anew) -> Model:  # fmt: skip
    """Fit a whole model, without probabilities.

    The scorer learns at earlier cuts (see `scorer_lists`); then retrievers and feature statistics are fitted again on
    all that is known.

    Args:
        plan: What to fit.
        known: The interactions to learn from.
        embeddings: The item vectors.
        as_of: The first moment that is not known; None for just after the last event, or in a per-user split.
        progress: Shows progress.
        fitter: Fits one retriever: a run of many fits may remember earlier ones.

    Raises:
        DataError: the log is too short to cut, or no label lies among the candidates.
    """
    fitter = fit_once(fitter)
    lists = scorer_lists(plan, known, embeddings, plan.scorer.negatives, as_of, progress, fitter)
    scorer = plan.scorer.fit(*lists, plan.seed, progress)
    return assemble_model(plan, known, embeddings, as_of, scorer, fitter, progress)


def assemble_model(plan: Plan, known: Interactions, embeddings: Embeddings, as_of: int | None,
                   scorer: FittedScorer, fitter: Fitter = fit_anew, progress: Progress = quiet) -> Model:  # fmt: skip
    """Join a fitted scorer with retrievers and feature statistics fitted on all that is known."""
    state = State(embeddings.catalog, known, embeddings.items, as_of)
    progress(LAST_FIT, 0, 1)
    model = Model(fit_retrieval(plan, state, fitter), Featurizer.fit(plan.features, state), scorer)
    progress(LAST_FIT, 1, 1)
    return model


def scorer_lists(plan: Plan, known: Interactions, embeddings: Embeddings, negatives: int,
                 as_of: int | None = None, progress: Progress = quiet, fitter: Fitter = fit_anew) -> Lists:  # fmt: skip
    """Build the lists that a scorer learns from.

    They come from `split.folds` earlier cuts: the candidates of retrievers fitted at each cut, labelled by what
    followed it. A share of the users, `cold_share`, is asked a second time with only their newest few events: the
    scorer must also rank for users with short histories, and lists of long histories do not teach that (the idea is
    DropoutNet's: Volkovs, Yu and Poutanen 2017). At each cut a share of the items, `new_share`, has its events hidden
    from everything that is fitted there. Otherwise the only new items that the scorer sees would be those that
    joined the catalogue after the cut, and no label names these.

    Args:
        plan: What to fit.
        known: The interactions to learn from.
        embeddings: The item vectors.
        negatives: About how many unlabelled candidates of each list to keep; 0 for all.
        as_of: The first moment that is not known.
        progress: Shows progress.
        fitter: Fits one retriever.

    Returns:
        Features `(n, f)`, list offsets `(L + 1,)` and labels `(n,)` (see `label_candidates`).

    Raises:
        DataError: no label lies among the candidates.
    """
    folds = holdouts(known, plan.split, as_of, plan.split.folds)
    return concat_lists([cut.lists for cut in fit_cuts(plan, folds, embeddings, negatives, progress, fitter)])


@dataclass(frozen=True, eq=False)
class Cut:
    """Retrievers and features fitted at one earlier moment, and the lists that a scorer learns from there."""

    fold: Fold
    retrieval: Retrieval
    featurizer: Featurizer
    lists: list[Lists]


def fit_cuts(plan: Plan, folds: list[Fold], embeddings: Embeddings, negatives: int, progress: Progress = quiet,
             fitter: Fitter = fit_anew) -> Iterator[Cut]:  # fmt: skip
    """Fit retrievers and features at one fold after the other, newest first, and label their candidates.

    What is drawn at random at a fold does not depend on the folds after it.

    Raises:
        LeakageError: The encoder was tuned on events that a fold does not know.
    """
    rng = np.random.default_rng(plan.seed)
    for number, fold in enumerate(folds):
        embeddings.check_cut(fold)
        fold_rng = np.random.default_rng([plan.seed, 4, number])
        fold = hide_items(fold, sample_items(plan.sampling.new_share, fold, len(embeddings.items), fold_rng))
        state = State(embeddings.catalog, fold.known, embeddings.items, fold.as_of)
        cut = f"cut {number + 1} of {len(folds)}"
        progress(f"fit at {cut}, where the scorer learns", 0, 1)
        retrieval, featurizer = fit_retrieval(plan, state, fitter), Featurizer.fit(plan.features, state)
        progress(f"fit at {cut}, where the scorer learns", 1, 1)
        tick = partial(progress, f"candidates at {cut}, from which the scorer learns")
        lists = label_candidates(plan.sampling, retrieval, featurizer, fold, embeddings, negatives, rng, tick,
                                 (None, *SHORTENED))  # fmt: skip
        yield Cut(fold, retrieval, featurizer, lists)


def concat_lists(of_cuts: list[list[Lists]]) -> Lists:
    """Join the lists of several cuts.

    Raises:
        DataError: there are none.
    """
    parts = [part for lists in of_cuts for part in lists]
    if not parts:
        raise DataError(
            f"the scorer has nothing to learn from: of the labels after {len(of_cuts)} cuts none lies among "
            "the candidates; add retrievers or depth, or use a longer horizon"
        )
    x = np.concatenate([part[0] for part in parts])
    offsets = offsets_of(np.concatenate([part[1] for part in parts]))
    y = np.concatenate([part[2] for part in parts])
    return x, offsets, y


def sample_items(share: float, fold: Fold, n_items: int, rng: np.random.Generator) -> BoolArray:
    """Sample a share of the items that a fold knows events of: a mask `(I,)`."""
    had = np.flatnonzero(np.bincount(fold.known.item, minlength=n_items))
    chosen = np.zeros(n_items, dtype=bool)
    chosen[rng.choice(had, round(share * len(had)), replace=False)] = True
    return chosen


def label_candidates(sampling: Sampling, retrieval: Retrieval, featurizer: Featurizer, fold: Fold,
                     embeddings: Embeddings, negatives: int, rng: np.random.Generator,
                     tick: Callable[[int, int], None],
                     newest: Sequence[int | None] = (None,)) -> list[Lists]:  # fmt: skip
    """Retrieve candidates for the users of a fold, and keep the lists that hold at least one label.

    Args:
        sampling: How many users, and what a label weighs.
        retrieval: Retrievers fitted at the fold.
        featurizer: Features fitted at the fold.
        fold: What was known, and what followed.
        embeddings: The item vectors.
        negatives: About how many unlabelled candidates of each list to keep; 0 for all.
        rng: Samples users and candidates.
        tick: Called with users done and users in all.
        newest: One pass over users for each entry: None with their whole histories, a number with only so many newest
            events. Passes with a number share `sampling.cold_share` of the users; the rest of a history still blocks
            its items.

    Returns:
        For each batch of users: features `(n, f)`, list lengths `(L,)` and labels `(n,)`. A label is 1, or
        `sampling.rare_weight` where the fold knows fewer than `FEW` events of the item.
    """
    wanted = np.unique(pair_keys(fold.labels.user, fold.labels.item, len(embeddings.items)))
    rare = np.bincount(fold.known.item, minlength=len(embeddings.items)) < FEW
    weight = np.where(rare, sampling.rare_weight, 1).astype(np.float32)

    def label(job: tuple[Retrieval, Histories, np.random.Generator]) -> Lists:
        limited, histories, batch_rng = job
        users = histories.user
        context = limited.context(histories)
        candidates = context.candidates
        y = find_keys(wanted, pair_keys(users[candidates.owner], candidates.item, len(embeddings.items))) >= 0
        hit = np.bincount(candidates.owner[y], minlength=len(users)) > 0
        kept = hit[candidates.owner]
        lengths = np.where(hit, np.diff(candidates.offsets), 0)
        useful = Candidates(offsets_of(lengths), candidates.item[kept], candidates.found[kept])
        context = replace(context, candidates=useful)
        x, y, item = featurizer.compute(context), y[kept], context.item
        if negatives:
            chosen = y | (batch_rng.random(len(y)) < negatives / lengths[context.owner])
            lengths = np.bincount(context.owner[chosen], minlength=len(users))
            x, y, item = x[chosen], y[chosen], item[chosen]
        return x, lengths[hit], y * weight[item]

    parts = []
    for limit in newest:
        users = fold.labelled_users
        limited, most = retrieval, min(len(users), sampling.train_users)
        if limit is not None:
            limited = replace(retrieval, history=limit)
            most = round(most * sampling.cold_share / len(SHORTENED))
        if not most:
            continue
        if len(users) > most:
            users = np.sort(rng.choice(users, most, replace=False))
        # One generator a batch, so that the sample does not depend on which thread is first.
        seeds = rng.spawn(len(users) // BATCH + 1)
        queries = (embeddings.with_text_vectors(fold.histories(some), limit) for some in batches(users))
        jobs = zip(repeat(limited), queries, seeds, strict=False)
        for number, part in enumerate(in_threads(label, jobs)):
            parts.append(part)
            tick(min((number + 1) * BATCH, len(users)), len(users))
    return [part for part in parts if len(part[1])]


def query_moments(known: Interactions, as_of: int | None) -> LongArray:
    """Return the moment of the next query of each user `(U,)`: `as_of`, or just after their own last event."""
    return next_moments(known) if as_of is None else np.full(known.n_users, as_of, dtype=np.int64)
