"""The audit of a run: check for data leakage, and for what makes its metrics look better than they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from recsys.arrays import FloatArray, LongArray
from recsys.audit.probes import (
    Lists,
    Renumbering,
    Rerun,
    count_first_alone,
    fit_and_judge,
    propose,
    replace_future,
)
from recsys.config import Config
from recsys.diagnostics import FAIL, OK, WARN, Finding
from recsys.embedding.texts import item_texts
from recsys.engine.embeddings import Embeddings, embed
from recsys.engine.plan import Plan
from recsys.errors import LeakageError
from recsys.evaluation.row_order import count_ties
from recsys.extras import require
from recsys.formatting import moment
from recsys.jobs.ingest import ingest
from recsys.parallel.threads import batches
from recsys.progress import Progress, quiet
from recsys.ragged import find_keys, pair_keys
from recsys.retrieval.index import Index
from recsys.tables.split import Fold, holdouts, next_moments
from recsys.types import Candidates, Interactions

USERS = 1000  # whose lists are computed again
RENUMBERED_USERS = 256
SEARCHED = 10_000  # items whose nearest neighbours are searched
SEARCH_BLOCK = 1024
EXAMPLES_IN_TEXT, EXAMPLES_IN_NUMBERS = 3, 20
NEAR_DUPLICATE = 0.95  # cosine
TWIN_EVENTS = 3  # fewer equal events are no sign of one person with two accounts
# Shares of lists in which one column alone puts a label first, and how far ahead of the next column it has to be.
LIKELY_LEAK, SURE_LEAK, TIMES_THE_NEXT = 0.5, 0.9, 3
# Shares of equal values of a column under other row numbers, and the correlation that a trained column has to keep.
SAME, DIFFERENT, CORRELATED = 0.99, 0.9, 0.5


def audit(config: Config, progress: Progress = quiet, validation: bool = False) -> list[Finding]:
    """Check a run for data leakage, from its tables on.

    Dates are checked at the judged cut and at each cut that trains the scorer. The reruns happen at the newest training
    cut, with at most `USERS` users: every event after it is replaced, rows are renumbered, and the scorer is fitted to
    random labels.

    Args:
        config: The run.
        progress: Shows progress.
        validation: Judge one cut earlier, as `jobs.evaluate` does.

    Returns:
        One finding for each check, in a fixed order.

    Raises:
        ConfigError: a member that the config names is unknown, or refuses its settings.
        DataError: the tables cannot be used, or the log is too short.
        LeakageError: a cut holds events from after it.
    """
    require("train", "recsys audit")
    plan = Plan.of(config)
    tables = ingest(config, progress)
    as_of = plan.end(tables.interactions)
    folds = holdouts(tables.interactions, plan.split, as_of, 1 + validation + plan.split.folds, least=2)[validation:]
    judged = folds[0]
    embeddings = embed(config.embedding, tables.catalog, config.vector_folder)
    findings = [found for number, fold in enumerate(folds) for found in check_dates(fold, number, tables.clock)]
    findings += [check_undated_texts(judged, embeddings), check_ties(tables.interactions, judged)]
    findings.append(check_encoder(embeddings, folds, tables.clock))
    if findings[-1].status == FAIL and findings[-1].name == "encoder":
        return findings  # no cut can be fitted
    findings += rerun(plan, tables.interactions, embeddings, as_of, validation + 2, progress)
    texts = item_texts(embeddings.catalog, config.embedding.text, config.embedding.html)
    findings += check_near_duplicates(tables.interactions, judged, embeddings, texts)
    return [*findings, check_repeats(judged, config.rules.seen), check_twin_users(judged.known)]


def check_dates(fold: Fold, number: int, clock: str) -> Iterator[Finding]:
    """Check that what a cut knows lies before its labels: each user's own events, and those that statistics count."""
    cut = "judged cut" if number == 0 else f"training cut {number}"
    newest = next_moments(fold.known)[fold.labels.user] - 1
    late = (newest > fold.labels.time) & (np.diff(fold.known.offsets)[fold.labels.user] > 0)
    if fold.as_of is not None:
        late |= (fold.labels.time < fold.as_of) | (fold.known.time.max() >= fold.as_of)
    text = f"all known events of the users lie before their {len(late):,} labels, or at the same moment"
    if late.any():
        text = f"{late.sum():,} of {len(late):,} labels lie before a known event of their own user"
    yield Finding(f"dates, {cut}", FAIL if late.any() else OK, text, {"late": int(late.sum()), "labels": len(late)})
    if fold.as_of is not None:
        return
    if clock == "order":
        text = "positions of different users cannot be compared, so later events of other users cannot be counted"
        yield Finding(f"statistics, {cut}", OK, text)
        return
    later = len(fold.known) - np.searchsorted(np.sort(fold.known.time), fold.labels.time, side="right")
    share = float(later.mean() / len(fold.known))
    text = f"on average {share:.1%} of the events that statistics count are later than a label, all of other users"
    advice = "; use split.kind: time where that matters" if share else ""
    numbers = {"share": share, "events": float(later.mean()), "most": int(later.max()), "known": len(fold.known)}
    yield Finding(f"statistics, {cut}", WARN if share else OK, text + advice, numbers)


