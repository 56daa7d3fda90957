"""Why an item is in a list, and why not: feature contributions, the history behind them, the stage where it was lost.

Everything is about one query. An item that no retriever proposed is scored as if it alone had joined the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import IntArray, LongArray
from recsys.engine.model import Model
from recsys.ragged import find_keys, offsets_of, order_by_score
from recsys.ranking.feature_context import Context
from recsys.retrieval.candidates import remove_blocked, union
from recsys.types import Candidates, Catalog, Histories, Hits, Id, Ranking

NEWEST = 20  # history items that are left out one at a time

IN_THE_LIST = "in the list"
FILTERED, EXCLUDED, SEEN = "filtered", "excluded", "seen"
NOT_RETRIEVED = "not retrieved"
RANKED_BELOW = "ranked below k"
DISPLACED = "displaced"

KEPT_OUT = {
    FILTERED: "The filter of the request keeps it out.",
    EXCLUDED: "The request excludes it.",
    SEEN: "The user had it before, and the config says `rules: {seen: drop}`.",
}


@dataclass(frozen=True)
class Influence:
    """An item of the history, and its `effect` on another: by how much that one's log odds fall without it."""

    item_id: Id
    title: str
    effect: float


@dataclass(frozen=True)
class Explanation:
    """What put an item where it stands.

    `base` is the score that a dense scorer gives to the training mean of every feature, and trees on average to what
    they were trained on; `contributions` are what each feature adds, largest first, so that `base` and all of them sum
    to `score`, but for float32 rounding (1e-5 of their sizes together). `because` are the newest 20 items of the
    history, and the very item where the history holds it, greatest effect first: how far the item's log odds against
    the rest of its candidates fall when all events of that history item are left out, in units of the score (0.69
    halves the odds, below 0 it would stand better). `history_effect` is the same for the history as a whole; the
    effects of its items do not sum to it, since they may do the same work. `sources` tells at which place (from 1) each
    retriever proposed the item.
    """

    item_id: Id
    title: str
    score: float
    base: float
    contributions: Mapping[str, float]
    because: list[Influence]
    history_effect: float
    sources: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON wants them."""
        return asdict(self)


@dataclass(frozen=True)
class Reach:
    """How far a retriever was from proposing an item.

    It proposes `depth` items. `place` (from 1) is the item's in the retriever's own order of what may be shown, so the
    depth that is sure to reach it: after its equals, whose order may change with the depth. None where it would not
    come however deep. `score` is the retriever's own of the item, `edge` that of the last item within the depth, None
    where nothing was found.
    """

    depth: int
    place: int | None
    score: float
    edge: float | None


@dataclass(frozen=True)
class Rival:
    """The item at the last place of a list of k."""

    item_id: Id
    title: str
    score: float


@dataclass(frozen=True)
class WhyNot:
    """At which `stage` an item was lost, and what it would have taken.

    The stages, in the order of the path: `filtered`, `excluded` or `seen` (a rule keeps it out), `not retrieved` (no
    retriever proposed it), `ranked below k`, `displaced` (its score is among the best k, but the list was not cut by
    score alone), `in the list`.
    `rank` (from 1) is its place in the list; outside it, its place by score among the `candidates` (how many they are,
    with it), so the k that would have shown it. `sources` tells at which place each retriever proposed it, `retrievers`
    how far each was from that where none did. `kth` is the item that holds place k where `rank` is beyond it, and
    `gap` what each feature gives that one more than this, largest first: they sum to the difference of the scores.
    """

    item_id: Id
    title: str
    stage: str
    k: int
    rank: int
    candidates: int
    score: float
    sources: Mapping[str, int]
    retrievers: Mapping[str, Reach]
    kth: Rival | None
    gap: Mapping[str, float]

    @property
    def text(self) -> str:
        """The same in words."""
        found = ", ".join(f"{name}: {place}" for name, place in self.sources.items())
        place = f"place {self.rank} of {self.candidates} with score {self.score:.3f}"
        if self.stage == IN_THE_LIST:
            how = "no retriever proposed it; it fills the list, or the request named it"
            if found:
                how = f"proposed by {found}"
            return f"It is in the list, at place {self.rank}: {how}."
        if self.stage == RANKED_BELOW:
            how = f" (proposed by {found})" if found else ""
            return f"It is a candidate{how}, but at {place}. {self._beyond()}"
        if self.stage == DISPLACED:
            return f"It is a candidate at {place}, but the list is not by score alone, and its place went to another."
        why = KEPT_OUT.get(self.stage)
        if why is None:
            distances = "; ".join(_describe_reach(name, reach) for name, reach in self.retrievers.items())
            why = f"No retriever proposed it ({distances})."
        return f"{why} Had it been a candidate, it would stand at {place}. {self._beyond()}"

    def _beyond(self) -> str:
        if self.kth is None:
            return f"That is within {self.k}."
        ahead = [f"{name} {amount:+.3f}" for name, amount in self.gap.items() if amount > 0][:3]
        why = f"ahead most by {', '.join(ahead)}" if ahead else "with the same features"
        return f"At place {self.k} stands {self.kth.title} with score {self.kth.score:.3f}, {why}."

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as JSON wants them."""
        return asdict(self) | {"text": self.text}


