"""The audit of a run: is anything known that should not be, and what may make its figures look better than they are?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import FloatArray, LongArray
from recsys.audit.probes import Lists, Renumbering, Rerun, another_future, first_alone, learn_and_judge, proposed
from recsys.config import Config
from recsys.diagnostics import FAIL, OK, WARN, Check
from recsys.embedding.texts import item_texts
from recsys.engine.embeddings import Embeddings, embed
from recsys.jobs.ingest import end_of, ingest
from recsys.parallel.threads import batches
from recsys.progress import Progress, quiet
from recsys.ragged import find_keys, pair_keys
from recsys.retrieval.index import Index
from recsys.tables.split import Fold, holdouts, next_moments
from recsys.types import Candidates, Interactions

USERS = 1000  # whose lists are computed again
RENUMBERED_USERS = 256
SEARCHED = 10_000  # items whose nearest are looked up
SEARCH_BLOCK = 1024
NAMED = 3  # examples in a text; the numbers hold `LISTED`
LISTED = 20
NEAR = 0.95
TWIN_EVENTS = 3  # fewer equal events are no sign of one person with two accounts
LIKELY_LEAK, SURE_LEAK, TIMES_THE_NEXT = 0.5, 0.9, 3
SAME, DIFFERENT, LIKE = 0.99, 0.9, 0.5


@dataclass(frozen=True)
class Finding(Check):
    """A line of the audit, with the numbers behind its text for programs."""

    numbers: Mapping[str, Any] = field(default_factory=dict)


def audit(config: Config, progress: Progress = quiet, validation: bool = False) -> list[Finding]:
    """Check a run for leaks, from its tables on; `validation` judges one cut earlier, as `jobs.evaluate` does.

    Reads dates at the judged cut and at each cut that trains the scorer. What needs a rerun happens at the newest
    training cut, with at most `USERS` users: every event after it is replaced, the rows are renumbered, the scorer is
    fitted to labels drawn by lot.

    Raises as `jobs.evaluate` does: `ConfigError`, `DataError`, and `LeakageError` where a cut refuses itself.
    """
    tables = ingest(config)
    embeddings = embed(config, tables.catalog)
    as_of = end_of(tables, config)
    folds = holdouts(tables.interactions, config.split, as_of, 1 + validation + config.split.folds, least=2)[
        validation:
    ]
    judged = folds[0]
    findings = [finding for number, fold in enumerate(folds) for finding in dates(fold, number, tables.clock)]
    findings += [undated(judged, embeddings), ties(tables.interactions, judged)]
    findings += probe(config, tables.interactions, embeddings, as_of, validation + 2, progress)
    texts = item_texts(embeddings.catalog, config.embedding.text, config.embedding.html)
    findings += near_duplicates(tables.interactions, judged, embeddings, texts)
    return [*findings, repeats(judged, config.rules.seen), twins(judged.known)]


def dates(fold: Fold, number: int, clock: str) -> Iterator[Finding]:
    """Whether all that a cut knows lies before what it is asked: each user's own, and what the statistics count."""
    cut = "judged cut" if number == 0 else f"training cut {number}"
    newest = next_moments(fold.known)[fold.labels.user] - 1
    late = (newest > fold.labels.time) & (np.diff(fold.known.offsets)[fold.labels.user] > 0)
    if fold.as_of is not None:
        late |= (fold.labels.time < fold.as_of) | (fold.known.time.max() >= fold.as_of)
    told = f"{late.sum():,} of {len(late):,} labels lie before something that their own user's history knows"
    if not late.any():
        told = f"all that is known of the users lies before their {len(late):,} labels, or at the same moment"
    yield Finding(f"dates, {cut}", FAIL if late.any() else OK, told, {"late": int(late.sum()), "labels": len(late)})
    if fold.as_of is not None:
        return
    if clock == "order":
        told = "positions of different users cannot be compared: what the others did later cannot be told"
        yield Finding(f"statistics, {cut}", OK, told)
        return
    ahead = len(fold.known) - np.searchsorted(np.sort(fold.known.time), fold.labels.time, side="right")
    share = float(ahead.mean() / len(fold.known))
    told = f"for a mean label {share:.1%} of the events that statistics count lie later than it, of other users"
    advice = "; use split.kind: time where that matters" if share else ""
    numbers = {"share": share, "events": float(ahead.mean()), "most": int(ahead.max()), "known": len(fold.known)}
    yield Finding(f"statistics, {cut}", WARN if share else OK, told + advice, numbers)


