"""The session of a request beside what the bundle knows already: every event counts once, whichever version answers.

A client sends its whole session with each request. A version that was trained meanwhile knows the beginning of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import FloatArray, LongArray, Rows
from recsys.types import DAY, Histories

UNITS = (DAY, DAY // 24, DAY // 24 // 60, 1_000_000, 1000)  # microseconds: a day, an hour, a minute, a second, a ms
SAMPLE = 4096


@dataclass(frozen=True)
class LogClock:
    """How finely a log writes its times: in steps of `unit` from `phase`, microseconds.

    A client says 10:00:05.4 of an event that a log of whole seconds has at 10:00:05.
    """

    unit: int
    phase: int

    @classmethod
    def of(cls, histories: Histories, ordered: bool) -> LogClock:
        """Find the clock of a log in a sample of its times; `ordered` says that these are no times."""
        time = histories.time
        some = np.asarray(time[:: max(1, len(time) // SAMPLE)], dtype=np.int64)
        if ordered or len(np.unique(some)) < 2:
            return cls(1, 0)
        step = int(np.gcd.reduce(some - some[0]))
        unit = next((unit for unit in UNITS if step % unit == 0), 1)
        return cls(unit, int(some[0]) % unit)

    def as_written(self, time: LongArray) -> LongArray:
        """Return times `(n,)` as the log would have them."""
        return (time - self.phase) // self.unit * self.unit + self.phase


def join_session(known: Histories, items: LongArray, time: LongArray | None, weight: FloatArray,
                 clock: LogClock) -> Histories:  # fmt: skip
    """Add the events of a session to what is known of its user, but for those that are known already.

    With times, an event is known that has the item and the time, as the log writes it, of a known one; others take
    their place by time. Without times, the known events are the longest beginning of the session that is the end of
    the history; the rest happened after `as_of`.

    Args:
        known: The history of one user.
        items: The row of each event, oldest first `(n,)`; -1 for one to leave out.
        time: The time of each `(n,)`; None where the session has none.
        weight: What each counts `(n,)`.
        clock: How finely the log writes its times.

    Returns:
        The history with the further events; its present is just after the last of them.
    """
    new = items >= 0
    if time is None:
        rows = np.flatnonzero(new)
        new[rows[: _overlap(known.item, items[rows])]] = False
        time = int(known.as_of[0]) + np.arange(len(items))
    else:
        written = np.stack([items, clock.as_written(time)], axis=1)
        had = set(zip(known.item.tolist(), clock.as_written(known.time).tolist(), strict=True))
        new &= np.array([(item, moment) not in had for item, moment in written.tolist()], dtype=bool)
    if not new.any():
        return known
    time = np.concatenate([known.time, time[new]])
    order = np.argsort(time, kind="stable")
    item = np.concatenate([known.item, items[new].astype(np.int32)])[order]
    weights = np.concatenate([known.weight, weight[new]])[order]
    as_of = np.array([max(int(known.as_of[0]), int(time[order[-1]]) + 1)])
    return Histories(known.user, np.array([0, len(item)]), item, time[order], weights, as_of, known.text_vectors)


def _overlap(known: Rows, session: Rows) -> int:
    """Return the length of the longest beginning of a session that is the end of a history.

    Linear in the session: the failure function of Knuth, Morris and Pratt (1977).
    """
    text = session.tolist()
    tail = known[max(0, len(known) - len(text)) :].tolist()
    border, fail = 0, [0] * len(text)
    for place in range(1, len(text)):
        while border and text[place] != text[border]:
            border = fail[border - 1]
        border += text[place] == text[border]
        fail[place] = border
    matched = 0
    for item in tail:
        while matched and (matched == len(text) or text[matched] != item):
            matched = fail[matched - 1]
        matched += bool(text) and text[matched] == item
    return matched
