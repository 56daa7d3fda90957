"""Requests: whatever a service asks for, the answer is what a brute-force oracle gives, and holds exactly k."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_bundles import ids_of, random_bundle
from worlds import lists_of, random_vectors

from recsys import Recommender
from recsys.ragged import offsets_of
from recsys.ranking import rules
from recsys.ranking.feature_context import Context
from recsys.retrieval import filtered_search as planner
from recsys.retrieval.filtered_search import ItemFilter
from recsys.retrieval.index import Index
from recsys.retrieval.popularity import PopularityAnswer
from recsys.retrieval.vector_search import VectorAnswer
from recsys.serving.expressions import evaluate
from recsys.serving.recommendations import PINNED, Recommendations
from recsys.types import Candidates

# The oracle


@dataclass
class Right:
    """The right answer, and how near the nearest two things stood that decided it: nearer than rounding is a tie."""

    items: list[int]
    scores: list[float]
    margin: float


class Oracle:
    """What an answer must be, by plain loops over the whole catalogue. Only features and scorer are the model's own."""

    def __init__(self, recommender: Recommender) -> None:
        self.model = recommender._model
        self.frame = recommender.catalog.frame
        self.n = len(recommender.catalog)
        self.vectors = np.array(self.model.retrieval.vectors)
        self.popular = self.model.retrieval.popular.tolist()
        self.column = {name: self.frame[name].to_list() for name in ("brand", "category", "stock")}
        self.known: dict[object, dict[str, np.ndarray]] = {}

    def proposed(self, histories, key, ok):
        """What each proposing retriever finds among the items of a mask, and the margin at which it did."""
        answers = self.model.retrieval.ask(histories)
        if key not in self.known:
            owner, item = np.zeros(self.n, np.int64), np.arange(self.n, dtype=np.int32)
            self.known[key] = {name: answer.score(owner, item) for name, answer in answers.items()}
        lists, margin = [], np.inf
        for name, depth in self.model.retrieval.depths.items():
            score, rows = self.known[key][name], np.flatnonzero(ok)
            if not isinstance(answers[name], VectorAnswer):
                rows = rows[score[rows] > 0]
            elif not np.abs(answers[name].queries).sum():
                rows = rows[:0]
            order = rows[np.argsort(-score[rows], kind="stable")]
            if isinstance(answers[name], VectorAnswer):
                margin = min(margin, *(-np.diff(score[order[: depth + 1]])), np.inf)
            lists.append(order[:depth].tolist())
        return answers, lists, margin

    def scores(self, histories, answers, lists, members):
        found = np.array([[one.index(i) if i in one else -1 for one in lists] for i in members], np.int32)
        candidates = Candidates(np.array([0, len(members)]), np.array(members, np.int32),
                                found.reshape(len(members), len(lists)))  # fmt: skip
        context = Context(histories, candidates, answers, self.vectors)
        return dict(zip(members, self.model.score(context).tolist(), strict=True)) if members else {}

    def answer(self, histories, k, allowed, barred, rerank=False, caps=None, pinned=(), boosts=None, diversity=0.0,
               key=None):  # fmt: skip
        ok = allowed.copy()
        ok[list(barred)] = False
        newest = histories.newest(self.model.retrieval.history)
        answers, lists, margin = self.proposed(newest, key, ok)
        members = np.flatnonzero(ok).tolist() if rerank else sorted({i for one in lists for i in one})
        score = self.scores(newest, answers, lists, members)
        pinned = [i for i in dict.fromkeys(pinned) if ok[i]]
        for item in pinned:
            if item not in members:
                score[item] = self.scores(newest, answers, lists, sorted([*members, item]))[item]
        score = {i: float(np.float32(s) + np.float32((boosts or {}).get(i, 0))) for i, s in score.items()}
        order = sorted(score, key=lambda i: (-score[i], i))
        gaps = -np.diff([score[i] for i in order])
        margin = min([margin, *gaps[gaps > 0]])
        order = pinned + [i for i in order if i not in pinned]
        pool = order[:1000]
        low, high = (min(score[i] for i in pool), max(score[i] for i in pool)) if pool else (0, 0)
        counts, chosen = Counter(), []

        def room(item):
            kinds = [(name, self.column[name][item]) for name in caps or {}]
            return all(value is None or counts[name, value] < caps[name] for name, value in kinds)

        def take(item):
            chosen.append(item)
            counts.update((name, self.column[name][item]) for name in caps or {})

        for item in pinned:
            if room(item) and len(chosen) < k:
                take(item)
        left = [i for i in order if i not in pinned]
        while left and len(chosen) < k:
            left = [i for i in left if room(i)]
            if not left:
                break
            if diversity:
                worth = []
                for i in left:
                    relevance = (score[i] - low) / (high - low) if high > low else 0.0
                    alike = max((float(self.vectors[i] @ self.vectors[j]) for j in chosen), default=0.0)
                    worth.append((1 - diversity) * relevance - diversity * alike)
                best = int(np.argmax(worth))
                if len(worth) > 1 and (gap := worth[best] - np.partition(worth, -2)[-2]) > 0:
                    margin = min(margin, gap)
            else:
                best = 0
            take(left.pop(best))
        floor = min((score[i] for i in chosen), default=0.0)
        told, filled = [score[i] for i in chosen], 0
        for item in () if rerank else self.popular:
            if len(chosen) >= k:
                break
            if ok[item] and item not in chosen and room(item):
                take(item)
                told.append(floor - 1 - filled)
                filled += 1
        return Right(chosen, told, margin)


