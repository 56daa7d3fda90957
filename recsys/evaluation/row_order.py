"""How much of a result hangs on the order of rows, where a log does not say which event came first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys.evaluation.metrics import ndcg
from recsys.ragged import owners_of, places_of
from recsys.retrieval.base import top_unblocked
from recsys.retrieval.candidates import seen_keys
from recsys.retrieval.covisitation import Covisitation, covisitation_matrix
from recsys.retrieval.item_to_item import FittedItemToItem
from recsys.tables.split import Fold, Split, holdout, next_moments, shuffle_events
from recsys.types import Interactions

USERS = 20_000  # at most; what hangs on order shows in a sample
K = 10
ORDER_KEEPS = 0.9  # of co-visitation's ndcg, from which on shuffled rows change little


def count_ties(whole: Interactions, judged: Fold) -> dict[str, Any]:
    """Count events of one user at one moment, whose order is only that of the file.

    Args:
        whole: The log.
        judged: A cut of it.

    Returns:
        `events`: the share of the events that share their moment with another of their user; `edge_users` and `edge`:
        how many users, and which share of those with a history, have their first label at the moment of their newest
        known event.
    """
    equal = (whole.user[1:] == whole.user[:-1]) & (whole.time[1:] == whole.time[:-1])
    events = float((np.append(False, equal) | np.append(equal, False)).mean())
    first = np.full(whole.n_users, np.iinfo(np.int64).max)
    np.minimum.at(first, judged.labels.user, judged.labels.time)
    users = judged.labelled_users
    users = users[np.diff(judged.known.offsets)[users] > 0]
    edge = next_moments(judged.known)[users] - 1 == first[users]
    share = float(edge.mean()) if len(edge) else 0.0
    return {"events": events, "edge_users": int(edge.sum()), "edge": share}


def measure_row_order(whole: Interactions, judged: Fold, split: Split, clock: str, n_items: int, drop_seen: bool,
                      seed: int) -> dict[str, Any]:  # fmt: skip
    """Judge co-visitation, a model of order, on the log as it stands and with the rows shuffled that no time orders.

    Args:
        whole: The log up to the labels of the cut.
        judged: The cut.
        split: How the log is cut.
        clock: `time` or `order`, as in the config of the data. Under `order` all rows of a user are shuffled,
            otherwise those of one moment.
        n_items: Items in the catalogue.
        drop_seen: Whether lists leave out what the user already had.
        seed: Of the order that is drawn.

    Returns:
        `clock`, the counts of `count_ties`, the number of `users` that were ranked, and co-visitation's ndcg@10,
        `as_it_stands` and `shuffled`. Empty where the order of rows decides no label: a cut in time, a random holdout,
        or no user with a label at the moment of the newest known event.
    """
    if split.kind != "leave_last_out":
        return {}
    ties = count_ties(whole, judged)
    if clock == "time" and not ties["edge_users"]:
        return {}
    users = judged.labelled_users
    users = np.sort(np.random.default_rng(seed).choice(users, min(USERS, len(users)), replace=False))
    some = whole.take(np.isin(whole.user, users))
    shuffled = shuffle_events(some, seed, ties_only=clock == "time")
    return {
        "clock": clock,
        **ties,
        "users": len(users),
        "as_it_stands": _ndcg_of_covisitation(holdout(some, split), n_items, drop_seen),
        "shuffled": _ndcg_of_covisitation(holdout(shuffled, split), n_items, drop_seen),
    }


def _ndcg_of_covisitation(fold: Fold, n_items: int, drop_seen: bool) -> float:
    model = Covisitation()
    matrix = covisitation_matrix(fold.known, n_items, model.window, model.backward, model.neighbours)
    fitted = FittedItemToItem.from_matrix(matrix, model.decay, model.newest)
    users = fold.labelled_users
    histories = fold.histories(users)
    blocked = seen_keys(histories, n_items) if drop_seen else np.zeros(0, dtype=np.int64)
    found = top_unblocked(fitted.ask(histories), K, blocked, n_items)
    hits = np.zeros((len(users), K), dtype=bool)
    label = np.zeros(fold.labels.n_users, dtype=np.int64)
    label[fold.labels.user] = fold.labels.item  # one a user
    owner = owners_of(found.offsets)
    hits[owner, places_of(found.offsets)] = found.item == label[users][owner]
    return float(ndcg(hits, np.ones(len(users), dtype=np.int64), K).mean())


def describe_row_order(measured: Mapping[str, Any]) -> str:
    """Say in words what `measure_row_order` found, and what to do."""
    if measured["clock"] == "order":
        text = "The log has no times: the order of its rows decides which event of a user is held out. "
        changed = "each user's rows shuffled"
    else:
        text = (
            f"For {measured['edge_users']:,} users ({measured['edge']:.1%}) the event held out has the moment of the "
            "newest known one: the order of the file decides which came first. "
        )
        changed = "the rows of one moment shuffled"
    text += (
        f"Co-visitation alone reaches ndcg@10 {measured['as_it_stands']:.4f} with the rows as they stand, "
        f"{measured['shuffled']:.4f} with {changed}"
    )
    if measured["shuffled"] >= ORDER_KEEPS * measured["as_it_stands"]:
        return f"{text}: little hangs on it."
    advice = {
        "order": "; judge by `split: {kind: random}` unless the rows were written as events happened.",
        "time": "; judge by `split: {kind: time}` unless the rows of one moment were written as events happened.",
    }
    return text + advice[measured["clock"]]