def _describe_reach(name: str, reach: Reach) -> str:
    if reach.place is None:
        return f"{name}: never, at any depth"
    return (
        f"{name}: at place {reach.place} of {reach.depth} asked for, score {reach.score:.3g} against {reach.edge:.3g}"
    )


def explanations(model: Model, catalog: Catalog, histories: Histories, context: Context,
                 items: LongArray) -> list[Explanation]:  # fmt: skip
    """Explain the scores of items for one query.

    All candidates cost one batched pass of the model together, each other item a pass of its own.

    Args:
        model: The model.
        catalog: The catalogue.
        histories: The whole history of the user.
        context: The candidates made from it.
        items: Rows of the items `(m,)`.

    Returns:
        One explanation an item, in the same order.
    """
    outside = find_keys(context.item, items) < 0
    explained: dict[int, Explanation] = {}
    for some in [np.unique(items[~outside]), *np.unique(items[outside])[:, None]]:
        if len(some):
            explained |= dict(zip(some.tolist(), _explain(model, catalog, histories, context, some), strict=True))
    return [explained[int(row)] for row in items]


def _explain(model: Model, catalog: Catalog, histories: Histories, context: Context,
               items: LongArray) -> list[Explanation]:  # fmt: skip
    """Explain several candidates, or one item that may not be a candidate."""
    context = context if len(items) > 1 else with_candidate(context, int(items[0]))
    place = find_keys(context.item, items)
    x = model.featurizer.compute(context)
    score = model.scorer.score(x)
    parts = model.scorer.contributions(x[place])
    base = model.scorer.base_score
    names = model.featurizer.names(context)
    had, effects = _effects(model, histories, context, items)
    answer = []
    for row, at, part, effect in zip(items.tolist(), place, parts, effects.T, strict=True):
        strongest = [n for n in np.argsort(-effect[:-1], kind="stable") if n < NEWEST or had[n] == row]
        answer.append(
            Explanation(
                item_id=catalog.ids[row],
                title=catalog.title(row),
                score=float(score[at]),
                base=base,
                contributions=_by_size(names, part),
                because=[
                    Influence(catalog.ids[int(had[n])], catalog.title(int(had[n])), float(effect[n])) for n in strongest
                ],
                history_effect=float(effect[-1]),
                sources=_sources(model, context.candidates.found[at]),
            )
        )
    return answer


def why_not(model: Model, catalog: Catalog, context: Context, ranking: Ranking, item: int, k: int,
            kept_out: Mapping[str, LongArray]) -> WhyNot:  # fmt: skip
    """Say at which stage the list of one query lost an item.

    Args:
        model: The model.
        catalog: The catalogue.
        context: The candidates that the list was made from.
        ranking: The list.
        item: The row of the item.
        k: The length of the list.
        kept_out: By the name of the stage (a key of `KEPT_OUT`), the item rows that a rule kept out of the list.
    """
    in_list = np.flatnonzero(ranking.item == item)
    candidate = item in context.item
    rules = [stage for stage, rows in kept_out.items() if item in rows]
    proposers = [] if candidate or rules else model.retrieval.proposers
    reaches = {name: _measure_reach(model, context, name, item) for name in proposers}
    context = with_candidate(context, item)
    x = model.featurizer.compute(context)
    score = model.scorer.score(x)
    order = order_by_score(context.owner, score)
    place = int(np.searchsorted(context.item, item))
    rank = int(in_list[0] if len(in_list) else np.flatnonzero(order == place)[0]) + 1
    if len(in_list):
        stage = IN_THE_LIST
    elif candidate:
        stage = RANKED_BELOW if rank > k else DISPLACED
    else:
        stage = rules[0] if rules else NOT_RETRIEVED
    kth, gap = None, {}
    if rank > k >= 1:
        rival = int(order[k - 1])
        ahead, own = model.scorer.contributions(x[[rival, place]])
        row = int(context.item[rival])
        kth = Rival(catalog.ids[row], catalog.title(row), float(score[rival]))
        gap = _by_size(model.featurizer.names(context), ahead - own)
    return WhyNot(
        item_id=catalog.ids[item],
        title=catalog.title(item),
        stage=stage,
        k=k,
        rank=rank,
        candidates=len(order),
        score=float(score[place]),
        sources=_sources(model, context.candidates.found[place]),
        retrievers=reaches,
        kth=kth,
        gap=gap,
    )