def check_undated_texts(judged: Fold, embeddings: Embeddings) -> Finding:
    """Count the labels on items without any known event, whose texts the catalogue already holds."""
    known = np.bincount(judged.known.item, minlength=len(embeddings.items)) > 0
    new = ~known[judged.labels.item]
    share = float(new.mean())
    text = f"texts carry no date: {new.sum():,} labels ({share:.1%}) are items known by their text only"
    return Finding("vectors", WARN if new.any() else OK, text, {"labels": int(new.sum()), "share": share})


def check_encoder(embeddings: Embeddings, folds: Sequence[Fold], clock: str) -> Finding:
    """Check that each cut knows all that the encoder was tuned on."""
    lineage = embeddings.lineage
    if lineage is None:
        return Finding("encoder", OK, "it was not tuned on this shop's events")
    numbers = {"events": lineage.events, "as_of": lineage.as_of}
    try:
        for fold in folds:
            embeddings.check_cut(fold)
    except LeakageError as error:
        return Finding("encoder", FAIL, str(error), numbers)
    until = "" if lineage.as_of is None else f" before {moment(lineage.as_of, clock)}"
    text = f"tuned on {lineage.events:,} events{until}, all of them known at each of {len(folds)} cuts"
    return Finding("encoder", OK, text, numbers)


def check_ties(whole: Interactions, judged: Fold) -> Finding:
    """Count events of one user at one moment, whose order is only that of the file."""
    numbers = count_ties(whole, judged)
    text = f"{numbers['events']:.1%} of the events share their moment with another event of their user"
    if numbers["edge_users"]:
        text += (
            f"; for {numbers['edge_users']:,} users ({numbers['edge']:.1%}) the first label shares it with the newest "
            "known event: only the order of the file says which came first"
        )
    return Finding("ties", WARN if numbers["edge_users"] else OK, text, numbers)


def rerun(plan: Plan, whole: Interactions, embeddings: Embeddings, as_of: int | None, number: int,
          progress: Progress) -> Iterator[Finding]:  # fmt: skip
    """Fit again over another future and under other row numbers, at the last of `number` cuts, and compare."""
    rng = np.random.default_rng(plan.seed)
    steps = 4
    progress("audit", 0, steps)
    original = Rerun.of(plan, whole, embeddings, as_of, number)
    users = original.fold.labelled_users
    users = np.sort(rng.choice(users, min(USERS, len(users)), replace=False))
    pairs = propose(original, users)
    progress("audit", 1, steps)
    tampered = replace_future(whole, original.fold, users, pairs, len(embeddings.items), rng)
    other = Rerun.of(plan, tampered, embeddings, as_of, number)
    progress("audit", 2, steps)
    changed = {} if _equal(propose(other, users), pairs) else {"the candidates": 1.0}
    names = original.names(users)
    firsts = np.zeros(len(names), dtype=np.int64)
    lists: tuple[list[Lists], list[Lists]] = ([], [])
    for start, some in _starts(users):
        part = _slice(pairs, start, len(some))
        x, y = original.compute(some, part), original.labels(some, part)
        other_x, random_y = other.compute(some, part), other.labels(some, part)
        for column in np.flatnonzero((x != other_x).any(axis=0)):
            differs = float((x[:, column] != other_x[:, column]).mean())
            changed[names[column]] = max(differs, changed.get(names[column], 0.0))
        firsts += count_first_alone(part, x, y)
        for kept, label, features in zip(lists, (y, random_y), (x, other_x), strict=True):
            kept.append(Lists.sample(part, features, label, rng))
    yield _judge_future(changed, len(users))
    true_lists, shuffled_lists = map(Lists.join, lists)
    yield _judge_columns(names, firsts, len(true_lists.lengths))
    yield _judge_shuffled(plan, true_lists, shuffled_lists)
    progress("audit", 3, steps)
    few = users[:RENUMBERED_USERS]
    yield _judge_renumbered(plan, whole, original, few, _slice(pairs, 0, len(few)), as_of, number, rng)
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


def _judge_future(changed: Mapping[str, float], users: int) -> Finding:
    name, numbers = "future replaced", {"users": users, "changed": dict(changed)}
    if not changed:
        return Finding(name, OK, f"replacing every event after the cut changed no feature of {users:,} users", numbers)
    text = f"replacing the events after the cut changed {', '.join(changed)}: they use data from after the cut"
    return Finding(name, FAIL, text, numbers)


