"""Fitting the path at one moment: retrievers on what was known, the scorer on earlier cuts with what followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from recsys.arrays import BoolArray, FloatArray, LongArray
from recsys.config import Config, construct
from recsys.engine.model import Model, Retrieval
from recsys.errors import DataError
from recsys.parallel.threads import in_threads
from recsys.progress import Progress
from recsys.ragged import find_keys, offsets_of, pair_keys
from recsys.ranking.featurizer import Featurizer
from recsys.ranking.scorers.base import FittedScorer, Scorer
from recsys.ranking.scorers.registry import SCORERS
from recsys.retrieval.base import Fitted, Retriever
from recsys.retrieval.registry import RETRIEVERS
from recsys.tables.split import Fold, hide_items, holdouts, next_moments
from recsys.types import Candidates, Histories, Interactions, State

if TYPE_CHECKING:
    from recsys.engine.embeddings import Embeddings
from recsys.parallel.threads import BATCH, batches
from recsys.progress import quiet

Fitter = Callable[[Retriever, State], Fitted]


Lists = tuple[FloatArray, LongArray, FloatArray]


FEW = 5  # events of an item below which it is rare


SHORTENED = (0, 1, 2, 5)  # newest events of those asked as if they were new


def build_retrievers(config: Config) -> dict[str, Retriever]:
    """Build the configured retrievers from their settings; what is learnt from chance has the run's seed.

    Raises `ConfigError`.
    """
    built = {}
    for name, settings in config.retrievers.items():
        rest = {key: value for key, value in settings.items() if key != "kind"}
        kind, where = settings.get("kind", name), f"retrievers.{name}"
        built[name] = construct(RETRIEVERS, kind, rest, where)
        if "seed" not in rest and any(field.name == "seed" for field in fields(built[name])):
            built[name] = construct(RETRIEVERS, kind, {**rest, "seed": config.seed}, where)
    return built


def build_scorer(config: Config) -> Scorer:
    """Build the configured scorer from its settings. Raises `ConfigError`."""
    settings = dict(config.scorer)
    return construct(SCORERS, settings.pop("kind", ""), settings, "scorer")


def fit_anew(retriever: Retriever, state: State) -> Fitted:
    """Fit one retriever on one state."""
    return retriever.fit(state)


def fit_once(fitter: Fitter) -> Fitter:
    """Let a fitter fit a retriever that is made of the catalogue alone only once, at the newest moment of a run.

    An index is the same at every moment; only how far it looks is measured with the histories of the newest.
    """
    kept: dict[Retriever, Fitted] = {}

    def fit_or_take(retriever: Retriever, state: State) -> Fitted:
        if retriever.refit_per_cut:
            return fitter(retriever, state)
        if retriever not in kept:
            kept[retriever] = fitter(retriever, state)
        return kept[retriever]

    return fit_or_take


def fit_retrieval(config: Config, state: State, fitter: Fitter = fit_anew,
                  kept: Mapping[str, Fitted] | None = None) -> Retrieval:  # fmt: skip
    """Fit every retriever on one state, but for those `kept`, which were fitted before."""
    kept = kept or {}
    retrievers = build_retrievers(config)
    count = np.bincount(state.interactions.item, minlength=len(state.catalog))
    return Retrieval(
        fitted={n: kept[n] if n in kept else fitter(retriever, state) for n, retriever in retrievers.items()},
        depths={name: retriever.depth for name, retriever in retrievers.items()},
        vectors=state.vectors,
        popular=np.argsort(-count, kind="stable").astype(np.int32),
        drop_seen=config.rules.seen == "drop",
        history=config.history,
    )


def fit(config: Config, known: Interactions, embeddings: Embeddings,
        as_of: int | None = None, progress: Progress = quiet, fitter: Fitter = fit_anew) -> Model:  # fmt: skip
    """Fit the whole path on what was known before `as_of` (None: just after the last event, or per user).

    The scorer learns at earlier cuts (see `scorer_lists`); then retrievers and statistics are fitted again on all
    that is known. `fitter` fits one retriever: a run of many fits may know some of them already.
    """
    scorer, fitter = build_scorer(config), fit_once(fitter)
    lists = scorer_lists(config, known, embeddings, scorer.negatives, as_of, progress, fitter)
    return assemble_model(config, known, embeddings, as_of, scorer.fit(*lists, config.seed, progress), fitter)


def assemble_model(config: Config, known: Interactions, embeddings: Embeddings, as_of: int | None,
              scorer: FittedScorer, fitter: Fitter = fit_anew) -> Model:  # fmt: skip
    """Join a fitted scorer with retrievers and statistics fitted on all that is known."""
    state = State(embeddings.catalog, known, embeddings.items, as_of)
    return Model(fit_retrieval(config, state, fitter), Featurizer.fit(config.features, state), scorer)


def scorer_lists(config: Config, known: Interactions, embeddings: Embeddings, negatives: int,
                 as_of: int | None = None, progress: Progress = quiet, fitter: Fitter = fit_anew) -> Lists:  # fmt: skip
    """Return what a scorer learns from: features `(n, f)`, list offsets `(L + 1,)`, labels `(n,)` (see `labelled`).

    They come from `split.folds` earlier cuts: candidates that retrievers fitted at each cut proposed, labelled by
    what followed it; of the unlabelled ones about `negatives` a list (0: all). A share of the users,
    `config.cold_share`, is asked a second time as if only their newest few events were known: what is new to the
    engine has to be ranked too, and lists of long histories alone do not say how (the idea is that of DropoutNet,
    Volkovs, Yu and Poutanen 2017). At each cut a share of the items, `config.new_share`, is as if nobody had them yet:
    their events before the cut are told to nothing that is fitted there. Else an item that came into the catalogue
    after the cut would be all that the scorer learns of new ones, and nobody chose that.

    Raises `DataError` where no label lies among the candidates.
    """
    folds = holdouts(known, config.split, as_of, config.split.folds)
    return concat_lists([cut.lists for cut in cuts(config, folds, embeddings, negatives, progress, fitter)])


@dataclass(frozen=True, eq=False)
class Cut:
    """The path up to the scorer as of one earlier moment, and the lists that it gives a scorer to learn from."""

    fold: Fold
    retrieval: Retrieval
    featurizer: Featurizer
    lists: list[Lists]


def cuts(config: Config, folds: list[Fold], embeddings: Embeddings, negatives: int, progress: Progress = quiet,
         fitter: Fitter = fit_anew) -> Iterator[Cut]:  # fmt: skip
    """Fit the path at one fold after the other, newest first, and label its lists.

    What is drawn at a fold does not hang on the folds after it.
    """
    rng = np.random.default_rng(config.seed)
    for number, fold in enumerate(folds):
        chance = np.random.default_rng([config.seed, 4, number])
        fold = hide_items(fold, sample_items(config.new_share, fold, len(embeddings.items), chance))
        state = State(embeddings.catalog, fold.known, embeddings.items, fold.as_of)
        retrieval, featurizer = fit_retrieval(config, state, fitter), Featurizer.fit(config.features, state)
        tick = partial(progress, f"candidates, cut {number + 1}")
        lists = labelled(config, retrieval, featurizer, fold, embeddings, negatives, rng, tick, (None, *SHORTENED))
        yield Cut(fold, retrieval, featurizer, lists)


def concat_lists(of_cuts: list[list[Lists]]) -> Lists:
    """Join the lists of several cuts. Raises `DataError` where there are none."""
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
    """Draw a share of the items that a fold knows events of `(I,)`."""
    had = np.flatnonzero(np.bincount(fold.known.item, minlength=n_items))
    chosen = np.zeros(n_items, dtype=bool)
    chosen[rng.choice(had, round(share * len(had)), replace=False)] = True
    return chosen


def labelled(config: Config, retrieval: Retrieval, featurizer: Featurizer, fold: Fold, embeddings: Embeddings,
             negatives: int, rng: np.random.Generator, tick: Callable[[int, int], None],
             told: Sequence[int | None] = (None,)) -> list[Lists]:  # fmt: skip
    """Return features, list lengths and labels of the fold's candidate lists that hold at least one label.

    A label is 1, or `config.rare_weight` where the fold knows fewer than `FEW` events of the item. Users are asked once
    for each entry of `told`: by all that is known of them, or with a number by only so many newest events of each
    history. These users are one part of `config.cold_share`; the rest of a history still bars what it holds.
    """
    wanted = np.unique(pair_keys(fold.labels.user, fold.labels.item, len(embeddings.items)))
    rare = np.bincount(fold.known.item, minlength=len(embeddings.items)) < FEW
    worth = np.where(rare, config.rare_weight, 1).astype(np.float32)

    def one(job: tuple[Retrieval, Histories, np.random.Generator]) -> Lists:
        asking, histories, seed = job
        some = histories.user
        context = asking.context(histories)
        candidates = context.candidates
        y = find_keys(wanted, pair_keys(some[candidates.owner], candidates.item, len(embeddings.items))) >= 0
        hit = np.bincount(candidates.owner[y], minlength=len(some)) > 0
        kept = hit[candidates.owner]
        lengths = np.where(hit, np.diff(candidates.offsets), 0)
        useful = Candidates(offsets_of(lengths), candidates.item[kept], candidates.found[kept])
        context = replace(context, candidates=useful)
        x, y, item = featurizer.compute(context), y[kept], context.item
        if negatives:
            chosen = y | (seed.random(len(y)) < negatives / lengths[context.owner])
            lengths = np.bincount(context.owner[chosen], minlength=len(some))
            x, y, item = x[chosen], y[chosen], item[chosen]
        return x, lengths[hit], y * worth[item]

    parts = []
    for newest in told:
        users = fold.labelled_users
        asking, most = retrieval, min(len(users), config.train_users)
        if newest is not None:
            asking = replace(retrieval, history=newest)
            most = round(most * config.cold_share / len(SHORTENED))
        if not most:
            continue
        if len(users) > most:
            users = np.sort(rng.choice(users, most, replace=False))
        # Drawn per batch, so that the sample does not depend on which thread is first.
        seeds = rng.spawn(len(users) // BATCH + 1)
        asked = (embeddings.with_text_vectors(fold.histories(some), newest) for some in batches(users))
        jobs = zip(repeat(asking), asked, seeds, strict=False)
        for number, part in enumerate(in_threads(one, jobs)):
            parts.append(part)
            tick(min((number + 1) * BATCH, len(users)), len(users))
    return [part for part in parts if len(part[1])]


def present(known: Interactions, as_of: int | None) -> LongArray:
    """Return the moment at which each user asks after the last known event `(U,)`."""
    return next_moments(known) if as_of is None else np.full(known.n_users, as_of, dtype=np.int64)