def check(answer: Recommendations, right: Right, ids: pl.Series) -> bool:
    """The answer is the right one; False where rounding may have decided it, which is looked at no further."""
    rows = [int(str(i)[1:]) for i in ids_of(answer)]
    assert len(rows) == len(set(rows)) == len(right.items)
    if rows != right.items:
        assert right.margin < 1e-5, (rows, right)
        return False
    np.testing.assert_allclose([item.score for item in answer.items], right.scores, rtol=1e-3, atol=1e-3)
    return True


def masks_of(recommender: Recommender, where: pl.Expr) -> np.ndarray:
    return recommender.catalog.frame.select(where.fill_null(False)).to_series().to_numpy()


def seen_by(recommender: Recommender, row: int) -> set[int]:
    return set(recommender._lookup.histories(np.array([row])).item.tolist())


def test_filters_of_any_selectivity_give_what_brute_force_gives(large: Recommender) -> None:
    rng = np.random.default_rng(0)
    oracle, ids, u = Oracle(large), large.catalog.ids, large.catalog.frame["u"].to_numpy()
    users = rng.integers(0, len(large.user_ids), 12)
    asked = {int(user): (large._lookup.histories(np.array([user])), seen_by(large, int(user))) for user in users}
    exact, counted = 0, Counter()
    for number in range(2000):
        share = 10 ** rng.uniform(-4, 0) if number % 50 else [1.0, 0.0001][number // 50 % 2]
        low = rng.uniform(0, 1 - share)
        user, k = int(rng.choice(users)), int(rng.choice([1, 5, 10, 40]))
        histories, seen = asked[user]
        answer = large.recommend(large.user_ids[user], k, where=f"u >= {low!r} and u < {low + share!r}")
        mask = (u >= low) & (u < low + share)
        right = oracle.answer(histories, k, mask, seen, key=user)
        possible = int(mask.sum()) - int(mask[list(seen)].sum())
        assert len(answer.items) == min(k, possible)
        assert (answer.shortage is None) == (len(answer.items) == k)
        exact += check(answer, right, ids)
        counted[int(np.log10(max(mask.mean(), 1e-5)) - 0.5)] += 1
    assert exact > 1990
    assert min(counted[power] for power in (0, -1, -2, -3, -4)) > 100


def test_a_part_of_everything_at_once_gives_what_brute_force_gives(large: Recommender) -> None:
    rng = np.random.default_rng(1)
    oracle, ids, frame = Oracle(large), large.catalog.ids, large.catalog.frame
    exact = 0
    for number in range(250):
        user = int(rng.integers(len(large.user_ids) + 3))  # three of them unknown
        known = user < len(large.user_ids)
        history = rng.integers(0, 20_000, rng.integers(0, 4)).tolist() if rng.random() < 0.5 else []
        share = 10 ** rng.uniform(-3.5, 0)
        where = pl.col("u") < share
        rerank = rng.random() < 0.3
        pool = rng.integers(0, 20_000, rng.integers(1, 300))
        out = rng.integers(0, 20_000, rng.integers(0, 5_000)).tolist() if rng.random() < 0.3 else []
        lead = rng.integers(0, 20_000, rng.integers(0, 4)).tolist() if rng.random() < 0.5 else []
        lifted = {int(i): float(rng.normal() * 3) for i in rng.integers(0, 20_000, 200)}
        caps = {name: int(rng.integers(1, 4)) for name in ("brand", "category") if rng.random() < 0.4}
        diversity = float(rng.choice([0, 0, 0.3, 0.9, 1.0]))
        k = int(rng.choice([1, 5, 12]))
        answer = large.recommend(
            f"u{user:05d}", k, history=[ids[i] for i in history], where=where, exclude=[ids[i] for i in out],
            candidates=[ids[int(i)] for i in pool] if rerank else None, pinned=[ids[i] for i in lead], caps=caps,
            boosts={ids[i]: boost for i, boost in lifted.items()}, diversity=diversity,
        )  # fmt: skip
        mask = masks_of(large, where)
        if rerank:
            mask &= np.isin(np.arange(len(frame)), pool)
        histories = large._lookup.history_for_request(f"u{user:05d}", [ids[i] for i in history], False)
        assert histories.item.tolist()[len(histories.item) - len(history) :] == history
        seen = (seen_by(large, user) if known else set()) | set(history)
        right = oracle.answer(histories, k, mask, seen | set(out), rerank, caps, lead, lifted, diversity, key=number)
        exact += check(answer, right, ids)
        assert {item.item_id for item in answer.items if item.pinned} <= {ids[i] for i in lead}
    assert exact > 240


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_exactly_k_of_what_is_possible_under_any_mixture(small: Recommender, data: st.DataObject) -> None:
    """Each list is as long as it can be, holds nothing twice and nothing that it must not, and counts what is missing.

    What is possible under caps is what going down the whole catalogue would keep: caps on one column only.
    """
    ids, frame = small.catalog.ids.to_list(), small.catalog.frame
    some = st.lists(st.sampled_from(ids), max_size=40)
    user = data.draw(st.sampled_from([*small.user_ids[:8], "nobody"]))
    k = data.draw(st.integers(0, 70))
    where = data.draw(st.sampled_from([None, "price < 20", "not brand == 'b1'", "stock in (1, 2)", "fresh", "u < 0"]))
    candidates, exclude = data.draw(st.none() | some), data.draw(st.none() | some)
    history, pinned = data.draw(some.map(lambda one: one[:5])), data.draw(some)
    cap = data.draw(st.none() | st.tuples(st.sampled_from(["brand", "category", "fresh"]), st.integers(1, 3)))
    caps = None if cap is None else {cap[0]: cap[1]}
    diversity = data.draw(st.sampled_from([0, 0.5, 1]))
    answer = small.recommend(user, k, history=history, candidates=candidates, exclude=exclude, where=where, caps=caps,
                             pinned=pinned, diversity=diversity)  # fmt: skip
    seen = set(history) | (set(small.history(user)["item_id"]) if user != "nobody" else set())
    match = set(ids) if where is None else set(frame.filter(evaluate(where, frame))["item_id"])
    offered = match if candidates is None else match & set(candidates)
    free = offered - set(exclude or []) - seen
    possible = len(free)
    if cap is not None:
        value = dict(frame.select("item_id", cap[0]).iter_rows())
        counts = Counter(value[i] for i in free)
        possible = sum(n if v is None else min(n, cap[1]) for v, n in counts.items())
        told = Counter(value[i] for i in ids_of(answer))
        assert all(n <= cap[1] for v, n in told.items() if v is not None)
    assert len(answer.items) == len(set(ids_of(answer))) == min(k, possible)
    assert set(ids_of(answer)) <= free
    if cap is None:
        lead = [i for i in dict.fromkeys(pinned) if i in free]
        assert ids_of(answer)[: len(lead)] == lead[:k]
    short = answer.shortage
    assert (short is None) == (len(answer.items) == k)
    if short is not None:
        assert (short.asked, short.given) == (k, len(answer.items))
        assert (short.catalogue, short.matching, short.offered) == (60, len(match), len(offered))
        assert short.excluded == len(offered & set(exclude or []))
        assert short.seen == len(offered & seen - set(exclude or []))
        assert short.capped == len(free) - possible
        assert short.offered - short.excluded - short.seen - short.capped == short.given
    json.dumps(answer.to_dict(), allow_nan=False)
    assert answer.to_polars().height == len(answer.items)


# Plans: masking, searching deeper, searching the part exactly


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF64,PQ24x4fs"])
@pytest.mark.parametrize(("gathered", "plan"), [(0.0, "part"), (1e9, "deeper"), (planner.GATHER_COST, "cheapest")])
def test_the_plan_does_not_change_the_answer(
    monkeypatch: pytest.MonkeyPatch, factory: str, gathered: float, plan: str
) -> None:
    monkeypatch.setattr(planner, "GATHER_COST", gathered)
    rng = np.random.default_rng(0)
    vectors = random_vectors(6000, 24)
    index = Index.build(vectors, factory, {"HNSW16": "efSearch=64", "IVF64,PQ24x4fs": "nprobe=16"}.get(factory, ""))
    for share in (1.0, 0.9, 0.5, 0.1, 0.01, 0.0005, 0.0):
        mask = rng.random(6000) < share
        part = ItemFilter.of(mask, rng.permutation(6000).astype(np.int32))
        queries = random_vectors(5, 24, seed=3)
        for k in (1, 30, 700, 6000):
            rows, scores = planner.filtered_search(index, vectors, queries, k, part)
            width = min(k, int(mask.sum()))
            assert rows.shape == scores.shape == (5, k)
            assert (rows[:, width:] == -1).all()
            assert np.isneginf(scores[:, width:]).all()
            found = rows[:, :width]
            assert mask[found].all()
            assert all(len(set(one)) == width for one in found.tolist())
            np.testing.assert_allclose(scores[:, :width], np.einsum("qkd,qd->qk", vectors[found], queries), atol=1e-6)
            if factory == "Flat" or plan == "part":
                best = np.sort(np.where(mask, queries @ vectors.T, -np.inf), axis=1)[:, ::-1][:, :width]
                np.testing.assert_allclose(scores[:, :width], best, atol=1e-6)


def test_a_filter_that_passes_little_asks_the_index_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that passes much asks for little more than what is needed, again only where that was not enough."""
    vectors = random_vectors(4000, 8)
    index, asked = Index.build(vectors), []
    search = index.search
    monkeypatch.setattr(index, "search", lambda q, k: asked.append((len(q), k)) or search(q, k))
    every = np.arange(4000, dtype=np.int32)
    planner.filtered_search(index, vectors, vectors[:3], 20, ItemFilter.of(every < 100, every))
    assert asked == []
    planner.filtered_search(index, vectors, vectors[:3], 20, ItemFilter.of(every % 10 > 0, every))
    assert asked == [(3, int(22 / 0.9) + 16)]
    # The nearest of item 0 are all forbidden, those of item 1 are not.
    asked.clear()
    near = np.argsort(-vectors @ vectors[0])[:300]
    mask = np.ones(4000, bool)
    mask[near] = False
    rows, _ = planner.filtered_search(index, vectors, vectors[:2], 20, ItemFilter.of(mask, every))
    assert rows[0].tolist() == np.argsort(-np.where(mask, vectors @ vectors[0], -2))[:20].tolist()
    assert [count for count, _ in asked] == [2, *[1] * (len(asked) - 1)]
    assert len(asked) > 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70), st.data())
def test_popular_items_of_a_part(counts: list[int], k: int, data: st.DataObject) -> None:
    n = len(counts)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    count = np.array(counts, np.float32)
    right = [i for i in sorted(range(n), key=lambda i: (-counts[i], i)) if mask[i] and counts[i]][:k]
    order = np.array([i for i in sorted(range(n), key=lambda i: (-counts[i], i)) if counts[i]], np.int32)
    rows = np.flatnonzero(mask).astype(np.int32)
    for part in (ItemFilter.of(mask, np.arange(n, dtype=np.int32)), ItemFilter(rows, rows)):
        assert PopularityAnswer(count, order, 1).top(k, part).item.tolist() == right


def test_popular_items_of_a_part_are_looked_for_ever_deeper() -> None:
    """The share that a filter passes says how deep to look; where the popular ones are out, that is not deep enough."""
    order, mask = np.arange(5000, dtype=np.int32)[::-1], np.arange(5000) < 4000
    answer = PopularityAnswer(np.arange(5000, dtype=np.float32), order[:-1], 2)
    for k in (1, 100, 1500, 4500):
        right = [i for i in order.tolist() if mask[i] and i > 0][:k]
        hits = answer.top(k, ItemFilter.of(mask, order))
        assert hits.item.tolist() == right * 2
        assert hits.offsets.tolist() == [0, len(right), 2 * len(right)]
        assert hits.score.tolist() == right * 2


def test_page_after_page_gives_what_brute_force_gives(large: Recommender) -> None:
    """Whatever was shown is excluded from the next page: soon that is more than any retriever proposes."""
    oracle, ids, exact = Oracle(large), large.catalog.ids, 0
    for user in range(6):
        histories, shown = large._lookup.histories(np.array([user])), []
        for _ in range(5):
            answer = large.recommend(large.user_ids[user], 60, exclude=[ids[i] for i in shown])
            barred = seen_by(large, user) | set(shown)
            right = oracle.answer(histories, 60, np.ones(20_000, bool), barred, key=user)
            exact += check(answer, right, ids)
            shown += right.items
        assert len(set(shown)) == 300
    assert exact > 27


def test_an_approximate_index_under_filters_shows_only_what_is_allowed(tmp_path: Path) -> None:
    semantic = {"depth": 30, "index": "HNSW16", "search": "efSearch=128", "floor": 0.9}
    loaded = random_bundle(tmp_path, 3000, 40, retrievers={"semantic": semantic, "popularity": {"depth": 5}})
    u = dict(loaded.catalog.frame.select("item_id", "u").iter_rows())
    for share in (1.0, 0.7, 0.2, 0.01, 0.001):
        for user in loaded.user_ids[:10]:
            answer = loaded.recommend(user, 10, where=f"u < {share}")
            assert all(u[i] < share for i in ids_of(answer))
            seen = set(loaded.history(user)["item_id"])
            assert len(answer.items) == min(10, sum(value < share and i not in seen for i, value in u.items()))


# Rules


def test_caps_keep_what_going_down_the_list_keeps() -> None:
    rng = np.random.default_rng(0)
    for number in range(400):
        n, n_items = int(rng.integers(0, 60)), int(rng.choice([5, 30]))
        pairs = list(zip(np.sort(rng.integers(0, 3, n)).tolist(), rng.integers(0, n_items, n).tolist(), strict=True))
        limits = [(rng.integers(-1, rng.integers(1, 6), n_items), int(rng.integers(1, 4))) for _ in range(number % 4)]
        kept, counts = [], Counter()
        for owner, item in pairs:
            kinds = [(owner, place, int(code[item])) for place, (code, _) in enumerate(limits) if code[item] >= 0]
            kept.append(all(counts[kind] < limits[kind[1]][1] for kind in kinds))
            counts.update(kinds if kept[-1] else [])
        owner, item = np.array(pairs, np.int64).reshape(-1, 2).T
        caps = [rules.Cap(code.astype(np.int32), most) for code, most in limits]
        assert rules.under_caps(owner, item.astype(np.int32), caps).tolist() == kept


def test_filling_under_caps_takes_what_going_down_the_catalogue_keeps() -> None:
    rng = np.random.default_rng(1)
    n_items, given = 200, 0
    for number in range(120):
        k, popular = int(rng.integers(1, 80)), rng.permutation(n_items)[: int(rng.integers(1, n_items))]
        limits = [(rng.integers(-1 if rng.random() < 0.5 else 0, rng.integers(1, 25), n_items), int(rng.integers(1, 4)))
                  for _ in range(number % 4)]  # fmt: skip
        caps = [rules.Cap(code.astype(np.int32), most) for code, most in limits]
        pool = [np.sort(rng.choice(n_items, int(rng.integers(0, 60)), replace=False)) for _ in range(3)]
        offsets, item = offsets_of(np.array([len(one) for one in pool])), np.concatenate(pool).astype(np.int32)
        candidates = Candidates(offsets, item, np.zeros((len(item), 1), np.int32))
        ranking = rules.cut(rules.best(candidates, rng.random(len(item), np.float32), None), k, caps)
        free = [np.flatnonzero((rng.random(n_items) < 0.5) & ~np.isin(np.arange(n_items), one)) for one in pool]
        barred = np.concatenate([user * n_items + one for user, one in enumerate(free)])
        filled = rules.fill(ranking, popular.astype(np.int32), barred, n_items, k, caps)
        for user, (before, after) in enumerate(zip(lists_of(ranking), lists_of(filled), strict=True)):
            right = list(before)
            for row in popular.tolist():
                counts = [sum(code[other] == code[row] for other in right) for code, _ in limits]
                room = all(code[row] < 0 or had < most for (code, most), had in zip(limits, counts, strict=True))
                if len(right) < k and room and row not in right and row not in free[user]:
                    right.append(row)
            assert after == right
            given += len(right) - len(before)
    assert given > 1000


@pytest.mark.parametrize("pairs", [1, 70, rules.PAIRS])
def test_a_batch_with_filters_and_caps_equals_one_by_one(
    small: Recommender, monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    monkeypatch.setattr(rules, "PAIRS", pairs)  # lists are filled so many pairs at a time
    out = small.catalog.ids[:7].to_list()
    for asked in (
        {"where": "price < 25"}, {"exclude": out}, {"caps": {"brand": 1}}, {"caps": {"category": 2, "stock": 3}},
        {"where": pl.col("u") < 0.6, "exclude": out, "caps": {"category": 3, "brand": 2}}, {"where": "u < 0"},
    ):  # fmt: skip
        for k in (3, 12, 60):
            batch = small.recommend_batch(k=k, **asked)  # type: ignore[arg-type]
            for user in small.user_ids:
                one, many = small.recommend(user, k, **asked), batch.filter(pl.col("user_id") == user)  # type: ignore[arg-type]
                assert ids_of(one) == many["item_id"].to_list()
                np.testing.assert_allclose([i.score for i in one.items], many["score"], rtol=1e-4, atol=1e-4)
                assert many["source"].to_list() == one.to_polars()["source"].to_list()


def test_a_pinned_item_has_the_score_that_score_tells(large: Recommender) -> None:
    user = large.user_ids[3]
    usual = large.recommend(user, 5)
    lead = [usual.items[4].item_id, large.catalog.ids[19_999], large.catalog.ids[19_998]]
    answer = large.recommend(user, 5, pinned=lead)
    assert ids_of(answer) == [*lead, *ids_of(usual)[:2]]
    told = dict(large.score(user, lead).select("item_id", "score").iter_rows())
    np.testing.assert_allclose([i.score for i in answer.items[:3]], [told[i] for i in lead], rtol=1e-4, atol=1e-4)
    assert [item.pinned for item in answer.items] == [True] * 3 + [False] * 2
    assert [item.rank for item in answer.items] == [1, 2, 3, 4, 5]
    assert answer.to_polars()["source"][1:3].to_list() == [PINNED] * 2
    assert answer.items[0].sources == usual.items[4].sources
    assert ids_of(large.recommend(user, 2, pinned=lead)) == lead[:2]


def test_what_the_request_keeps_out_is_not_pinned(small: Recommender) -> None:
    user = small.user_ids[0]
    free = [i for i in small.catalog.ids if i not in small.history(user)["item_id"].to_list()]
    assert ids_of(small.recommend(user, 1, pinned=[small.history(user)["item_id"][0], free[0]])) == free[:1]
    assert ids_of(small.recommend(user, 1, pinned=free, exclude=free[:3])) == free[3:4]
    assert ids_of(small.recommend(user, 1, pinned=free, candidates=free[5:8])) == free[5:6]
    brand = dict(small.catalog.frame.select("item_id", "brand").iter_rows())
    same = [i for i in free if brand[i] == brand[free[0]]]
    told = ids_of(small.recommend(user, 60, pinned=same, caps={"brand": 1}))
    assert [i for i in told if brand[i] == brand[free[0]]] == same[:1]


def test_a_boost_is_added_to_the_score(large: Recommender) -> None:
    user = large.user_ids[5]
    usual = large.recommend(user, 10)
    last = usual.items[9]
    lift = usual.items[0].score - last.score + 1
    answer = large.recommend(user, 10, boosts={last.item_id: lift, usual.items[3].item_id: -1e9})
    assert answer.items[0].item_id == last.item_id
    assert answer.items[0].score == pytest.approx(last.score + lift, abs=1e-4)
    assert usual.items[3].item_id not in ids_of(answer)
    stranger = large.catalog.ids[19_999]
    assert stranger not in ids_of(usual)
    assert ids_of(large.recommend(user, 10, boosts={stranger: 100})) == ids_of(usual)


def test_diversity_makes_items_unlike_each_other(large: Recommender) -> None:
    vectors = np.array(large._model.retrieval.vectors)

    def likeness(answer: Recommendations) -> float:
        own = vectors[[int(str(i)[1:]) for i in ids_of(answer)]]
        return float(((own @ own.T).sum() - len(own)) / (len(own) * (len(own) - 1)))

    means = []
    for diversity in (0.0, 0.5, 1.0):
        answers = [large.recommend(user, 10, diversity=diversity) for user in large.user_ids[:40]]
        assert all(len(answer.items) == 10 for answer in answers)
        means.append(np.mean([likeness(answer) for answer in answers]))
    assert means[0] > means[1] > means[2]
    for user in large.user_ids[:10]:
        assert large.recommend(user, 10, diversity=0.0) == large.recommend(user, 10)


def test_reasons_are_told_only_where_asked_for(small: Recommender) -> None:
    plain, told = (small.recommend(small.user_ids[1], 10, explain=explain) for explain in (False, True))
    assert all(item.reasons == {} for item in plain.items)
    assert all(1 <= len(item.reasons) <= 3 for item in told.items if item.sources)
    assert ids_of(plain) == ids_of(told)