def _judge_columns(names: list[str], firsts: LongArray, lists: int) -> Finding:
    """Name the column that puts a label first most often. A retriever's score and rank count as one source."""
    share = firsts / max(lists, 1)
    best = int(np.argmax(share))
    source = [_source(name) for name in names]
    others = [float(s) for s, own in zip(share, source, strict=True) if own != source[best]]
    most, following = float(share[best]), max(others, default=0.0)
    outlier = most > TIMES_THE_NEXT * following
    status = FAIL if outlier and most > SURE_LEAK else WARN if outlier and most > LIKELY_LEAK else OK
    text = (
        f"{names[best]} alone puts a label first in {most:.1%} of {lists:,} lists, the next column in {following:.1%}"
    )
    text += "" if status == OK else "; no honest feature is that good: check whether it is computed from the label"
    return Finding("strongest column", status, text, {"column": names[best], "share": most, "next": following})


def _source(column: str) -> str:
    family, _, part = column.partition(".")
    return part if family in ("scores", "ranks") else family


def _judge_shuffled(plan: Plan, true_lists: Lists, shuffled_lists: Lists) -> Finding:
    name = "shuffled labels"
    if min(len(true_lists.lengths), len(shuffled_lists.lengths)) < 2:
        return Finding(name, WARN, "fewer than two lists hold a label, which is too few to learn and judge")
    true, true_chance = fit_and_judge(plan, true_lists)
    shuffled, chance = fit_and_judge(plan, shuffled_lists)
    numbers = {"shuffled": shuffled, "chance": chance, "true": true, "true_chance": true_chance}
    text = "with random labels the scorer reaches " + ", ".join(
        f"{metric} {value:.4f} (random order {chance[metric][0]:.4f} to {chance[metric][1]:.4f})"
        for metric, value in shuffled.items()
    )
    if any(not chance[metric][0] <= value <= chance[metric][1] for metric, value in shuffled.items()):
        return Finding(name, FAIL, text + ": it predicts labels that nothing before the cut can predict", numbers)
    text += f"; with the true ones {', '.join(f'{metric} {value:.4f}' for metric, value in true.items())}"
    if all(value <= true_chance[metric][1] for metric, value in true.items()):
        return Finding(name, WARN, text + ", which is no better than random order: this check shows nothing", numbers)
    return Finding(name, OK, text, numbers)


def _judge_renumbered(plan: Plan, whole: Interactions, original: Rerun, users: LongArray, pairs: Candidates,
                      as_of: int | None, number: int, rng: np.random.Generator) -> Finding:  # fmt: skip
    """Compare the features with those of a run in which every item and user has another row number and id.

    Values that are 0 in both runs are not compared. Ties at the depth of a retriever are broken by row, so `found_by`
    may differ. A retriever that is trained from random numbers gives other values, but they must still correlate: a
    column fails where few values are equal and the two runs hardly correlate.
    """
    renumbering = Renumbering.sample(len(original.embeddings.items), whole.n_users, rng)
    other = Rerun.of(plan, renumbering.interactions(whole), renumbering.embeddings(original.embeddings), as_of, number)
    moved, order = renumbering.pairs(pairs)
    x = original.compute(users, pairs)
    again = np.empty_like(x)
    again[order] = other.compute(renumbering.user[users], moved)
    compared = (x != 0) | (again != 0)
    equal = np.isclose(x, again, rtol=1e-3, atol=1e-4)
    share = (equal & compared).sum(axis=0) / np.maximum(compared.sum(axis=0), 1)
    share = np.where(compared.any(axis=0), share, 1.0)
    names = original.names(users)
    rising = np.argsort(share, kind="stable")
    low = {names[column]: float(share[column]) for column in rising if share[column] < SAME}
    unlike = []
    for column in rising[share[rising] < DIFFERENT]:
        some = compared[:, column]
        if _correlation(x[some, column], again[some, column]) < CORRELATED:
            unlike.append(column)
    status = FAIL if unlike else WARN if low else OK
    text = f"under other row numbers and ids {share.mean():.2%} of the features' values are the same"
    if low:
        lowest = list(low.items())[:EXAMPLES_IN_TEXT]
        text += f"; least in {', '.join(f'{name} {value:.1%}' for name, value in lowest)}"
    if unlike:
        text += f": {', '.join(names[column] for column in unlike)} depend on the order of the catalogue"
    return Finding("row numbers", status, text, {"same": float(share.mean()), "columns": low})


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson's correlation; 0 where one of the two does not vary."""
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