def undated(judged: Fold, embeddings: Embeddings) -> Finding:
    """How many labels are items that behaviour does not know yet, but whose texts the catalogue holds already."""
    known = np.bincount(judged.known.item, minlength=len(embeddings.items)) > 0
    new = ~known[judged.labels.item]
    share = float(new.mean())
    told = f"texts carry no date: {new.sum():,} labels ({share:.1%}) are items known by their text only"
    return Finding("vectors", WARN if new.any() else OK, told, {"labels": int(new.sum()), "share": share})


def ties(whole: Interactions, judged: Fold) -> Finding:
    """How much hangs on the order of events at one moment, which is only that of the file."""
    equal = (whole.user[1:] == whole.user[:-1]) & (whole.time[1:] == whole.time[:-1])
    events = float((np.append(False, equal) | np.append(equal, False)).mean())
    first = np.full(whole.n_users, np.iinfo(np.int64).max)
    np.minimum.at(first, judged.labels.user, judged.labels.time)
    users = judged.labelled_users
    users = users[np.diff(judged.known.offsets)[users] > 0]
    edge = next_moments(judged.known)[users] - 1 == first[users]
    told = f"{events:.1%} of the events share their moment with another of their user"
    if edge.any():
        told += (
            f"; for {edge.sum():,} users ({edge.mean():.1%}) the first label shares it with the newest known event: "
            "which of them came first is told by the file alone"
        )
    numbers = {"events": events, "edge_users": int(edge.sum()), "edge": float(edge.mean()) if len(edge) else 0.0}
    return Finding("ties", WARN if edge.any() else OK, told, numbers)


def probe(config: Config, whole: Interactions, embeddings: Embeddings, as_of: int | None, number: int,
          progress: Progress) -> Iterator[Finding]:  # fmt: skip
    """Run the path again over another future and under other row numbers, at the last of `number` cuts."""
    rng = np.random.default_rng(config.seed)
    steps = 4
    progress("audit", 0, steps)
    true = Rerun.of(config, whole, embeddings, as_of, number)
    users = true.fold.labelled_users
    users = np.sort(rng.choice(users, min(USERS, len(users)), replace=False))
    pairs = proposed(true, users)
    progress("audit", 1, steps)
    tampered = another_future(whole, true.fold, users, pairs, len(embeddings.items), rng)
    other = Rerun.of(config, tampered, embeddings, as_of, number)
    progress("audit", 2, steps)
    changed = {} if _equal(proposed(other, users), pairs) else {"the candidates": 1.0}
    names = true.names(users)
    firsts = np.zeros(len(names), dtype=np.int64)
    lists: tuple[list[Lists], list[Lists]] = ([], [])
    for start, some in _starts(users):
        part = _slice(pairs, start, len(some))
        x, y = true.compute(some, part), true.labels(some, part)
        again, drawn = other.compute(some, part), other.labels(some, part)
        for column in np.flatnonzero((x != again).any(axis=0)):
            differs = float((x[:, column] != again[:, column]).mean())
            changed[names[column]] = max(differs, changed.get(names[column], 0.0))
        firsts += first_alone(part, x, y)
        for kept, label, features in zip(lists, (y, drawn), (x, again), strict=True):
            kept.append(Lists.sample(part, features, label, rng))
    yield _future(changed, len(users))
    honest, shuffled = map(Lists.join, lists)
    yield _alone(names, firsts, len(honest.lengths))
    yield _shuffled(config, honest, shuffled)
    progress("audit", 3, steps)
    few = users[:RENUMBERED_USERS]
    yield _renumbered(config, whole, true, few, _slice(pairs, 0, len(few)), as_of, number, rng)
    progress("audit", steps, steps)


def _starts(users: LongArray) -> Iterator[tuple[int, LongArray]]:
    start = 0
    for some in batches(users):
        yield start, some
        start += len(some)


def _slice(pairs: Candidates, start: int, queries: int) -> Candidates:
    offsets = pairs.offsets[start : start + queries + 1]
    rows = slice(offsets[0], offsets[-1])
    return Candidates(offsets - offsets[0], pairs.item[rows], pairs.found[rows])


def _equal(one: Candidates, other: Candidates) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("offsets", "item", "found"))


def _future(changed: Mapping[str, float], users: int) -> Finding:
    if not changed:
        told = f"every event after the cut was replaced, and not one feature of {users:,} users changed"
        return Finding("future replaced", OK, told, {"users": users, "changed": {}})
    told = f"replacing the events after the cut changed {', '.join(changed)}: these know what they should foretell"
    return Finding("future replaced", FAIL, told, {"users": users, "changed": dict(changed)})


