"""The conditions of a request, read once: for one user or for all users of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np
import xxhash

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.config import nearest
from recsys.engine.candidate_scores import with_items
from recsys.engine.model import Model
from recsys.errors import RequestError
from recsys.ragged import find_keys
from recsys.ranking.diversity import diversify, pin
from recsys.ranking.feature_context import Context
from recsys.ranking.rules import Cap, best, cut
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.variants import Variants
from recsys.serving import requests
from recsys.serving.filters import Filters, Where
from recsys.serving.lookup import EntityLookup
from recsys.serving.recommendations import Shortage
from recsys.serving.unknown import Unknown, UnknownItems
from recsys.types import Candidates, Id, Ranking

VariantChoice = Literal["one", "all"]


class ListConditions(TypedDict, total=False):
    """What `recommend`, `recommend_batch` and `write_candidates` take alike."""

    candidates: Iterable[Id] | None
    exclude: Iterable[Id] | None
    where: Where | None
    caps: Mapping[str, int] | None
    pinned: Iterable[Id] | None
    boosts: Mapping[Id, float] | None
    diversity: float
    variants: VariantChoice | None
    unknown: Unknown


@dataclass(frozen=True, eq=False)
class Conditions:
    """What a list may hold, and what moves its items.

    Attributes:
        matching: The items that meet `where`; None where all do.
        offered: Those of them that are among `candidates`; None where all are.
        rerank: Whether the request names candidates, all of which are ranked.
        excluded_rows: Rows of the items in `exclude`, ascending.
        pinned_rows: Rows of the pinned items, in the order of the request.
        boosted_rows: Rows of the boosted items, ascending `(b,)`.
        boosts: What is added to the score of each `(b,)`.
        caps: Most items of one kind; one item a product is one of them.
        diversity: From 0 (by score alone) to 1.
        one_variant: Whether a list holds one variant of a product.
    """

    matching: ItemFilter | None
    offered: ItemFilter | None
    rerank: bool
    excluded_rows: IntArray
    pinned_rows: LongArray
    boosted_rows: LongArray
    boosts: FloatArray
    caps: list[Cap]
    diversity: float
    one_variant: bool

    @property
    def filters(self) -> bool:
        """Whether fewer items may be shown than the catalogue holds."""
        return self.offered is not None or len(self.excluded_rows) > 0

    def fingerprint(self) -> str:
        """Return a checksum of what the conditions mean for this bundle, however they were written."""
        settings = (self.rerank, self.diversity, self.one_variant, [cap.most for cap in self.caps])
        digest = xxhash.xxh3_64(repr(settings).encode())
        rows = [self.offered.rows if self.offered is not None else np.array([-1])]
        for array in (*rows, self.pinned_rows, self.boosted_rows, self.boosts, *(cap.code for cap in self.caps)):
            digest.update(len(array).to_bytes(8))
            digest.update(np.ascontiguousarray(array).tobytes())
        return str(digest.hexdigest())

    def without_excluded(self, n_items: int, popular: IntArray) -> Conditions:
        """Return the same conditions with what is excluded left out of what is offered."""
        if not len(self.excluded_rows):
            return self
        if self.offered is None:
            mask = np.ones(n_items, dtype=bool)
        else:
            mask = np.zeros(n_items, dtype=bool)
            mask[self.offered.rows] = True
        mask[self.excluded_rows] = False
        return replace(self, offered=ItemFilter.of(mask, popular if self.offered is None else self.offered.popular))

    def order(self, model: Model, context: Context, score: FloatArray, k: int) -> tuple[Candidates, Ranking]:
        """Rank scored candidates.

        Args:
            model: The model.
            context: The candidates of the queries, made under these conditions.
            score: What to rank by `(n,)`: the model's score of each candidate, fused with that of a text.
            k: The most items of a list.

        Returns:
            The candidates and the pinned items; the lists, filled to `k`.
        """
        scored, score = with_items(model, context, score, self.pinned_rows)
        if len(self.boosted_rows):
            place = find_keys(self.boosted_rows, scored.item)
            score = score + np.where(place >= 0, self.boosts[place], np.float32(0))
        reordered = len(self.pinned_rows) or self.diversity
        ranking = best(scored, score, None if self.caps or reordered else k)
        if len(self.pinned_rows):
            ranking = pin(ranking, self.pinned_rows)
        if self.diversity:
            ranking = diversify(ranking, context.vectors, self.diversity, k, self.pinned_rows, self.caps)
        return scored, model.fill(context, cut(ranking, k, self.caps), k, self.caps)


class ConditionReader:
    """Reads conditions with the ids, columns and variants of one bundle. Safe to share between threads."""

    def __init__(self, lookup: EntityLookup, filters: Filters, variants: Variants | None, one_variant: bool) -> None:
        self._lookup, self._filters = lookup, filters
        self._variants, self._one_variant = variants, one_variant and variants is not None

    def read(self, request: Mapping[str, Any], unknown: UnknownItems) -> Conditions:
        """Read the keys of `ListConditions`.

        Raises:
            RequestError: A condition cannot be understood.
            UnknownIdError: The bundle does not hold an item, and `unknown` refuses that.
        """
        diversity = requests.check_share("diversity", request.get("diversity", 0.0))
        caps = self._filters.caps(request.get("caps"))
        one_variant = self.lists_one(request.get("variants"))
        if one_variant and self._variants is not None:
            caps.append(Cap(self._variants.product, 1))
        matching = self._filters.allowed(request.get("where"))
        offered, candidates = matching, request.get("candidates")
        if candidates is not None:
            rows = self._lookup.distinct_item_rows("candidates", candidates, unknown)
            # All of them are ranked, so there is nothing to fill a list with.
            offered = ItemFilter(rows if matching is None else rows[matching.holds(rows)], rows[:0])
        excluded_rows = self._lookup.distinct_item_rows("exclude", request.get("exclude"), unknown)
        pinned = request.get("pinned")
        pinned_rows = self._lookup.item_rows("pinned", [] if pinned is None else requests.parse_pinned(pinned), unknown)
        pinned_rows = pinned_rows[pinned_rows >= 0]
        pinned_rows = pinned_rows[np.sort(np.unique(pinned_rows, return_index=True)[1])]
        boosted_rows, boosts = self._boosts(request.get("boosts"), unknown)
        return Conditions(matching, offered, candidates is not None, excluded_rows, pinned_rows, boosted_rows, boosts,
                          caps, diversity, one_variant)  # fmt: skip

    def lists_one(self, variants: object) -> bool:
        """Whether a list holds one variant of a product; None means what the config says."""
        if variants is None:
            return self._one_variant
        if not isinstance(variants, str) or variants not in ("one", "all"):
            near = nearest(variants, ("one", "all")) if isinstance(variants, str) else ""
            raise RequestError(f"variants must be 'one' or 'all', got {requests.show_value(variants)}{near}")
        return variants == "one" and self._variants is not None

    def _boosts(self, boosts: Mapping[Id, float] | None, unknown: UnknownItems) -> tuple[LongArray, FloatArray]:
        if boosts is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        ids, boost = requests.parse_boosts(boosts)
        rows = self._lookup.item_rows("boosts", ids, unknown)
        order = np.argsort(rows, kind="stable")[(rows < 0).sum() :]
        return rows[order], boost[order]


def count_shortage(conditions: Conditions, blocked: LongArray, k: int, given: int, n_items: int) -> Shortage:
    """Count why one list is shorter than `k`.

    Args:
        conditions: What it was made under.
        blocked: The rows that it must not hold, excluded ones too, ascending.
        k: The items asked for.
        given: The items that it has.
        n_items: Items in the catalogue.
    """
    matching = n_items if conditions.matching is None else len(conditions.matching)
    offered = matching if conditions.offered is None else len(conditions.offered)
    if conditions.offered is not None:
        blocked = blocked[conditions.offered.holds(blocked)]
    excluded = int(np.isin(blocked, conditions.excluded_rows).sum())
    seen = len(blocked) - excluded
    return Shortage(k, given, n_items, matching, offered, excluded, seen, offered - excluded - seen - given,
                    conditions.one_variant)  # fmt: skip


def why_short(conditions: Conditions, n_items: int, k: int) -> str:
    """Say why lists that were made under some conditions may be shorter than `k`."""
    parts = [f"the catalogue holds {n_items} items"]
    if conditions.offered is not None:
        parts.append(f"{len(conditions.offered)} of them may be shown")
    caps = ", or have no room under the caps or beside another variant" if conditions.caps else ""
    return f"{k} were asked for; {', '.join(parts)}; the others were seen before by their user{caps}"