def check_near_duplicates(whole: Interactions, judged: Fold, embeddings: Embeddings,
                          texts: list[str]) -> Iterator[Finding]:  # fmt: skip
    """List items first seen after the cut whose text is near one from before it, and near duplicates among all."""
    n_items = len(embeddings.items)
    known = np.bincount(judged.known.item, minlength=n_items) > 0
    new = np.flatnonzero((np.bincount(whole.item, minlength=n_items) > 0) & ~known)
    yield _near_duplicates("near duplicates across the cut", "items first seen after the cut", embeddings, texts,
                           new, np.flatnonzero(known))  # fmt: skip
    everything = np.arange(n_items)
    yield _near_duplicates("near duplicates", "items", embeddings, texts, everything, everything)


def _near_duplicates(name: str, noun: str, embeddings: Embeddings, texts: list[str],
                     items: LongArray, others: LongArray) -> Finding:  # fmt: skip
    sample = items[np.linspace(0, len(items) - 1, min(len(items), SEARCHED)).astype(np.int64)]
    row, cosine = nearest_other(embeddings.items, sample, others)
    near = np.flatnonzero(cosine >= NEAR_DUPLICATE)
    ids, titles = embeddings.catalog.ids, embeddings.catalog.titles
    examples = [
        {"item_id": ids[int(sample[place])], "title": titles[sample[place]], "like": ids[int(row[place])],
         "like_title": titles[row[place]], "cosine": round(float(cosine[place]), 4)}
        for place in near[:EXAMPLES_IN_NUMBERS]
    ]  # fmt: skip
    same = sum(texts[sample[place]] == texts[row[place]] for place in near)
    text = (f"{len(near):,} of {len(sample):,} {noun} have a text within cosine {NEAR_DUPLICATE} of another's, "
            f"{same:,} the same")  # fmt: skip
    if len(sample) < len(items):
        text += f" (a sample of {len(items):,})"
    text += "".join(f"; {one['item_id']} {one['title']!r} ~ {one['like']} {one['like_title']!r}"
                    for one in examples[:EXAMPLES_IN_TEXT])  # fmt: skip
    numbers = {"items": len(near), "same_text": same, "looked_at": len(sample), "first": examples}
    return Finding(name, WARN if len(near) else OK, text, numbers)


def nearest_other(vectors: FloatArray, items: LongArray, others: LongArray) -> tuple[LongArray, FloatArray]:
    """Find the nearest other item of each item by exact search, in blocks: nothing of size items x items.

    Args:
        vectors: Unit rows `(I, d)`.
        items: The rows to look up `(n,)`.
        others: The rows to search in `(m,)`.

    Returns:
        For each item the row of the nearest one that is not itself, and the cosine: `(n,)` each, -1 for none.
    """
    nearest, cosine = np.full(len(items), -1, dtype=np.int64), np.full(len(items), -1, dtype=np.float32)
    if not len(others):
        return nearest, cosine
    index = Index.build(vectors[others])
    for start in range(0, len(items), SEARCH_BLOCK):
        block = items[start : start + SEARCH_BLOCK]
        found, score = index.search(vectors[block], 2)
        rows = others[found]
        other = rows != block[:, None]
        place = (np.arange(len(block)), np.argmax(other, axis=1))
        has = other.any(axis=1)
        nearest[start : start + len(block)] = np.where(has, rows[place], -1)
        cosine[start : start + len(block)] = np.where(has, score[place], -1)
    return nearest, cosine


def check_repeats(judged: Fold, seen: str) -> Finding:
    """Count the targets that are items their user had before the cut."""
    n_items = int(max(judged.known.item.max(), judged.labels.item.max())) + 1
    targets = np.unique(pair_keys(judged.labels.user, judged.labels.item, n_items))
    had = np.unique(pair_keys(judged.known.user, judged.known.item, n_items))
    again = int((find_keys(had, targets) >= 0).sum())
    text = f"{again:,} of {len(targets):,} targets ({again / len(targets):.1%}) are items that their user had before: "
    text += "lists may hold them" if seen == "keep" else "rules.seen drops them, so nobody is judged by them"
    return Finding("repeat targets", OK, text, {"targets": len(targets), "repeats": again, "seen": seen})


def check_twin_users(known: Interactions) -> Finding:
    """Count users with exactly the events of another, at the same moments: one may reveal the other's next event."""
    users = np.flatnonzero(np.diff(known.offsets) >= TWIN_EVENTS)
    rows = np.diff(known.offsets)[known.user] >= TWIN_EVENTS
    events = pl.DataFrame({"user": known.user[rows], "item": known.item[rows], "time": known.time[rows]})
    histories = events.group_by("user").agg(pl.format("{}@{}", "item", "time").sort().str.join(" ").alias("events"))
    count = int(histories["events"].is_duplicated().sum())
    share = count / max(len(users), 1)
    text = f"{count:,} of {len(users):,} users ({share:.1%}) have exactly the events of another"
    return Finding("twin users", WARN if count else OK, text, {"users": count, "share": share})