def _alone(names: list[str], firsts: LongArray, lists: int) -> Finding:
    """Name the column that puts the label first most often. A retriever's score and rank count as one source."""
    share = firsts / max(lists, 1)
    best = int(np.argmax(share))
    source = [_source(name) for name in names]
    others = [float(s) for s, own in zip(share, source, strict=True) if own != source[best]]
    most, following = float(share[best]), max(others, default=0.0)
    lonely = most > TIMES_THE_NEXT * following
    status = FAIL if lonely and most > SURE_LEAK else WARN if lonely and most > LIKELY_LEAK else OK
    told = f"{names[best]} by itself puts a label first in {most:.1%} of {lists:,} lists, the next in {following:.1%}"
    told += "" if status == OK else "; no honest feature does so: does it know the label?"
    return Finding("strongest column", status, told, {"column": names[best], "share": most, "next": following})


def _source(column: str) -> str:
    family, _, part = column.partition(".")
    return part if family in ("scores", "ranks") else family


def _shuffled(config: Config, honest: Lists, shuffled: Lists) -> Finding:
    name = "shuffled labels"
    if min(len(honest.lengths), len(shuffled.lengths)) < 2:
        return Finding(name, WARN, "fewer than two lists hold a label: there is nothing to learn and judge by")
    true, true_chance = learn_and_judge(config, honest)
    lot, chance = learn_and_judge(config, shuffled)
    numbers = {"shuffled": lot, "chance": chance, "true": true, "true_chance": true_chance}
    told = "with labels drawn by lot the scorer reaches " + ", ".join(
        f"{metric} {value:.4f} (random order {chance[metric][0]:.4f} to {chance[metric][1]:.4f})"
        for metric, value in lot.items()
    )
    if any(not chance[metric][0] <= value <= chance[metric][1] for metric, value in lot.items()):
        return Finding(name, FAIL, told + ": it finds labels that nothing before the cut can tell", numbers)
    told += f"; with the true ones {', '.join(f'{metric} {value:.4f}' for metric, value in true.items())}"
    if all(value <= true_chance[metric][1] for metric, value in true.items()):
        return Finding(name, WARN, told + ", which is no better: this check can tell nothing here", numbers)
    return Finding(name, OK, told, numbers)


def _renumbered(config: Config, whole: Interactions, true: Rerun, users: LongArray, pairs: Candidates,
                as_of: int | None, number: int, rng: np.random.Generator) -> Finding:  # fmt: skip
    """Compare the features of a run in which every item and user has another row number, and every item another id.

    Where both runs say 0 nothing is compared. Ties at the depth of a retriever go by row, so `found_by` may differ. A
    retriever that is trained from random numbers gives other values, which must still say much the same: a column
    fails where few values are equal and the two runs hardly correlate.
    """
    renumbering = Renumbering.draw(len(true.embeddings.items), whole.n_users, rng)
    other = Rerun.of(config, renumbering.interactions(whole), renumbering.embeddings(true.embeddings), as_of, number)
    moved, order = renumbering.pairs(pairs)
    x = true.compute(users, pairs)
    again = np.empty_like(x)
    again[order] = other.compute(renumbering.user[users], moved)
    told_of = (x != 0) | (again != 0)
    equal = np.isclose(x, again, rtol=1e-3, atol=1e-4)
    share = (equal & told_of).sum(axis=0) / np.maximum(told_of.sum(axis=0), 1)
    share = np.where(told_of.any(axis=0), share, 1.0)
    names = true.names(users)
    rising = np.argsort(share, kind="stable")
    low = {names[column]: float(share[column]) for column in rising if share[column] < SAME}
    unlike = [column for column in rising if share[column] < DIFFERENT
              and _correlation(x[told_of[:, column], column], again[told_of[:, column], column]) < LIKE]  # fmt: skip
    status = FAIL if unlike else WARN if low else OK
    told = f"under other row numbers and ids {share.mean():.2%} of the features' values are the same"
    if low:
        told += f"; least in {', '.join(f'{name} {value:.1%}' for name, value in list(low.items())[:NAMED])}"
    if unlike:
        told += f": {', '.join(names[column] for column in unlike)} depend on the order of the catalogue"
    return Finding("row numbers", status, told, {"same": float(share.mean()), "columns": low})


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson's; 0 where one of the two does not vary."""
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


