"""Who was shown what: the log from which the next training learns what a click or its absence means.

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
    """Appends to a file of its own below `folder`, and begins another one when that holds 64 MB.

    A line is written whole and flushed before the answer leaves; a machine that dies may cut the last line, which
    ingest then refuses as that one row. Threads may share a log.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = Lock()
        self._file: IO[str] | None = None

    def write(self, answer: dict[str, Any], propensity: Sequence[float]) -> None:
        """Write down an answer as `Recommendations.to_dict` gives it. Raises `OSError` where the disk is full."""
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
        """Close the file; the next line begins another one."""
        if self._file is not None:
            self._file.close()
            self._file = None


def shuffled(score: Sequence[float], fixed: int, temperature: float, rng: np.random.Generator,
             ) -> tuple[list[int], list[float]]:  # fmt: skip
    """Draw an order of a list from the Plackett-Luce model of its scores (Plackett 1975).

    Returns the places `(n,)` in their new order, and the chance of each to stand there given those before it. The
    first `fixed` places stay. At temperature 0 nothing moves, and every chance is 1.
    """
    n = len(score)
    if temperature <= 0 or n - fixed < 2:
        return list(range(n)), [1.0] * n
    logit = np.asarray(score[fixed:], dtype=np.float64) / temperature
    order = np.argsort(-(logit + rng.gumbel(size=len(logit))))
    odds = np.exp(logit[order] - logit.max())
    chance = odds / np.cumsum(odds[::-1])[::-1]
    return [*range(fixed), *(order + fixed).tolist()], [1.0] * fixed + chance.tolist()
