"""What a service holds: a bundle loaded once, read-only, asked from any thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import polars as pl

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.artifacts import bundle
from recsys.artifacts.bundle import Bundle
from recsys.artifacts.persistence import restore, restore_space
from recsys.config import Config, parse_config
from recsys.engine.candidate_scores import CandidateScorer
from recsys.errors import ArtifactError, ConfigError, DataError
from recsys.explain.explanation import EXCLUDED, FILTERED, SEEN, Explanation, WhyNot, explanations, why_not
from recsys.parallel.threads import batches, in_threads, one_thread
from recsys.ragged import find_keys, owners_of, places_of
from recsys.ranking.diversity import diversify, pin
from recsys.ranking.feature_context import Context, side_by_side
from recsys.ranking.fusion import standard_sum
from recsys.ranking.rules import Cap, best, cut
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.index import Index
from recsys.retrieval.semantic import FittedSemantic
from recsys.serving import requests
from recsys.serving.filters import Filters, Where
from recsys.serving.lookup import EntityLookup
from recsys.serving.recommendations import Recommendations, Shortage, listed, sources, strongest
from recsys.serving.requests import Events
from recsys.serving.text_query import TextHits, text_of
from recsys.types import Candidates, Catalog, Histories, Id, Ranking

if TYPE_CHECKING:
    from recsys.engine.embeddings import TextSpace

TRIED, TRIED_K = 3, 10  # users that a bundle is tried out on when it is loaded, and items for each


class Request(TypedDict, total=False):
    """What a request may tell beside who asks for how many: the arguments of `Recommender.recommend`."""

    history: Events | None
    context: Mapping[str, Any] | None
    candidates: Iterable[Id] | None
    exclude: Iterable[Id] | None
    where: Where | None
    caps: Mapping[str, int] | None
    pinned: Iterable[Id] | None
    boosts: Mapping[Id, float] | None
    diversity: float
    strict: bool


@dataclass(frozen=True, eq=False)
class _Answer:
    """A list, and all that led to it: the candidates of `about` with their features `x`.

    `free` is what the query would be offered if the request had no conditions, `every` the candidates and the pinned
    items `lead`; `matching` what `where` leaves, `offered` what `candidates` leaves of that, `blocked_pairs` the rows of
    `exclude`.
    """

    histories: Histories
    about: Context
    x: FloatArray
    free: CandidateScorer
    every: Candidates
    ranking: Ranking
    near: TextHits | None
    matching: ItemFilter | None
    offered: ItemFilter | None
    excluded_rows: IntArray
    lead: LongArray


class Recommender:
    """A loaded bundle. Immutable, so threads may share one object; nothing it does writes to the bundle."""

    def __init__(self, bundle: Bundle, space: TextSpace | None = None) -> None:
        self._bundle = bundle
        self._given_space = space
        self.config: Config = parse_config(bundle.manifest["config"], str(bundle.path))
        self.catalog = Catalog(bundle.tables["catalog"])
        self._model = restore(self.config, bundle)  # refuses parts that do not fit together
        self._known = EntityLookup(bundle, self.config)
        self.user_ids = self._known.user_ids
        self._proposers = self._model.retrieval.proposers
        self._filters = Filters(self.catalog, self._model.retrieval.popular)

    @classmethod
    def load(cls, path: str | Path) -> Recommender:
        """Load the current version of a bundle root, or one version by its folder, and try it out on a few users.

        The first request finds everything warm. Raises `ArtifactError` where a file is missing, altered or of another
        schema version, or the parts do not fit together.
        """
        loaded = bundle.load(path)
        try:
            recommender = cls(loaded)
            recommender._try_out()
        except ConfigError as error:
            raise ArtifactError(
                f"this recsys cannot read the config in bundle {loaded.path}; train again: {error}"
            ) from error
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, DataError) as error:
            raise ArtifactError(f"bundle {loaded.path} lacks a part ({error!r}); train again") from error
        return recommender

    def _try_out(self) -> None:
        """Ask for a few users, and for one of whom nothing is known: what is answered must be an answer."""
        few = np.unique(np.linspace(0, len(self.user_ids) - 1, min(TRIED, len(self.user_ids))).astype(np.int64))
        k = min(TRIED_K, len(self.catalog))
        cold = self._model.rank(self._known.histories(np.array([-1])), k)
        answers = [self.recommend(self.user_ids[int(row)], k) for row in few]
        scores = np.concatenate([cold.score, *([item.score for item in answer.items] for answer in answers)])
        if len(cold.item) != k or not np.isfinite(scores).all():
            raise ArtifactError(
                f"bundle {self._bundle.path} was tried out on {len(few) + 1} users and gave {len(cold.item)} of {k} "
                f"items to one without history, and {int((~np.isfinite(scores)).sum())} of {len(scores)} scores that "
                "are not finite; train again"
            )

    @property
    def version(self) -> str:
        """The model version, unique within the bundle root."""
        return self._bundle.version

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the bundle says of itself: data window, encoder, metrics, files."""
        return self._bundle.manifest

    def add_items(self, items: pl.DataFrame) -> Recommender:
        """Return a recommender that knows further items too; this one stays as it is (and is returned for none).

        `items` has the catalogue's columns, `item_id` at least; see `recsys.tables.catalog.further_items`. Only they
        are encoded (the encoder is loaded when first asked). Nobody had them yet, so text retrievers alone propose
        them. `version` tells how many were added. Raises `DataError` for a row that no catalogue could hold, or an id
        that is there already; `ArtifactError` as `search` does.
        """
        from recsys.artifacts.add_items import grown
        from recsys.tables.catalog import further_items

        further = further_items(items, self.catalog)
        if not further.height:
            return self
        return Recommender(grown(self._bundle, self.config, further, self._space), self._space)

    @one_thread()
    def recommend(self, user_id: Id, k: int = 10, *, history: Events | None = None,
                  context: Mapping[str, Any] | None = None,
                  candidates: Iterable[Id] | None = None, exclude: Iterable[Id] | None = None,
                  where: Where | None = None, caps: Mapping[str, int] | None = None,
                  pinned: Iterable[Id] | None = None, boosts: Mapping[Id, float] | None = None,
                  diversity: float = 0.0, explain: bool = False, strict: bool = False) -> Recommendations:  # fmt: skip
        """Return exactly `k` items for one user, best first; where that cannot be, `shortage` tells why.

        An unknown user is given what is popular, flagged `fallback` where neither history nor text tells more; with
        `strict` it is an `UnknownIdError`. Probabilities are those of `score`: no filter, boost or pin moves them.

        Args:
            user_id: The user.
            k: How many items.
            history: Events newer than the bundle, oldest first: item ids, or mappings with `item_id` and, as known,
                `event` and `time`. They count at once.
            context: A mapping with a free `text`: what lies nearest to it joins the candidates, and the order is fused
                from the model's and the text's (`ranking.fusion`). The encoder is loaded when first asked.
            candidates: Rank only these; all of them, whether a retriever would propose them or not.
            exclude: Items that the list must not hold.
            where: A condition on the columns of the catalogue: a string such as `price <= 20 and brand == "A"`, or a
                polars expression. What it leaves open (a missing value) is not shown.
            caps: For a column, how many items of one of its values the list may hold: `{"brand": 2}`.
            pinned: Items to put first, in this order, unless the other conditions keep them out.
            boosts: What to add to the score of an item that is a candidate, in units of the score.
            diversity: How much the items should be unlike each other, from 0 (by score alone) to 1.
            explain: Tell what moved each score: `Recommendation.reasons`.
            strict: Refuse an unknown user.

        Raises:
            RequestError: For what cannot be understood.
            UnknownIdError: For items, and with `strict` a user, that the bundle does not hold.
            ArtifactError: With a text, as `search` does.
        """
        query, asked, explain = requests.identity(user_id), requests.count(k), requests.flag("explain", explain)
        told = self._answer(user_id, asked, history=history, context=context, candidates=candidates, exclude=exclude,
                            where=where, caps=caps, pinned=pinned, boosts=boosts, diversity=diversity,
                            strict=strict)  # fmt: skip
        ranking, near = told.ranking, told.near
        reasons = strongest(self._model, told.about, told.x, ranking.item) if explain else [{}] * len(ranking.item)
        short = self._shortage(asked, told) if len(ranking.item) < asked else None
        cold = not len(told.histories.item)
        items = listed(self.catalog, self._proposers, ranking, reasons, told.lead, self._probability(told), near)
        return Recommendations(query, items, cold, cold and near is None, self.version, uuid.uuid4().hex, short)

    def _answer(self, user_id: Id, k: int, **request: Unpack[Request]) -> _Answer:
        """Answer a request; its arguments are those of `recommend`."""
        k = min(k, len(self.catalog))
        text = text_of(request.get("context"))
        diversity = requests.share("diversity", request.get("diversity", 0.0))
        limits = self._filters.caps(request.get("caps"))
        matching = self._filters.allowed(request.get("where"))
        candidates, pinned, boosts = request.get("candidates"), request.get("pinned"), request.get("boosts")
        offered = matching if candidates is None else self._among(candidates, matching)
        excluded_rows = self._known.item_rows("exclude", request.get("exclude"))
        lead = self._known.items([] if pinned is None else requests.pinned(pinned))
        lead = lead[np.sort(np.unique(lead, return_index=True)[1])] if len(lead) else lead
        histories = self._known.history_for_request(user_id, request.get("history"), request.get("strict", False))
        about = self._model.retrieval.context(histories, offered, excluded_rows, rerank=candidates is not None)
        near = None if text is None else self._near(about, text)
        if near is not None:
            about = near.join(about)
        unfiltered = about
        if near is None and (offered is not None or len(excluded_rows)):
            unfiltered = self._model.retrieval.context(histories, answers=about.answers)
        x = self._model.featurizer.compute(about if unfiltered is about else side_by_side([about, unfiltered]))
        scores = self._model.scorer.score(x)
        x, own = x[: len(about.item)], scores[: len(about.item)]
        free = CandidateScorer(self._model, unfiltered, scores[len(scores) - len(unfiltered.item) :])
        score = own if near is None else standard_sum(about.candidates.offsets, [own, near.score(about)])
        every, score = self._with_pinned(CandidateScorer(self._model, about, own), score, lead)
        if boosts is not None:
            score = score + self._boosts(boosts, every.item)
        ranking = pin(best(every, score, None), lead) if len(lead) else best(every, score, None)
        if diversity:
            first = int(np.isin(ranking.item, lead).sum())
            ranking = diversify(ranking, about.vectors, diversity, k, first, limits)
        ranking = self._model.fill(about, cut(ranking, k, limits), k, limits)
        return _Answer(histories, about, x, free, every, ranking, near, matching, offered, excluded_rows, lead)

    def _probability(self, told: _Answer) -> FloatArray:
        """The probability of each item of a list `(n,)`, NaN for one that only filled it.

        Under a filter, a share of the few that it leaves would tell too much: what counts is the share among all that
        the user would be offered.
        """
        items = told.ranking.item.astype(np.int64)
        probability = np.full(len(items), np.nan, dtype=np.float32)
        if told.near is not None or self._model.calibrator is None:  # words are evidence that it never saw
            return probability
        scored = find_keys(told.every.item, items) >= 0
        probability[scored] = told.free.probability(items[scored], told.free.score(items[scored]))
        return probability

    def _near(self, asked: Context, text: str) -> TextHits:
        """What lies nearest to a free text, of what may be shown."""
        return TextHits.of(self._space.encode([text]), asked, self._index)

    @cached_property
    def _index(self) -> Index:
        """The index that texts ask: that of a semantic retriever, or one of its own."""
        fitted = self._model.retrieval.fitted.values()
        own = [f.index for f in fitted if isinstance(f, FittedSemantic) and f.index is not None]
        return own[0] if own else Index.build(self._model.retrieval.vectors)

    def recommend_batch(self, users: Sequence[Id] | None = None, k: int = 10, *, exclude: Iterable[Id] | None = None,
                        where: Where | None = None, caps: Mapping[str, int] | None = None) -> pl.DataFrame:  # fmt: skip
        """Return `k` items for each user (all known users by default) as one frame.

        `exclude`, `where` and `caps` are those of `recommend`, for all users. Columns: user_id, item_id, rank (from 1),
        score and probability (float32; null under `exclude` and `where`), source (retrievers joined by `+`),
        model_version. Raises `UnknownIdError` naming a user or an item that the bundle does not hold, and
        `RequestError`.
        """
        k = requests.count(k)
        limits = self._filters.caps(caps)
        allowed = self._filters.allowed(where)
        excluded_rows = self._known.item_rows("exclude", exclude)
        if len(excluded_rows):
            mask = np.full(len(self.catalog), allowed is None)
            if allowed is not None:
                mask[allowed.rows] = True
            mask[excluded_rows] = False
            allowed = ItemFilter.of(mask, self._model.retrieval.popular)
        rows = np.arange(len(self.user_ids)) if users is None else self._known.users(requests.listed("users", users))
        frames = list(in_threads(lambda some: self.rank_rows(some, k, allowed, limits), batches(rows)))
        return pl.concat(frames) if frames else self.rank_rows(rows, k)

    def rank_rows(self, rows: LongArray, k: int, allowed: ItemFilter | None = None,
                  caps: Sequence[Cap] = ()) -> pl.DataFrame:  # fmt: skip
        """Do as `recommend_batch` does for users by their row numbers, in one batch."""
        context = self._model.retrieval.context(self._known.histories(rows), allowed)
        score = self._model.score(context)
        ranking = self._model.order(context, score, min(k, len(self.catalog)), caps)
        probability = np.full(len(ranking.item), np.nan, dtype=np.float32)
        if allowed is None:
            probability = self._model.probability_of(ranking, context, score)
        owner = rows[owners_of(ranking.offsets)]
        return pl.DataFrame(
            {
                "user_id": self.user_ids.gather(owner),
                "item_id": self.catalog.ids.gather(ranking.item),
                "rank": (places_of(ranking.offsets) + 1).astype(np.int32),
                "score": ranking.score,
                "probability": pl.Series(probability).fill_nan(None),
                "source": sources(self._proposers, ranking),
            }
        ).with_columns(model_version=pl.lit(self.version))

    @one_thread()
    def score(self, user_id: Id, item_ids: Iterable[Id], *, history: Events | None = None,
              strict: bool = False) -> pl.DataFrame:  # fmt: skip
        """Return what the model thinks of items that the caller already has, in the order given.

        Columns: item_id, score, probability. Each item is scored among the user's own candidates, so both mean the
        same as in `recommend` without `candidates`. `history` is that of `recommend`. Raises `UnknownIdError` naming
        items that the catalogue lacks, and `RequestError`.
        """
        histories = self._known.history_for_request(user_id, history, strict)
        wanted = self._known.items(requests.listed("item_ids", item_ids))
        offer = CandidateScorer.of(self._model, self._model.retrieval.context(histories))
        score = offer.score(wanted)
        probability = pl.Series(offer.probability(wanted, score)).fill_nan(None)
        return pl.DataFrame({"item_id": self.catalog.ids.gather(wanted), "score": score, "probability": probability})

    @one_thread()
    def explain(self, user_id: Id, item_ids: Iterable[Id], *, history: Events | None = None,
                strict: bool = False) -> list[Explanation]:  # fmt: skip
        """Tell what put each item where it stands for a user, in the order given: features, and the history behind.

        An item that nobody proposed is explained as if it alone had joined the candidates, as in `score`. `history` is
        that of `recommend`. Raises `UnknownIdError` naming items that the catalogue lacks, and with `strict` for an
        unknown user; `RequestError` as `recommend` does.
        """
        histories = self._known.history_for_request(user_id, history, strict)
        items = self._known.items(requests.listed("item_ids", item_ids))
        return explanations(self._model, self.catalog, histories, self._model.retrieval.context(histories), items)

    @one_thread()
    def why_not(self, user_id: Id, item_id: Id, k: int = 10, **request: Unpack[Request]) -> WhyNot:
        """Tell at which stage an item was lost on the way to a user's list of `k`, and what it would have taken.

        `request` are further arguments of `recommend`, whose errors it raises.
        """
        k = requests.count(k)
        row = self._known.items([item_id])
        told = self._answer(user_id, k, **request)
        passes = told.offered is None or told.offered.holds(row)
        kept_out = {FILTERED: row[~np.asarray(passes)], EXCLUDED: told.excluded_rows, SEEN: told.about.blocked_pairs}
        return why_not(self._model, self.catalog, told.about, told.ranking, int(row[0]), k, kept_out)

    def similar_items(self, item_id: Id, k: int = 10) -> pl.DataFrame:
        """Return the `k` items whose text vectors lie nearest: item_id, title, score (cosine).

        Raises `UnknownIdError` for an item that the catalogue lacks.
        """
        k, row = requests.count(k), int(self._known.items([item_id])[0])
        return self._nearest(np.asarray(self._model.retrieval.vectors[row]), k, without=row)

    def search(self, text: str, k: int = 10) -> pl.DataFrame:
        """Return the `k` items nearest to a free text: item_id, title, score (cosine).

        The encoder is loaded when first asked. Raises `ArtifactError` where the encoder on this machine is not the
        one that made the bundle's vectors.
        """
        return self._nearest(self._space.encode([requests.words(text)])[0], requests.count(k))

    def history(self, user_id: Id) -> pl.DataFrame:
        """Return what the bundle remembers of a user, newest first: item_id, title, time. Raises `UnknownIdError`."""
        histories = self._known.histories(np.array([self._known.user(user_id, strict=True)]))
        newest = histories.item[::-1]
        return self._items(newest).with_columns(time=pl.Series(histories.time[::-1]))

    def _items(self, rows: Any) -> pl.DataFrame:
        titles = pl.Series([self.catalog.title(int(row)) for row in rows], dtype=pl.String)
        return pl.DataFrame({"item_id": self.catalog.ids.gather(rows), "title": titles})

    def _nearest(self, query: FloatArray, k: int, without: int | None = None) -> pl.DataFrame:
        score = self._model.retrieval.vectors @ query
        if without is not None:
            score[without] = -np.inf
        k = min(k, len(score) - (without is not None))
        best = np.argpartition(-score, max(k - 1, 0))[:k]
        best = best[np.argsort(-score[best], kind="stable")]
        return self._items(best).with_columns(score=pl.Series(score[best]))

    @cached_property
    def _space(self) -> TextSpace:
        return self._given_space or restore_space(self.config, self._bundle)

    def _among(self, candidates: Iterable[Id], matching: ItemFilter | None) -> ItemFilter:
        """The request's own candidates, less those that do not match. All are ranked, so none is left to fill."""
        rows = self._known.item_rows("candidates", candidates)
        return ItemFilter(rows if matching is None else rows[matching.holds(rows)], rows[:0])

    def _with_pinned(self, offer: CandidateScorer, score: FloatArray, lead: LongArray) -> tuple[Candidates, FloatArray]:
        """The candidates and pinned items that may be shown, with the score of each."""
        context, own = offer.context, offer.context.candidates
        if not len(lead):
            return own, score
        fresh = np.setdiff1d(lead, own.item)
        fresh = fresh[find_keys(context.blocked_pairs, fresh) < 0]
        if context.allowed is not None:
            fresh = fresh[context.allowed.holds(fresh)]
        if not len(fresh):
            return own, score
        item = np.concatenate([own.item, fresh.astype(np.int32)])
        found = np.concatenate([own.found, np.full((len(fresh), own.found.shape[1]), -1, np.int32)])
        score = np.concatenate([score, offer.score(fresh)])
        order = np.argsort(item)
        return Candidates(np.array([0, len(item)]), item[order], found[order]), score[order]

    def _boosts(self, boosts: Mapping[Id, float], items: IntArray) -> FloatArray:
        """What a request adds to the score of each item `(n,)`."""
        ids, boost = requests.boosted(boosts)
        rows = self._known.items(ids)
        order = np.argsort(rows)
        place = find_keys(rows[order], items)
        return np.where(place >= 0, boost[order][place] if len(rows) else 0, 0).astype(np.float32)

    def _shortage(self, asked: int, told: _Answer) -> Shortage:
        """Count why a list is shorter than asked."""
        n_items, given, kept_out = len(self.catalog), len(told.ranking.item), told.about.blocked_pairs
        meet = n_items if told.matching is None else len(told.matching)
        hold = meet if told.offered is None else len(told.offered)
        if told.offered is not None:
            kept_out = kept_out[told.offered.holds(kept_out)]
        excluded = int(np.isin(kept_out, told.excluded_rows).sum())
        seen = len(kept_out) - excluded
        return Shortage(asked, given, n_items, meet, hold, excluded, seen, hold - excluded - seen - given)