def near_duplicates(whole: Interactions, judged: Fold, embeddings: Embeddings, texts: list[str]) -> Iterator[Finding]:
    """List items that come only after the cut but read like one from before it, and items that read alike at all."""
    n_items = len(embeddings.items)
    known = np.bincount(judged.known.item, minlength=n_items) > 0
    new = np.flatnonzero((np.bincount(whole.item, minlength=n_items) > 0) & ~known)
    yield _alike("near duplicates across the cut", "items first seen after the cut", embeddings, texts,
                 new, np.flatnonzero(known))  # fmt: skip
    everything = np.arange(n_items)
    yield _alike("near duplicates", "items", embeddings, texts, everything, everything)


def _alike(name: str, noun: str, embeddings: Embeddings, texts: list[str],
           asked: LongArray, among: LongArray) -> Finding:  # fmt: skip
    looked = asked[np.linspace(0, len(asked) - 1, min(len(asked), SEARCHED)).astype(np.int64)]
    row, cosine = nearest_other(embeddings.items, looked, among)
    near = np.flatnonzero(cosine >= NEAR)
    ids, titles = embeddings.catalog.ids, embeddings.catalog.titles
    listed = [
        {"item_id": ids[int(looked[place])], "title": titles[looked[place]], "like": ids[int(row[place])],
         "like_title": titles[row[place]], "cosine": round(float(cosine[place]), 4)}
        for place in near[:LISTED]
    ]  # fmt: skip
    same = sum(texts[looked[place]] == texts[row[place]] for place in near)
    told = f"{len(near):,} of {len(looked):,} {noun} have a text within cosine {NEAR} of another's, {same:,} the same"
    if len(looked) < len(asked):
        told += f" (a sample: there are {len(asked):,})"
    told += "".join(f"; {one['item_id']} {one['title']!r} ~ {one['like']} {one['like_title']!r}"
                    for one in listed[:NAMED])  # fmt: skip
    numbers = {"items": len(near), "same_text": same, "looked_at": len(looked), "first": listed}
    return Finding(name, WARN if len(near) else OK, told, numbers)


def nearest_other(vectors: FloatArray, asked: LongArray, among: LongArray) -> tuple[LongArray, FloatArray]:
    """Return for each item of `asked` the nearest other one of `among`, and the cosine: `(n,)` each, -1 for none.

    By exact search in blocks: nothing of size items x items.
    """
    nearest, cosine = np.full(len(asked), -1, dtype=np.int64), np.full(len(asked), -1, dtype=np.float32)
    if not len(among):
        return nearest, cosine
    index = Index.build(vectors[among])
    for start in range(0, len(asked), SEARCH_BLOCK):
        block = asked[start : start + SEARCH_BLOCK]
        found, score = index.search(vectors[block], 2)
        rows = among[found]
        other = rows != block[:, None]
        place = (np.arange(len(block)), np.argmax(other, axis=1))
        has = other.any(axis=1)
        nearest[start : start + len(block)] = np.where(has, rows[place], -1)
        cosine[start : start + len(block)] = np.where(has, score[place], -1)
    return nearest, cosine


def repeats(judged: Fold, seen: str) -> Finding:
    """How many targets are items that their user had before the cut."""
    n_items = int(max(judged.known.item.max(), judged.labels.item.max())) + 1
    targets = np.unique(pair_keys(judged.labels.user, judged.labels.item, n_items))
    had = np.unique(pair_keys(judged.known.user, judged.known.item, n_items))
    again = int((find_keys(had, targets) >= 0).sum())
    told = f"{again:,} of {len(targets):,} targets ({again / len(targets):.1%}) are items that their user had before: "
    told += "they may be foretold" if seen == "keep" else "rules.seen drops them, so nobody is judged by them"
    return Finding("repeat targets", OK, told, {"targets": len(targets), "repeats": again, "seen": seen})


def twins(known: Interactions) -> Finding:
    """How many users did exactly what another did, at the same moments: one of them may tell the other's next."""
    users = np.flatnonzero(np.diff(known.offsets) >= TWIN_EVENTS)
    rows = np.diff(known.offsets)[known.user] >= TWIN_EVENTS
    events = pl.DataFrame({"user": known.user[rows], "item": known.item[rows], "time": known.time[rows]})
    told_by = events.group_by("user").agg(pl.format("{}@{}", "item", "time").sort().str.join(" ").alias("events"))
    count = int(told_by["events"].is_duplicated().sum())
    share = count / max(len(users), 1)
    told = f"{count:,} of {len(users):,} users ({share:.1%}) have exactly the events of another"
    return Finding("twin users", WARN if count else OK, told, {"users": count, "share": share})
