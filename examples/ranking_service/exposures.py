"""The exposure log: which user was shown which item. Training needs it to read a missing click.

One JSON line an item shown: `timestamp` (UTC), `event` (always `exposure`), `user_id`, `item_id`, `request_id`,
`rank` (from 1), `propensity` and `model_version`. A config reads it beside the shop's own logs:

    interactions:
      source: jsonl
      path: [logs/orders.jsonl, logs/exposures]
      events: {purchase: 3}          # exposures are counted, and left out ...
      # events: {purchase: 3, exposure: 0.1}    # ... or a weak sign of interest

`propensity` is the chance that the item stood at its rank, given those above it: 1 where nothing is random.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

MOST_BYTES = 64 << 20


class ExposureLog:
    """Appends to its own file below `folder`, and starts a new one at 64 MB.

    A line is written whole and flushed before the answer leaves. A machine that dies may cut the last line; ingest then
    refuses that one row. Threads may share a log.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = Lock()
        self._file: IO[str] | None = None

    def write(self, answer: dict[str, Any], propensity: Sequence[float]) -> None:
        """Log an answer in the form of `Recommendations.to_dict`. Raises `OSError` where the disk is full."""
        shared = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": "exposure",
            "user_id": answer["user_id"],
            "request_id": answer["request_id"],
            "model_version": answer["model_version"],
        }
        lines = [
            json.dumps(shared | {"item_id": item["item_id"], "rank": rank, "propensity": round(float(chance), 6)})
            for rank, (item, chance) in enumerate(zip(answer["items"], propensity, strict=True), start=1)
        ]
        with self._lock:
            if self._file is None or self._file.tell() > MOST_BYTES:
                self.close()
                name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
                self._file = (self._folder / name).open("a", encoding="utf-8")
            self._file.write("".join(line + "\n" for line in lines))
            self._file.flush()

    def close(self) -> None:
        """Close the file; the next line starts a new one."""
        if self._file is not None:
            self._file.close()
            self._file = None


def shuffled(score: Sequence[float], fixed: int, temperature: float, rng: np.random.Generator,
             ) -> tuple[list[int], list[float]]:  # fmt: skip
    """Draw an order of a list from the Plackett-Luce model of its scores (Plackett 1975).

    Args:
        score: Scores `(n,)` of the list.
        fixed: How many places at the top stay.
        temperature: In units of the score; at 0 nothing moves, and every chance is 1.
        rng: Where randomness comes from.

    Returns:
        The old places `(n,)` in their new order, and the chance of each at its place, given those before it.
    """
    n = len(score)
    if temperature <= 0 or n - fixed < 2:
        return list(range(n)), [1.0] * n
    logit = np.asarray(score[fixed:], dtype=np.float64) / temperature
    order = np.argsort(-(logit + rng.gumbel(size=len(logit))))
    odds = np.exp(logit[order] - logit.max())
    chance = odds / np.cumsum(odds[::-1])[::-1]
    return [*range(fixed), *(order + fixed).tolist()], [1.0] * fixed + chance.tolist()