def with_candidate(context: Context, item: int) -> Context:
    """Return one query's context with an item among its candidates; a new one counts as found by no retriever."""
    own = context.candidates
    place = int(np.searchsorted(own.item, item))
    if place < len(own.item) and own.item[place] == item:
        return context
    more = np.insert(own.item, place, item)
    found = np.insert(own.found, place, -1, axis=0)
    return replace(context, candidates=Candidates(np.array([0, len(more)]), more, found))


def _measure_reach(model: Model, context: Context, name: str, item: int) -> Reach:
    """Look an item up in a retriever's order of all items that may be shown."""
    n_items, depth = context.n_items, model.retrieval.depths[name]
    hits = remove_blocked(context.answers[name].top(n_items, context.allowed), context.blocked_pairs, n_items, n_items)
    at = np.flatnonzero(hits.item == item)
    place = int(np.searchsorted(-hits.score, -hits.score[at[0]], side="right")) if len(at) else None
    score = context.answers[name].score(np.zeros(1, dtype=np.int64), np.array([item], dtype=np.int32))
    edge = float(hits.score[:depth][-1]) if len(hits.item) else None
    return Reach(depth, place, float(score[0]), edge)


def _effects(model: Model, histories: Histories, context: Context,
             items: LongArray) -> tuple[IntArray, NDArray[np.float64]]:  # fmt: skip
    """Leave out one history item at a time `(h,)`, newest first, and measure its effects on candidates `(h + 1, m)`.

    Left out are the newest history items, and older ones that are among `items`; the last row is the effect of the
    whole history. Scores compare only within a list, so an effect is the change of the log odds of
    the candidate against all others, by the softmax that listwise scorers learn. They do not flatten as the share nears
    1, which the log of the share would.
    """
    newest = histories.newest(model.retrieval.history).item[::-1]
    distinct, first = np.unique(newest, return_index=True)
    had = distinct[np.argsort(first)]
    had = had[(np.arange(len(had)) < NEWEST) | np.isin(had, items)]
    again = _context_of(model, context, _without_each(histories, had).newest(model.retrieval.history))
    score = model.score(again).astype(np.float64).reshape(len(had) + 2, -1)
    place = find_keys(context.item, items)
    rest = [np.delete(score, at, axis=1) for at in place]
    against = [np.logaddexp.reduce(others, axis=1) if others.size else np.zeros(len(score)) for others in rest]
    odds = score[:, place] - np.stack(against, axis=1)
    return had, odds[0] - odds[1:]


def _without_each(histories: Histories, item: IntArray) -> Histories:
    """Return one history `h + 2` times: as it is, without each of the items `(h,)`, and without any event.

    A behaviour text is not encoded again, which needs the encoder: its vector stays while any event does.
    """
    events = (1, len(histories.item))
    kept = np.concatenate([np.ones(events, bool), histories.item != item[:, None], np.zeros(events, bool)])
    lengths, rows = kept.sum(axis=1), np.nonzero(kept)[1]
    queries = np.zeros(len(kept), dtype=np.int64)
    text = None if histories.text_vectors is None else histories.text_vectors[queries] * (lengths > 0)[:, None]
    return Histories(histories.user[queries], offsets_of(lengths), histories.item[rows], histories.time[rows],
                     histories.weight[rows], histories.as_of[queries], text)  # fmt: skip


def _context_of(model: Model, context: Context, histories: Histories) -> Context:
    """Return the candidates of one query as other histories would see them, with the retrievers that find them then."""
    n_lists, n_items, length = len(histories), context.n_items, len(context.item)
    answers = model.retrieval.ask(histories)
    blocked_pairs = (np.arange(n_lists)[:, None] * n_items + context.blocked_pairs).ravel()
    same = Hits(np.arange(n_lists + 1) * length, np.tile(context.item, n_lists), np.zeros(n_lists * length, np.float32))
    both = union([*model.retrieval.hits(answers, blocked_pairs, allowed=context.allowed), same], n_lists, n_items)
    own = both.found[:, -1] >= 0
    candidates = Candidates(same.offsets, both.item[own], both.found[own, :-1])
    return replace(context, histories=histories, candidates=candidates, answers=answers, blocked_pairs=blocked_pairs)


def _sources(model: Model, found: IntArray) -> dict[str, int]:
    return {name: int(at) + 1 for name, at in zip(model.retrieval.proposers, found, strict=True) if at >= 0}


def _by_size(names: list[str], amounts: NDArray[np.float64]) -> dict[str, float]:
    return {names[j]: float(amounts[j]) for j in np.argsort(-np.abs(amounts), kind="stable")}
